import AutoGPTQ
import Calibration
import Conversion
import Files
import Foundation
import JSON
import Models
import Quantization
import Tokenization
import ToolSupport

/// One run of the tool: read, calibrate, quantize, write.
struct QuantizationJob {
  struct Outputs {
    var packed: String?
    var folder: String?
    var format: ZeroPointFormat?
    var shardByteLimit: Int
    var headBits = 16
    var memoryLimit: Int?
    var scratch: String?
    var overwrite: Bool
  }
  var modelPath: String
  var verification = OpenedModel.Verification.header
  /// The options of `--print-digest`; nothing is digested without them.
  var digests: DigestOptions?
  var recipe: QuantizationRecipe
  var calibrationPaths: [String]
  var calibrationOptions: CalibrationOptions
  var outputs: Outputs

  struct Summary {
    var json: JSONValue
    var text: String
  }

  func run() throws -> Summary {
    let start = Date()
    let model = try OpenedModel(path: modelPath, verification: verification)
    _ = try ModelContents(model)
    let calibration = try loadCalibration(model)
    let quantizer = try ModelQuantizer(
      model: model, recipe: recipe, calibration: calibration, scratch: outputs.scratch)
    try announce(quantizer.plan())
    let partial = (outputs.packed ?? outputs.folder ?? modelPath).trimmingSlashes + ".partial"
    let store = try LayerStore(path: partial, identity: quantizer.identity(), recipe: recipe)
    let resumed = store.finishedLayers
    if resumed > 0 { Output.note("continuing after \(resumed) finished layers in \(partial)") }
    Interruption.farewell.withLock { farewell in
      farewell = {
        guard LayerStore.finishedLayers(in: partial) > 0 else {
          try? FileManager.default.removeItem(atPath: partial)
          return nil
        }
        return "finished layers are kept in \(partial); the same command continues there"
      }
    }
    do {
      let bar = ProgressReporter("quantize", unit: "stages")
      try quantizer.run(into: store) { done, total, _ in bar.update(done, of: total) }
      return try write(quantizer, store: store, start: start, resumed: resumed)
    } catch {
      store.removeIfEmpty()
      throw error
    }
  }

  /// Says what the run will take; refuses one that cannot keep to the limit.
  private func announce(_ plan: QuantizationPlan) throws {
    if let limit = outputs.memoryLimit, plan.peakMemoryBytes > limit {
      let advice =
        plan.peakWithScratchBytes <= limit && outputs.scratch == nil
        ? "--scratch FOLDER brings it to \(Format.bytes(plan.peakWithScratchBytes))"
        : "it takes --memory-limit \(plan.peakMemoryBytes), or fewer calibration tokens"
      throw QuantizationError(
        "needs \(Format.bytes(plan.peakMemoryBytes)) of memory, the limit is \(Format.bytes(limit)); \(advice)",
        category: .usage)
    }
    Output.remark(
      "plan: \(Format.bytes(plan.peakMemoryBytes)) of memory"
        + (plan.scratchBytes > 0 ? ", \(Format.bytes(plan.scratchBytes)) of scratch" : "")
        + ", about \(Format.duration(plan.seconds)), output \(Format.bytes(plan.outputBytes))")
  }

  private func loadCalibration(_ model: OpenedModel) throws -> CalibrationSet {
    guard recipe.method == .gptq else {
      return CalibrationSet(windows: [], report: CalibrationReport(sources: []))
    }
    let tokenizer = try model.tokenizer()
    let calibration = try CalibrationSet.load(
      paths: calibrationPaths, tokenizer: tokenizer,
      template: ChatTemplate.detected(tokenizer: tokenizer, files: model.files),
      vocabularySize: model.configuration.vocabularySize, options: calibrationOptions)
    for source in calibration.report.sources {
      Output.remark(
        "\(source.path): \(source.records) records (\(source.kind)), \(source.tokensUsed) of \(source.tokensFound) tokens "
          + "used in \(source.windowsUsed) windows")
    }
    return calibration
  }

