import AutoGPTQ
import Calibration
import JSON

/// What a quantization did: recipe, calibration text, and every module's loss, time, damp and dead channels.
package struct QuantizationReport: Sendable {
  package var generator: String
  package var recipe: QuantizationRecipe
  package var calibration: CalibrationSet
  package var zeroPointFormat: ZeroPointFormat
  package var seconds: Double
  package var modules: [ModuleReport]
  /// Whether some module's last group is shorter than the others.
  package var hasShortGroups: Bool
  /// How bits of single modules were chosen; nil: they were given.
  package var precision: PrecisionReport?

  package var totalLoss: Double { modules.reduce(0) { $0 + $1.averageLoss } }
  /// The modules that need attention.
  package var diagnosis: [Diagnosis] { Diagnosis.findings(modules) }

  /// The modules' warnings and what else a person should know, a sentence each.
  package var warnings: [String] {
    var warnings: [String] = []
    for warning in modules.flatMap(\.warnings) where !warnings.contains(warning) { warnings.append(warning) }
    if hasShortGroups {
      warnings.append(
        "the last group of some modules is shorter than \(recipe.groupSize); AutoGPTQ's exllama and vLLM's Marlin "
          + "kernels refuse such files")
    }
    let dead = modules.reduce(0) { $0 + $1.deadChannels }
    if dead > 0 { warnings.append("\(dead) input channels were always zero; their weights became 0") }
    let tiny = modules.reduce(0) { $0 + $1.tinyScales }
    if tiny > 0 {
      warnings.append("\(tiny) scales are below half precision's normal range and are stored coarsely")
    }
    return warnings
  }

  package var json: JSONValue {
    var json = JSONObject([
      ("generator", .string(generator)), ("recipe", recipe.json),
      (
        "calibration",
        [
          "tokens": .init(calibration.tokenCount), "windows": .init(calibration.windows.count),
          "sha256": .string(calibration.digest), "sources": calibration.report.json,
        ]
      ),
      ("checkpoint_format", .string(zeroPointFormat.rawValue)),
      ("seconds", .init((seconds * 1000).rounded() / 1000)), ("total_loss", .init(totalLoss)),
      ("diagnosis", QuantizationReport.json(diagnosis)), ("modules", .array(modules.map(\.json))),
    ])
    if let precision { json["precision"] = precision.json }
    return .object(json)
  }

  package static func json(_ diagnosis: [Diagnosis]) -> JSONValue {
    .array(
      diagnosis.map {
        ["module": .string($0.module), "findings": .array($0.findings.map { .string($0) })]
      })
  }
}
