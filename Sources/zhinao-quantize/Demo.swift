import DemoModels
import Files
import Foundation
import JSON
import Quantization
import ToolSupport

/// Quantizes the small trained model inside this program, both ways, and shows what each loses.
struct Demo {
  func run(_ output: OutputOptions) throws {
    let folder = try DemoModels.folder(DemoModels.decoder)
    let work = FileManager.default.temporaryDirectory.appendingPathComponent("zhinao-demo-\(getpid())").path
    PendingOutputs.register(work)
    defer { PendingOutputs.discardRegistered(work) }
    do { try FileManager.default.createDirectory(atPath: work, withIntermediateDirectories: true) } catch {
      throw FileError(.cannotWrite, path: work, detail: "cannot create: \(error.localizedDescription)")
    }
    if !output.json {
      try Output.print(
        "tiny-zhinao: 4 layers, hidden 256, trained on classic novels; 4 bits, groups of 128, symmetric\n")
    }
    let result = try MethodComparison(
      modelPath: folder, calibrationPath: "\(folder)/calibration.jsonl",
      textPaths: ["zh", "en"].map { "\(folder)/eval.\($0).txt" }, workFolder: work, tool: .thisTool
    ).run(observer: QuantizationProgress())
    try output.show(json(result)) { text(result) }
  }

  private func name(_ row: MethodComparison.Row) -> String {
    switch row.method {
    case nil: "bf16"
    case .rtn: "round-to-nearest"
    case .gptq: "GPTQ"
    }
  }

  private func json(_ result: MethodComparison.Result) -> JSONValue {
    [
      "rows": .array(
        result.rows.map { row in
          [
            "name": .string(name(row)), "bytes": .init(row.byteCount),
            "perplexity_zh": .init(row.perplexities[0]), "perplexity_en": .init(row.perplexities[1]),
            "mean_kl": row.meanKL.map { .init($0) } ?? nil,
            "top1_agreement": row.top1Agreement.map { .init($0) } ?? nil,
            "seconds": row.seconds.map { .init($0) } ?? nil,
          ]
        }), "seconds": .init(result.seconds), "intact": true,
    ]
  }

  private func text(_ result: MethodComparison.Result) -> String {
    let header = ["weights", "size", "perplexity zh", "perplexity en", "KL", "top-1 agreement", "time"]
    let rows = result.rows.map { row in
      [
        name(row), Format.number(Double(row.byteCount) / 1e6, digits: 2) + " MB",
        Format.number(row.perplexities[0], digits: 2), Format.number(row.perplexities[1], digits: 2),
        row.meanKL.map { Format.number($0, digits: 4) } ?? "",
        row.top1Agreement.map { Format.number($0 * 100, digits: 1) + " %" } ?? "",
        row.seconds.map(Format.duration) ?? "",
      ]
    }
    return Format.table([header] + rows)
      + "\n\nEmbedding and head stay bf16, which is most of so small a model. Both files verified: every checksum right. "
      + "\(Format.duration(result.seconds)) in all."
  }
}
