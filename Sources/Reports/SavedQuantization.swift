import Files
import JSON

/// What a report of `zhinao-quantize` says, as far as it is shown: `OUTPUT.zhinao.report.json`, or `quantization_report.json` of a folder.
struct SavedQuantization {
  var generator: String
  /// In the order of the file; values that are not numbers, words or truth values are left out.
  var recipe: [(name: String, value: String)]
  var method: String
  var bits: Int?
  /// Settings of single modules, by `layer.kind`.
  var overrides: [(key: String, bits: Int, groupSize: Int)]
  var calibration: Calibration?
  var seconds: Double
  /// Infinite where the report says null.
  var totalLoss: Double
  var diagnosis: [(module: String, findings: [String])]
  var modules: [Module]
  var precision: Precision?

  struct Calibration {
    var tokens: Int
    var windows: Int
    var sha256: String
    var sources: [Source]
  }

  struct Source {
    var path: String
    var kind: String
    var records: Int
    var windows: Int
    var tokens: Int
  }

  struct Module {
    var name: String
    /// The first number in its name; nil: there is none.
    var layer: Int?
    /// What stands behind the number, or the last part of a name without one.
    var kind: String
    var loss: Double
    var seconds: Double
    var damp: Double
    var wasDampRaised: Bool
    var deadChannels: Int
    var subnormalScales: Int
    var hasShortGroup: Bool
    var inputs: Inputs?
    /// Losses on windows that were kept out, before and after a refinement.
    var refinement: (before: Double, after: Double)?
  }

  struct Inputs {
    var tokens: Int
    var channels: Int
    var effectiveRank: Int?
    var dead: Int
    var duplicates: Int
    var outliers: Int
    /// Of the strongest outlier.
    var strongest: Double?
  }

  struct Precision {
    var target: (isDivergence: Bool, value: Double)
    var heldOutTokens: Int
    var rounds: [Round]
    /// Counted from 1.
    var writtenRound: Int
    var choices: [Choice]
    var isReached: Bool
  }

  struct Round {
    var bitsPerWeight: Double
    var predicted: Double
    /// Nil: not measured.
    var measured: Double?
  }

  struct Choice {
    var bits: Int
    var groupSize: Int
    var stages: Int
    var uniformBits: Double
    var uniformPredicted: Double
  }

  /// - Throws: ``JSONFieldError`` naming the field that is missing or wrong.
  init(_ json: JSONValue, path: String) throws(JSONFieldError) {
    let fields = try JSONFields(json, document: path)
    guard fields.isPresent("modules"), fields.isPresent("recipe") else {
      throw JSONFieldError(
        .refused("is not a report of zhinao-quantize, which has recipe and modules"), document: path,
        field: "")
    }
    generator = try fields.string("generator") ?? ""
    let recipe = try JSONFields(
      fields["recipe"] ?? .null, document: path, prefix: "recipe.")
    method = try recipe.requiredString("method")
    bits = try recipe.integer("bits")
    self.recipe = recipe.object.members.compactMap { name, value in
      switch value {
      case .string(let text), .number(let text): (name, text)
      case .bool(let isTrue): (name, isTrue ? "true" : "false")
      case .null, .array, .object: nil
      }
    }
    overrides = []
    if let own = try recipe.object("modules") {
      for key in own.object.keys {
        guard let settings = try own.object(key) else { continue }
        overrides.append(
          (key, try settings.requiredInteger("bits", in: 1...16), try settings.requiredInteger("group_size")))
      }
    }
    seconds = try fields.number("seconds", in: 0...1e12) ?? 0
    totalLoss = try fields.number("total_loss") ?? .infinity
    calibration = try fields.object("calibration").map(SavedQuantization.calibration)
    diagnosis = []
    for finding in try fields.objects("diagnosis") ?? [] {
      diagnosis.append(
        (try finding.requiredString("module"), try finding.strings("findings", most: 1000)))
    }
    modules = []
    for module in try fields.objects("modules") ?? [] { modules.append(try SavedQuantization.module(module)) }
    precision = try fields.object("precision").map(SavedQuantization.precision)
  }