  private func write(_ quantizer: ModelQuantizer, store: LayerStore, start: Date, resumed: Int) throws
    -> Summary
  {
    let made = try QuantizedOutputs(quantizer, store: store, requestedFormat: outputs.format)
    let report = try made.report(generator: ToolVersion.generator, seconds: Date().timeIntervalSince(start))
    let reportText = report.serialized(indent: 2) + "\n"
    var written: [(String, JSONValue)] = []
    if let folder = outputs.folder {
      let bar = ProgressReporter("write folder", unit: "bytes")
      try FolderWriter(
        made.contents, shardByteLimit: outputs.shardByteLimit, zeroPointFormat: made.zeroPointFormat
      )
      .write(
        to: folder, replacing: outputs.overwrite, toolVersion: ToolVersion.current,
        extraFiles: [("quantization_report.json", reportText)]
      ) { bar.update($0, of: $1) }
      written.append(("gptq_output", .string(folder)))
    }
    if let packed = outputs.packed {
      let bar = ProgressReporter("write", unit: "bytes")
      var contents = made.contents
      if outputs.headBits != 16 { try HeadQuantizer.apply(bits: outputs.headBits, to: &contents) }
      try ModelPacker(contents).write(
        to: packed, generator: ToolVersion.generator, provenance: made.provenance()
      ) { bar.update($0, of: $1) }
      try AtomicFile.write(reportText, to: packed + ".report.json")
      written.append(("output", .string(packed)))
      written.append(("report", .string(packed + ".report.json")))
    }
    store.remove()
    let warnings = Self.warnings(report, hasShortGroups: made.hasShortGroups, groupSize: recipe.groupSize)
    for warning in warnings { Output.warn(warning) }
    let seconds = Date().timeIntervalSince(start)
    let modules = report["modules"]?.arrayValue?.count ?? 0
    var json = JSONObject(written)
    json["modules"] = .init(modules)
    json["resumed_layers"] = .init(resumed)
    json["total_loss"] = report["total_loss"]
    json["seconds"] = .init(seconds)
    let digests = try digests?.digests(of: written.compactMap(\.1.stringValue)) ?? []
    if !digests.isEmpty { json["sha256"] = DigestOptions.json(digests) }
    json["diagnosis"] = report["diagnosis"]
    json["warnings"] = .array(warnings.map { .string($0) })
    let text =
      written.map { "\($0.1.stringValue ?? "")" }.joined(separator: "\n")
      + "\n\(modules) modules quantized to \(recipe.bits) bits with \(recipe.method.rawValue) in \(Format.duration(seconds))"
      + Self.diagnosis(report) + DigestOptions.lines(digests)
    return Summary(json: .object(json), text: text)
  }

  /// The modules that need attention, as a table; empty when none does.
  private static func diagnosis(_ report: JSONValue) -> String {
    let flagged = report["diagnosis"]?.arrayValue ?? []
    guard !flagged.isEmpty else { return "" }
    let shown = flagged.prefix(12).map { entry in
      [
        entry["module"]?.stringValue ?? "",
        entry["findings"]?.arrayValue?.compactMap(\.stringValue).joined(separator: "; ") ?? "",
      ]
    }
    let more = flagged.count > 12 ? "\n… and \(flagged.count - 12) more in the report" : ""
    return "\n\n" + Format.table([["module", "diagnosis"]] + shown) + more
  }

  /// The modules' warnings and what else a person should know.
  private static func warnings(_ report: JSONValue, hasShortGroups: Bool, groupSize: Int) -> [String] {
    let modules = report["modules"]?.arrayValue ?? []
    var warnings: [String] = []
    for module in modules {
      for warning in module["warnings"]?.arrayValue?.compactMap(\.stringValue) ?? []
      where !warnings.contains(warning) {
        warnings.append(warning)
      }
    }
    func total(_ key: String) -> Int { modules.reduce(0) { $0 + ($1[key]?.intValue ?? 0) } }
    if hasShortGroups {
      warnings.append(
        "the last group of some modules is shorter than \(groupSize); AutoGPTQ's exllama and vLLM's Marlin kernels refuse such files"
      )
    }
    if total("dead_channels") > 0 {
      warnings.append("\(total("dead_channels")) input channels were always zero; their weights became 0")
    }
    if total("subnormal_scales") > 0 {
      warnings.append(
        "\(total("subnormal_scales")) scales are below half precision's normal range and are stored coarsely")
    }
    return warnings
  }
}

extension String {
  var trimmingSlashes: String {
    var text = self
    while text.count > 1 && text.hasSuffix("/") { text.removeLast() }
    return text
  }
}
