import Calibration
import Files
import Foundation
import JSON
import Quantization
import Synchronization
import ToolSupport

/// What a quantization prints at its end.
enum QuantizationText {
  static func json(
    _ result: QuantizationJob.Result, times: [RankTimes], digests: [(path: String, sha256: String)]
  ) -> JSONValue {
    var json = JSONObject(result.written.map { ($0.output.rawValue, .string($0.path)) })
    json["modules"] = .init(result.report.modules.count)
    json["resumed_layers"] = .init(result.resumedLayers)
    json["total_loss"] = .init(result.report.totalLoss)
    json["seconds"] = .init(result.seconds)
    if !times.isEmpty { json["ranks"] = .array(times.map(Self.json)) }
    if let precision = result.report.precision { json["precision"] = precision.json }
    if !digests.isEmpty { json["sha256"] = DigestOptions.json(digests) }
    json["diagnosis"] = QuantizationReport.json(result.report.diagnosis)
    json["warnings"] = .array(result.report.warnings.map { .string($0) })
    return .object(json)
  }

  private static func json(_ times: RankTimes) -> JSONValue {
    .object(
      JSONObject(
        QuantizationPhase.allCases.map { phase in
          (
            phase.name,
            ["seconds": .init(times.seconds[phase.rawValue]), "waited": .init(times.waited[phase.rawValue])]
          )
        }))
  }

  /// How much of its time each rank waited.
  static func line(_ times: [RankTimes]) -> String {
    "ranks waited for each other and the network "
      + times.map {
        String(format: "%.0f %%", 100 * $0.waited.reduce(0, +) / max(1e-9, $0.seconds.reduce(0, +)))
      }
      .joined(separator: ", ") + " of the time"
  }

  static func lines(_ result: QuantizationJob.Result) -> String {
    let recipe = result.report.recipe
    return result.written.map(\.path).joined(separator: "\n")
      + "\n\(result.report.modules.count) modules quantized to \(bits(result.report)) with \(recipe.method.rawValue) in "
      + Format.duration(result.seconds) + (result.report.precision.map { "\n\n" + table($0) } ?? "")
      + attention(result.report.diagnosis)
  }

  private static func bits(_ report: QuantizationReport) -> String {
    guard let best = report.precision?.best else { return "\(report.recipe.bits) bits" }
    return String(format: "%.3f bits per weight", best.bitsPerWeight)
  }

  /// The rounds of a choice of bits, and how often each choice was made.
  private static func table(_ precision: PrecisionReport) -> String {
    var lines = ["round  bits per weight  predicted KL  measured KL"]
    for (number, round) in precision.rounds.enumerated() {
      lines.append(
        String(
          format: "%5d  %15.3f  %12.4f  %11.4f", number + 1, round.bitsPerWeight, round.predicted,
          round.measured)
          + (number == precision.chosen ? "  written" : ""))
    }
    let counts = zip(precision.target.candidates, precision.itemCounts)
      .filter { $0.1 > 0 }.map { "\($0.0.bits) bits in groups of \($0.0.groupSize): \($0.1)" }
    lines.append("stages of layers with \(counts.joined(separator: ", "))")
    let gap = precision.best.gap
    if gap > 0 {
      lines.append("the choice may be \(gap) above the best, as the model is too large for an exact one")
    }
    return lines.joined(separator: "\n")
  }

  static func line(_ round: PrecisionRound, number: Int) -> String {
    String(
      format: "round %d: %.3f bits per weight, predicted KL %.4f", number, round.bitsPerWeight,
      round.predicted)
      + (round.measured.isNaN ? "" : String(format: ", measured %.4f", round.measured))
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
      + ", about \(Format.duration(plan.seconds))"
      // Rounding to nearest multiplies nothing.
      + (plan.flopsPerSecond > 1
        ? String(format: " with products of %.0f GFLOP/s", plan.flopsPerSecond / 1e9) : "")
      + (plan.sensitivitySeconds > 0
        ? " (\(Format.duration(plan.sensitivitySeconds)) of it for sensitivities)" : "")
      + ", output \(Format.bytes(plan.outputBytes))"
      + (plan.network.map {
        "; each of \($0.ranks) ranks sends \(Format.bytes($0.sentBytesPerLayer)) for a layer at "
          + "\(Format.bytes(Int($0.bytesPerSecond)))/s, \(Format.duration($0.seconds)) of the time"
      } ?? "")
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
  private var sensitivities = ProgressReporter("sensitivities", unit: "layers")
  private(set) var plan: QuantizationPlan?
  private(set) var times: [RankTimes] = []
  private var choosesBits = false

  func calibrationRead(_ report: CalibrationReport) {
    for source in report.sources {
      Output.remark(QuantizationText.line(source))
      if let text = QuantizationText.warning(source) { Output.warn(text) }
      if let text = QuantizationText.unused(source) { Output.remark(text) }
    }
  }

  func filesDisagree(_ discrepancies: [Discrepancy]) { Output.warn(discrepancies) }

  func templateChosen(_ note: String) { Output.warn(note) }

  func planMade(_ plan: QuantizationPlan) {
    self.plan = plan
    Output.remark(QuantizationText.line(plan))
  }

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
  func allocationOpened(at path: String, finishedLayers: Int, finishedRounds: Int) {
    sensitivities = ProgressReporter("sensitivities", unit: "layers")
    choosesBits = true
    if finishedLayers > 0 {
      Output.note(
        "continuing after the sensitivities of \(finishedLayers) layers and \(finishedRounds) rounds in \(path)"
      )
    }
    Interruption.farewell.withLock { farewell in
      farewell = {
        guard FileManager.default.fileExists(atPath: "\(path)/allocation.json") else {
          try? FileManager.default.removeItem(atPath: path)
          return nil
        }
        return "sensitivities are kept in \(path); the same command continues there"
      }
    }
  }

  func sensitivitiesFound(_ done: Int, of total: Int) { sensitivities.update(done, of: total) }

  func precisionRoundStarted(_ number: Int, _ round: PrecisionRound) {
    Output.remark(QuantizationText.line(round, number: number))
  }

  func precisionRoundMeasured(_ number: Int, _ round: PrecisionRound) {
    Output.remark(QuantizationText.line(round, number: number))
  }

  func timesMeasured(_ times: [RankTimes]) {
    self.times = times
    if times.count > 1 { Output.remark(QuantizationText.line(times)) }
  }

  func trafficCounted(sentBytesPerLayer: Int) {
    // Codes of single modules may have other lengths than the plan's.
    guard !choosesBits else { return }
    let planned = plan?.network?.sentBytesPerLayer ?? 0
    Output.remark(
      "each rank sent \(sentBytesPerLayer) bytes for a layer; the plan said \(planned)")
  }

  func stageFinished(_ done: Int, of total: Int) { stages.update(done, of: total) }

  func writing(_ output: QuantizationOutput, _ done: Int, of total: Int) {
    let reporter =
      outputs[output]
      ?? ProgressReporter(output == .folder ? "write folder" : "write", unit: "bytes")
    outputs[output] = reporter
    reporter.update(done, of: total)
  }
}
