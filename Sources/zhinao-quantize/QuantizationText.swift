import Calibration
import Files
import Foundation
import JSON
import Quantization
import Synchronization
import ToolSupport

/// What a quantization prints at its end.
enum QuantizationText {
  static func json(_ result: QuantizationJob.Result, digests: [(path: String, sha256: String)]) -> JSONValue {
    var json = JSONObject(result.written.map { ($0.output.rawValue, .string($0.path)) })
    json["modules"] = .init(result.report.modules.count)
    json["resumed_layers"] = .init(result.resumedLayers)
    json["total_loss"] = .init(result.report.totalLoss)
    json["seconds"] = .init(result.seconds)
    if !digests.isEmpty { json["sha256"] = DigestOptions.json(digests) }
    json["diagnosis"] = QuantizationReport.json(result.report.diagnosis)
    json["warnings"] = .array(result.report.warnings.map { .string($0) })
    return .object(json)
  }

  static func lines(_ result: QuantizationJob.Result) -> String {
    let recipe = result.report.recipe
    return result.written.map(\.path).joined(separator: "\n")
      + "\n\(result.report.modules.count) modules quantized to \(recipe.bits) bits with \(recipe.method.rawValue) in "
      + Format.duration(result.seconds) + attention(result.report.diagnosis)
  }

  /// The modules that need attention; empty when none does.
  private static func attention(_ diagnosis: [Diagnosis]) -> String {
    guard !diagnosis.isEmpty else { return "" }
    let shown = diagnosis.prefix(12).map { "\n  \($0.module): \($0.findings.joined(separator: "; "))" }
    let more = diagnosis.count > 12 ? "\n  … and \(diagnosis.count - 12) more in the report" : ""
    return "\n\nModules that need attention:" + shown.joined() + more
  }

  static func line(_ plan: QuantizationPlan) -> String {
    "plan: \(Format.bytes(plan.peakMemoryBytes)) of memory"
      + (plan.scratchBytes > 0 ? ", \(Format.bytes(plan.scratchBytes)) of scratch" : "")
      + ", about \(Format.duration(plan.seconds)), output \(Format.bytes(plan.outputBytes))"
  }

  static func line(_ source: CalibrationReport.Source) -> String {
    "\(source.path): \(source.records) records (\(source.kind)), \(source.tokensUsed) of \(source.tokensFound) "
      + "tokens used in \(source.windowsUsed) windows" + weight(source)
  }

  /// What a weight asked for, where the file has a weight.
  private static func weight(_ source: CalibrationReport.Source) -> String {
    guard let weight = source.weight, let wanted = source.windowsWanted else { return "" }
    let number = weight == weight.rounded() && weight < 1e9 ? "\(Int(weight))" : "\(weight)"
    return " (weight \(number)\(source.windowsUsed == wanted ? "" : ", which asks for \(wanted)"))"
  }

  /// What a person must know of the records that were left out; nil: there are none.
  static func warning(_ source: CalibrationReport.Source) -> String? {
    guard source.leftOut.count > 0 else { return nil }
    let shown = source.leftOut.reasons.prefix(8).map { "\n  \($0.count), \($0.place) first: \($0.problem)" }
    let more = source.leftOut.reasons.count > 8 ? "\n  … and for other reasons, which are in the report" : ""
    return
      "\(source.path): \(source.leftOut.count) of \(source.records + source.leftOut.count) records are left out:"
      + shown.joined() + more
  }

  /// The fields of records that were not used; nil: there are none.
  static func unused(_ source: CalibrationReport.Source) -> String? {
    guard !source.unusedFields.isEmpty else { return nil }
    let names = source.unusedFields.sorted { $0.key < $1.key }.map { "\($0.key) (\($0.value))" }
    return "\(source.path): fields that are not used: \(names.prefix(12).joined(separator: ", "))"
      + (names.count > 12 ? ", …" : "")
  }
}

/// Shows on standard error how far a quantization is, and says what is kept when it is interrupted.
final class QuantizationProgress: QuantizationObserver {
  private var stages = ProgressReporter("quantize", unit: "stages")
  private var outputs: [QuantizationOutput: ProgressReporter] = [:]
  private var statistics = ProgressReporter("backward pass", unit: "layers")

  func calibrationRead(_ report: CalibrationReport) {
    for source in report.sources {
      Output.remark(QuantizationText.line(source))
      if let text = QuantizationText.warning(source) { Output.warn(text) }
      if let text = QuantizationText.unused(source) { Output.remark(text) }
    }
  }

  func filesDisagree(_ discrepancies: [Discrepancy]) { Output.warn(discrepancies) }

  func templateChosen(_ note: String) { Output.warn(note) }

  func planMade(_ plan: QuantizationPlan) { Output.remark(QuantizationText.line(plan)) }

  func storeOpened(at path: String, finishedLayers: Int) {
    // Another job may follow the first.
    stages = ProgressReporter("quantize", unit: "stages")
    statistics = ProgressReporter("backward pass", unit: "layers")
    outputs = [:]
    if finishedLayers > 0 {
      Output.note("continuing after \(finishedLayers) finished layers in \(path)")
    }
    Interruption.farewell.withLock { farewell in
      farewell = {
        guard LayerStore.isOfUse(at: path) else {
          try? FileManager.default.removeItem(atPath: path)
          return nil
        }
        return "what is finished is kept in \(path); the same command continues there"
      }
    }
  }

  func statisticsMade(_ done: Int, of total: Int) { statistics.update(done, of: total) }

  func stageFinished(_ done: Int, of total: Int) { stages.update(done, of: total) }

  func writing(_ output: QuantizationOutput, _ done: Int, of total: Int) {
    let reporter =
      outputs[output]
      ?? ProgressReporter(output == .folder ? "write folder" : "write", unit: "bytes")
    outputs[output] = reporter
    reporter.update(done, of: total)
  }
}