  private static func calibration(_ fields: JSONFields) throws(JSONFieldError) -> Calibration {
    var sources: [Source] = []
    for source in try fields.objects("sources") ?? [] {
      sources.append(
        Source(
          path: try source.string("path") ?? "", kind: try source.string("kind") ?? "",
          records: try source.integer("records") ?? 0, windows: try source.integer("windows_used") ?? 0,
          tokens: try source.integer("tokens_used") ?? 0))
    }
    return Calibration(
      tokens: try fields.requiredInteger("tokens"), windows: try fields.requiredInteger("windows"),
      sha256: try fields.string("sha256") ?? "", sources: sources)
  }

  private static func module(_ fields: JSONFields) throws(JSONFieldError) -> Module {
    let name = try fields.requiredString("module")
    let parts = name.bytes.split(separator: ".")
    let number = parts.firstIndex { Int($0) != nil }
    let refinement = try fields.object("refinement")
    return Module(
      name: name, layer: number.flatMap { Int(parts[$0]) },
      kind: parts[(number.map { $0 + 1 } ?? max(0, parts.count - 1))...].joined(separator: "."),
      loss: try fields.number("avg_loss") ?? .infinity, seconds: try fields.number("seconds") ?? 0,
      damp: try fields.number("damp_percent") ?? 0,
      wasDampRaised: !(try fields.strings("warnings", most: 1000)).isEmpty,
      deadChannels: try fields.integer("dead_channels", in: 0...1 << 40) ?? 0,
      subnormalScales: try fields.integer("subnormal_scales", in: 0...1 << 40) ?? 0,
      hasShortGroup: try fields.bool("short_last_group") ?? false,
      inputs: try fields.object("inputs").map(SavedQuantization.inputs),
      refinement: try refinement.map { fields throws(JSONFieldError) in
        (try fields.number("loss_before") ?? .infinity, try fields.number("loss_after") ?? .infinity)
      })
  }

  private static func inputs(_ fields: JSONFields) throws(JSONFieldError) -> Inputs {
    Inputs(
      tokens: try fields.requiredInteger("tokens", in: 0...1 << 50),
      channels: try fields.requiredInteger("channels", in: 0...1 << 40),
      effectiveRank: try fields.integer("effective_rank", in: 0...1 << 40),
      dead: try fields.integer("dead_count", in: 0...1 << 40) ?? 0,
      duplicates: try fields.integer("duplicate_count", in: 0...1 << 40) ?? 0,
      outliers: try fields.integer("outlier_count", in: 0...1 << 40) ?? 0,
      strongest: try fields.objects("outliers")?.first?.number("energy_over_median"))
  }

  private static func precision(_ fields: JSONFields) throws(JSONFieldError) -> Precision {
    var rounds: [Round] = []
    for round in try fields.objects("rounds") ?? [] {
      rounds.append(
        Round(
          bitsPerWeight: try round.requiredNumber("bits_per_weight"),
          predicted: try round.number("predicted_kl") ?? .nan, measured: try round.number("measured_kl")))
    }
    var choices: [Choice] = []
    for choice in try fields.objects("choices") ?? [] {
      choices.append(
        Choice(
          bits: try choice.requiredInteger("bits"), groupSize: try choice.requiredInteger("group_size"),
          stages: try choice.integer("stages") ?? 0,
          uniformBits: try choice.number("uniform_bits_per_weight") ?? .nan,
          uniformPredicted: try choice.number("uniform_predicted_kl") ?? .nan))
    }
    let divergence = try fields.number("target_kl")
    let bits = try fields.number("target_bits")
    guard let target = divergence ?? bits else { throw fields.error("target_kl", .missing) }
    return Precision(
      target: (divergence != nil, target), heldOutTokens: try fields.integer("held_out_tokens") ?? 0,
      rounds: rounds, writtenRound: try fields.requiredInteger("written_round"), choices: choices,
      isReached: try fields.bool("reached") ?? true)
  }
}
