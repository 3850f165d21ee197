import Calibration
import Conversion
import Evaluation
import Files
import Foundation
import JSON
import Models
import PackedModel
import Quantization
import ToolSupport

/// Quantizes the small trained model inside this program, both ways, and shows what each loses.
struct Demo {
  private struct Row {
    var name: String
    var bytes: Int
    var chinese: Double
    var english: Double
    var kl: Double?
    var top1: Double?
    var seconds: Double?
  }

  func run(json: Bool) throws {
    guard let folder = Bundle.module.path(forResource: "tiny-zhinao", ofType: nil) else {
      throw FileError(
        .cannotOpen, path: "tiny-zhinao",
        detail: "the demo's model is not beside the program; build it with swift build")
    }
    let work = FileManager.default.temporaryDirectory.appendingPathComponent("zhinao-demo-\(getpid())").path
    PendingOutputs.register(work)
    defer { PendingOutputs.discardRegistered(work) }
    do { try FileManager.default.createDirectory(atPath: work, withIntermediateDirectories: true) } catch {
      throw FileError(.cannotWrite, path: work, detail: "cannot create: \(error.localizedDescription)")
    }
    let start = Date()
    if !json {
      try Output.print(
        "tiny-zhinao: 4 layers, hidden 256, trained on classic novels; 4 bits, groups of 128, symmetric\n")
    }
    let source = try OpenedModel(path: folder)
    let full = "\(work)/bf16.zhinao"
    try ModelPacker(ModelContents(source)).write(
      to: full, generator: ToolVersion.generator, provenance: JSONObject())
    var rows = [try measure("bf16", path: full, reference: full, seconds: nil)]
    for method in [QuantizationRecipe.Method.rtn, .gptq] {
      let path = "\(work)/\(method.rawValue).zhinao"
      let began = Date()
      let job = QuantizationJob(
        modelPath: folder, recipe: QuantizationRecipe(method: method),
        calibrationPaths: ["\(folder)/calibration.jsonl"], calibrationOptions: CalibrationOptions(),
        outputs: QuantizationJob.Outputs(
          packed: path, folder: nil, format: nil, shardByteLimit: .max, overwrite: true))
      _ = try job.run()
      rows.append(
        try measure(
          method == .rtn ? "round to nearest" : "GPTQ", path: path, reference: full,
          seconds: Date().timeIntervalSince(began)))
    }
    let seconds = Date().timeIntervalSince(start)
    let problems = try ["rtn", "gptq"].flatMap {
      try PackedModelFile(path: "\(work)/\($0).zhinao").problems()
    }
    try show(rows, seconds: seconds, problems: problems, json: json)
    guard problems.isEmpty else {
      throw QuantizationError("a file of the demo is damaged", category: .internalFault)
    }
  }

  private func measure(_ name: String, path: String, reference: String, seconds: Double?) throws -> Row {
    let folder = Bundle.module.path(forResource: "tiny-zhinao", ofType: nil) ?? ""
    let (model, original) = (try OpenedModel(path: path), try OpenedModel(path: reference))
    let tokenizer = try model.tokenizer()
    let windowing = WindowProtocol(length: 256, maximumWindows: 40)
    func compare(_ language: String) throws -> Comparison {
      let ids = try EvaluationText.ids(textFile: "\(folder)/eval.\(language).txt", tokenizer: tokenizer)
      return try Comparison.measure(
        reference: original.decoder(), candidate: model.decoder(), ids: ids, protocol: windowing)
    }
    let (zh, en) = (try compare("zh"), try compare("en"))
    let isReference = path == reference
    return Row(
      name: name, bytes: try MappedFile(path: path).byteCount, chinese: zh.candidate, english: en.candidate,
      kl: isReference ? nil : (zh.meanKL + en.meanKL) / 2,
      top1: isReference ? nil : (zh.top1Agreement + en.top1Agreement) / 2, seconds: seconds)
  }

  private func show(_ rows: [Row], seconds: Double, problems: [String], json: Bool) throws {
    if json {
      let value: JSONValue = [
        "rows": .array(
          rows.map {
            [
              "name": .string($0.name), "bytes": .init($0.bytes), "perplexity_zh": .init($0.chinese),
              "perplexity_en": .init($0.english), "mean_kl": $0.kl.map { .init($0) } ?? nil,
              "top1_agreement": $0.top1.map { .init($0) } ?? nil,
              "seconds": $0.seconds.map { .init($0) } ?? nil,
            ]
          }), "seconds": .init(seconds), "intact": .bool(problems.isEmpty),
      ]
      return try Output.print(value.serialized(indent: 2))
    }
    func cell(_ value: Double?, _ digits: Int) -> String {
      value.map { Format.number($0, digits: digits) } ?? ""
    }
    try Output.print(
      Format.table(
        [["weights", "size", "perplexity zh", "perplexity en", "KL", "same first token", "time"]]
          + rows.map {
            [
              $0.name, Format.number(Double($0.bytes) / 1e6, digits: 2) + " MB", cell($0.chinese, 2),
              cell($0.english, 2),
              cell($0.kl, 4), $0.top1.map { Format.number($0 * 100, digits: 1) + " %" } ?? "",
              $0.seconds.map(Format.duration) ?? "",
            ]
          }))
    try Output.print(
      "\nEmbedding and head stay bf16, which is most of so small a model. Both files verified: "
        + "\(problems.isEmpty ? "every checksum right" : problems.joined(separator: "; ")). \(Format.duration(seconds)) in all."
    )
  }
}
