import Calibration
import Conversion
import DemoModels
import Distribution
import Files
import Foundation
import Models
import Quantization
import Reports
import Tasks
import ToolSupport

/// Runs every kind of task on small data inside this program: on the person's models, or on included ones and what 4 bits make of
/// them.
struct Demo {
  let options: RunOptions

  private static let groupSize = 32
  private static let calibrationLength = 128

  func run(_ reports: [ReportFile]) throws {
    guard let data = Bundle.module.path(forResource: "demo", ofType: nil) else {
      throw FileError(
        .cannotOpen, path: "demo",
        detail: "the data of the demo are not beside the program; build it with swift build")
    }
    let runner = EvaluationRunner(options: options, communicator: SingleProcess())
    if let model = options.model {
      let models = EvaluationRunner.named([model, options.compare].compactMap { $0 })
      return try runner.run([.init(models: models, tasks: try decoderTasks(data))], reports)
    }
    let work = FileManager.default.temporaryDirectory.appendingPathComponent("zhinao-demo-\(getpid())").path
    PendingOutputs.register(work)
    defer { PendingOutputs.discardRegistered(work) }
    do { try FileManager.default.createDirectory(atPath: work, withIntermediateDirectories: true) } catch {
      throw FileError(.cannotWrite, path: work, detail: "cannot create: \(error.localizedDescription)")
    }
    let decoder = try DemoModels.folder(DemoModels.decoder)
    let search = try DemoModels.folder(DemoModels.search)
    func pair(_ folder: String, calibration: String, _ name: String) throws -> [(name: String, path: String)]
    {
      [("bf16", folder), ("4 bits", try quantize(folder, calibration, to: "\(work)/\(name).zhinao"))]
    }
    let corpus = "\(search)/corpus.jsonl"
    try runner.run(
      [
        .init(
          models: try pair(decoder, calibration: "\(decoder)/calibration.jsonl", "decoder"),
          tasks: try decoderTasks(data)),
        .init(
          models: try pair("\(search)/encoder", calibration: corpus, "encoder"),
          tasks: [.init(name: "retrieval", path: "\(data)/retrieval")]),
        .init(
          models: try pair("\(search)/reranker", calibration: corpus, "reranker"),
          tasks: [.init(name: "reranking", path: "\(data)/reranking")]),
      ], reports,
      title: options.results.reportLanguage.choose(
        "Demo: small models in bf16 and in 4 bits", "演示：小模型的 bf16 与 4 比特对比"))
  }

  private func decoderTasks(_ data: String) throws -> [TaskArguments.Named] {
    var usual = try options.tasks.options(context: 1024)
    usual.limit = usual.limit ?? 100
    if options.tasks.shots == nil { usual.shots = 2 }
    usual.generation.maximumNewTokens = options.tasks.maxNewTokens ?? 24
    usual.generation.metrics =
      options.tasks.metrics.isEmpty ? ["contains", "edit_similarity"] : options.tasks.metrics
    if options.tasks.lengths == nil { usual.grid.lengths = [512, 768, 1024] }
    if options.tasks.depths == nil { usual.grid.depths = [0, 25, 50, 75, 100] }
    var tasks: [TaskArguments.Named] = [
      .init(name: "choices", path: "\(data)/choices", options: usual),
      .init(name: "generate", path: "\(data)/generation", options: usual),
    ]
    for (name, file) in [("needle-en", "en"), ("needle-value-zh", "zh")] {
      tasks.append(.init(name: name, path: "\(data)/haystack/\(file).txt", options: usual))
    }
    return tasks
  }

  /// - Returns: the path of the packed file.
  private func quantize(_ folder: String, _ calibration: String, to path: String) throws -> String {
    var recipe = QuantizationRecipe(method: .gptq, bits: 4, groupSize: Demo.groupSize)
    recipe.apply(.balanced)
    let result = try QuantizationJob(
      modelPath: folder, recipe: recipe, calibrationFiles: [CalibrationFile(calibration)],
      calibrationOptions: CalibrationOptions(sequenceLength: Demo.calibrationLength),
      outputs: QuantizationJob.Outputs(packed: path, overwrites: true),
      tool: QuantizationJob.ToolIdentity(generator: ToolVersion.generator, version: ToolVersion.current)
    ).run()
    for warning in result.report.warnings { Output.warn(warning) }
    return path
  }
}
