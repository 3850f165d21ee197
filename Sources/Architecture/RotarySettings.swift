import Files
import JSON

/// What `config.json` says about rotary positions: `rope_theta` and `rope_scaling` as transformers 4 writes them, or
/// `rope_parameters` as transformers 5 does. Where they disagree, they are read as transformers 5 reads them.
struct RotarySettings {
  var theta: Double
  var scaling: RotaryParameters.Scaling
  var partialFactor: Double
  private(set) var discrepancies: [Discrepancy] = []

  /// - Parameters:
  ///   - context: `max_position_embeddings`.
  ///   - family: decides whether heads may be rotated in part.
  /// - Throws: ``JSONFieldError`` for a kind of scaling that is not computed.
  init(_ fields: JSONFields, context: Int, family: ModelFamily) throws {
    func object(_ key: String) throws -> JSONFields? {
      // An empty object says nothing.
      try fields.object(key).flatMap { $0.object.isEmpty ? nil : $0 }
    }
    let (scalingObject, parameters) = (try object("rope_scaling"), try object("rope_parameters"))
    let chosen = scalingObject ?? parameters
    try RotarySettings.refuseLayerTypes(chosen)
    theta = try chosen?.number("rope_theta") ?? fields.number("rope_theta") ?? RotarySettings.usualTheta
    scaling = try RotarySettings.scaling(chosen, context: context)
    partialFactor =
      try chosen?.number("partial_rotary_factor") ?? fields.number("partial_rotary_factor") ?? 1
    guard theta > 1, theta.isFinite else {
      throw (chosen?["rope_theta"] == nil ? fields : chosen ?? fields)
        .refusal("rope_theta", "is \(theta), expected more than 1")
    }
    if partialFactor != 1, !family.defaults.rotatesParts {
      throw (chosen?["partial_rotary_factor"] == nil ? fields : chosen ?? fields)
        .refusal(
          "partial_rotary_factor",
          "is \(partialFactor): transformers rotates whole heads of \(family.name) models, other engines do not; "
            + "remove it if the whole head is rotated")
    }
    try compare(chosen, ignored: scalingObject == nil ? nil : parameters, fields, context: context)
  }

  /// What transformers takes for all families when nothing says otherwise.
  private static let usualTheta = 10000.0

  /// - Parameter scaling: the object `rope_parameters` or `rope_scaling`.
  private static func scaling(_ scaling: JSONFields?, context: Int) throws -> RotaryParameters.Scaling {
    guard let scaling else { return .none }
    let type = try type(scaling)
    switch type {
    case "default": return .none
    case "linear":
      return .linear(factor: try scaling.requiredNumber("factor", in: 1...Double.infinity))
    case "llama3":
      let low = try scaling.requiredNumber("low_freq_factor")
      let high = try scaling.requiredNumber("high_freq_factor")
      let factor = try scaling.requiredNumber("factor")
      guard factor > 0, low > 0, high > low else {
        throw scaling.refusal(
          "factor", "and its companions do not satisfy 0 < factor, 0 < low_freq_factor < high_freq_factor")
      }
      return .llama3(
        factor: factor, lowFrequencyFactor: low, highFrequencyFactor: high,
        originalContext: Double(
          try scaling.integer("original_max_position_embeddings", in: 1...(1 << 30)) ?? context)
      )
    default:
      throw scaling.refusal(
        scaling.isPresent("rope_type") ? "rope_type" : "type",
        "is \"\(type)\"; the supported kinds of scaling are default, linear and llama3")
    }
  }

  /// The kind of scaling; `type` is how it was spelled before `rope_type`.
  private static func type(_ scaling: JSONFields) throws -> String {
    try scaling.string("rope_type") ?? scaling.string("type") ?? "default"
  }

  /// Settings for each kind of layer, which transformers 5 nests under `full_attention` and the like.
  private static func refuseLayerTypes(_ chosen: JSONFields?) throws {
    guard let chosen else { return }
    for (key, value) in chosen.object.members where value.objectValue != nil {
      throw chosen.refusal(key, "is an object: settings for single kinds of layers are not supported")
    }
  }

  // MARK: Disagreements

  private mutating func compare(
    _ chosen: JSONFields?, ignored: JSONFields?, _ fields: JSONFields, context: Int
  ) throws {
    func note(_ detail: String) {
      discrepancies.append(Discrepancy(.rotary, path: fields.document, detail + ", as in transformers"))
    }
    if let ignored {
      let otherTheta = (try? ignored.number("rope_theta")).flatMap { $0 } ?? theta
      let isSame =
        (try? RotarySettings.scaling(ignored, context: context)) == scaling && otherTheta == theta
      if !isSame {
        let consequence = otherTheta == theta ? "" : ", so that rope_theta is \(theta) and not \(otherTheta)"
        note("has rope_scaling beside rope_parameters; rope_scaling counts\(consequence)")
      }
    }
    guard let chosen else { return }
    func compareWithOuter(_ key: String) {
      guard let inner = chosen[key]?.doubleValue, let outer = fields[key]?.doubleValue, inner != outer
      else { return }
      note("\(chosen.prefix)\(key) is \(inner) and \(key) is \(outer); the first counts")
    }
    compareWithOuter("rope_theta")
    compareWithOuter("partial_rotary_factor")
    let type = try RotarySettings.type(chosen)
    if let older = try chosen.string("type"), older != type {
      note(
        "\(chosen.prefix)rope_type is \"\(type)\" and \(chosen.prefix)type is \"\(older)\"; the first counts")
    }
    if type == "llama3" {
      compareWithOuter("original_max_position_embeddings")
    }
    let used = RotarySettings.usedKeys[type] ?? []
    for key in chosen.object.keys where !RotarySettings.commonKeys.contains(key) && !used.contains(key) {
      guard chosen.isPresent(key) else { continue }
      let kind = chosen.isPresent("rope_type") || chosen.isPresent("type") ? "is \"\(type)\"" : "is missing"
      note("\(chosen.prefix)\(key) has no effect, because rope_type \(kind)")
    }
  }

  private static let commonKeys: Set<ByteText> = [
    "rope_type", "type", "rope_theta", "partial_rotary_factor",
  ]
  /// What each kind of scaling reads besides.
  private static let usedKeys: [String: Set<ByteText>] = [
    "linear": ["factor"],
    "llama3": ["factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"],
  ]
}
