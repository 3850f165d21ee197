import JSON

/// What one module's quantization found.
package struct ModuleReport: Equatable, Sendable {
  package var module: String
  /// Σ over all weights of (w − q)² / U[c,c]² / 2: how much the output error grows, in AutoGPTQ's terms.
  package var sumLosses: Double
  /// `sumLosses` per calibration sequence: AutoGPTQ's "avg loss".
  package var averageLoss: Double
  package var seconds: Double
  /// What was used in the end; more than asked when the Hessian was not positive definite.
  package var dampPercent: Double
  package var deadChannels: Int
  package var positiveGroups: Int
  package var tinyScales: Int
  /// Whether the last group is shorter than the others: some engines refuse that.
  package var hasShortGroup: Bool
  package var warnings: [String]
  /// What its inputs looked like; nil when none were used.
  package var inputs: InputDiagnosis?
  /// What stands out in the inputs, a sentence each.
  package var reasons: [String]
  /// Nil without a refinement.
  package var refinement: RefinementReport?
  /// What `sumLosses` is a sum of, in this order, for each output: where outputs depend on each other, in the order in which they were rounded.
  /// Empty in reports that were kept.
  package var outputLosses: [Double] = []

  package var json: JSONValue {
    var members = JSONObject([
      ("inputs", inputs?.json ?? .null), ("reasons", .array(reasons.map { .string($0) })),
      ("module", .string(module)), ("avg_loss", .init(averageLoss)), ("sum_losses", .init(sumLosses)),
      ("seconds", .init((seconds * 1000).rounded() / 1000)), ("damp_percent", .init(dampPercent)),
      ("dead_channels", .init(deadChannels)), ("all_positive_groups", .init(positiveGroups)),
      ("subnormal_scales", .init(tinyScales)), ("short_last_group", .bool(hasShortGroup)),
      ("warnings", .array(warnings.map { .string($0) })),
    ])
    if let refinement { members["refinement"] = refinement.json }
    return .object(members)
  }
}

extension ModuleReport {
  /// Reads what ``json`` gives. A loss that is not finite was written as null.
  package init(_ fields: JSONFields) throws(JSONFieldError) {
    self.init(
      module: try fields.requiredString("module"), sumLosses: try fields.number("sum_losses") ?? .infinity,
      averageLoss: try fields.number("avg_loss") ?? .infinity, seconds: try fields.requiredNumber("seconds"),
      dampPercent: try fields.requiredNumber("damp_percent"),
      deadChannels: try fields.requiredInteger("dead_channels"),
      positiveGroups: try fields.requiredInteger("all_positive_groups"),
      tinyScales: try fields.requiredInteger("subnormal_scales"),
      hasShortGroup: try fields.bool("short_last_group") ?? false,
      warnings: try fields.strings("warnings", most: .max),
      inputs: try fields.object("inputs").map { fields throws(JSONFieldError) in try InputDiagnosis(fields) },
      reasons: try fields.strings("reasons", most: .max),
      refinement: try fields.object("refinement").map { fields throws(JSONFieldError) in
        try RefinementReport(fields)
      })
  }
}
