import Calibration
import Conversion
import Evaluation
import Files
import Foundation
import JSON
import Models
import PackedModel

/// Quantizes a small model with several methods and measures what each loses on text.
package struct MethodComparison: Sendable {
  package struct Row: Sendable {
    /// Nil: the model as it was.
    package var method: QuantizationRecipe.Method?
    /// Of the packed file.
    package var byteCount: Int
    /// On each text.
    package var perplexities: [Double]
    /// Mean KL divergence from the original in nats, over all texts; nil for the original itself.
    package var meanKL: Double?
    /// Share of tokens whose most likely one is the original's.
    package var top1Agreement: Double?
    package var seconds: Double?
  }
  package struct Result: Sendable {
    package var rows: [Row]
    package var seconds: Double
  }

  package var modelPath: String
  package var calibrationPath: String
  package var textPaths: [String]
  package var methods: [QuantizationRecipe.Method]
  /// Where files are made that nobody needs afterwards.
  package var workFolder: String
  package var tool: QuantizationJob.ToolIdentity

  private static let windowing = WindowProtocol(length: 256, maximumWindows: 40)

  package init(
    modelPath: String, calibrationPath: String, textPaths: [String],
    methods: [QuantizationRecipe.Method] = [.rtn, .gptq], workFolder: String,
    tool: QuantizationJob.ToolIdentity
  ) {
    self.modelPath = modelPath
    self.calibrationPath = calibrationPath
    self.textPaths = textPaths
    self.methods = methods
    self.workFolder = workFolder
    self.tool = tool
  }

  /// - Throws: ``QuantizationError/damagedOutput(problems:)`` when a file it made does not pass its checks.
  package func run(observer: any QuantizationObserver = NoObserver()) throws -> Result {
    let start = Date()
    let original = "\(workFolder)/original.zhinao"
    try ModelPacker(ModelContents(OpenedModel(path: modelPath))).write(
      to: original, generator: tool.generator, provenance: JSONObject())
    var rows = [try measure(nil, path: original, original: original, seconds: nil)]
    for method in methods {
      let path = "\(workFolder)/\(method.rawValue).zhinao"
      let result = try QuantizationJob(
        modelPath: modelPath, recipe: QuantizationRecipe(method: method),
        calibrationFiles: [CalibrationFile(calibrationPath)],
        outputs: QuantizationJob.Outputs(packed: path, overwrites: true), tool: tool
      ).run(observer: observer)
      let problems = try PackedModelFile(path: path).problems()
      guard problems.isEmpty else { throw QuantizationError.damagedOutput(problems: problems) }
      rows.append(try measure(method, path: path, original: original, seconds: result.seconds))
    }
    return Result(rows: rows, seconds: Date().timeIntervalSince(start))
  }

  private func measure(
    _ method: QuantizationRecipe.Method?, path: String, original: String, seconds: Double?
  ) throws -> Row {
    let (model, reference) = (try OpenedModel(path: path), try OpenedModel(path: original))
    let tokenizer = try model.tokenizer()
    let comparisons = try textPaths.map { text in
      try Comparison.measure(
        reference: reference.decoder(), candidate: model.decoder(),
        ids: EvaluationText.ids(textFile: text, tokenizer: tokenizer),
        protocol: MethodComparison.windowing)
    }
    func mean(_ value: (Comparison) -> Double) -> Double? {
      method == nil ? nil : comparisons.reduce(0) { $0 + value($1) } / Double(comparisons.count)
    }
    return Row(
      method: method, byteCount: try MappedFile(path: path).byteCount,
      perplexities: comparisons.map(\.candidate), meanKL: mean(\.meanKL),
      top1Agreement: mean(\.top1Agreement),
      seconds: seconds)
  }
}
