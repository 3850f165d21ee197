import Files
import JSON

/// Settings of single modules that differ from those of the whole checkpoint: GPTQModel's `dynamic`, AutoRound's `extra_config`.
package struct ModuleRules: Equatable, Sendable {
  private enum Effect: Equatable, Sendable {
    /// The module stays in floats.
    case exclusion
    case override(bits: Int?, groupSize: Int?, isSymmetric: Bool?, descendingActivation: Bool?)
  }

  private struct Rule: Equatable, Sendable {
    var pattern: NamePattern
    var effect: Effect
    /// The key as the file writes it.
    var key: String
  }

  /// In the order in which they are tried.
  private var rules: [Rule] = []
  /// The file and the field, for messages.
  private var label = ""

  package init() {}

  package var isEmpty: Bool { rules.isEmpty }

  // MARK: Reading

  /// - Parameter dynamic: regular expressions that match from a name's start, after `-:` for modules that stay in floats, after `+:`
  ///   or nothing for modules with other settings.
  /// - Throws: ``JSONFieldError``.
  init(dynamic: JSONFields) throws {
    label = "\(dynamic.document): dynamic"
    for (key, value) in dynamic.object.members {
      if let text = key.bytes.dropping(prefix: "-:") {
        rules.append(
          Rule(pattern: try ModuleRules.pattern(text, .start, dynamic, key), effect: .exclusion, key: key))
        continue
      }
      let fields = try JSONFields(value, document: dynamic.document, prefix: "\(dynamic.prefix)\(key).")
      rules.append(
        Rule(
          pattern: try ModuleRules.pattern(key.bytes.dropping(prefix: "+:") ?? key, .start, dynamic, key),
          effect: try ModuleRules.override(fields), key: key))
    }
  }

  /// - Parameter extra: modules by name, and regular expressions that match anywhere; a name wins over an expression.
  /// - Throws: ``JSONFieldError``.
  init(extra: JSONFields) throws {
    label = "\(extra.document): extra_config"
    for (key, value) in extra.object.members {
      let fields = try JSONFields(value, document: extra.document, prefix: "\(extra.prefix)\(key).")
      if fields.object.isEmpty { continue }
      rules.append(
        Rule(
          pattern: try ModuleRules.pattern(key, .anywhere, extra, key),
          effect: try fields.integer("bits") ?? 0 >= 16 ? .exclusion : try ModuleRules.override(fields),
          key: key))
    }
  }

  private static func pattern(
    _ text: String, _ place: NamePattern.Place, _ fields: JSONFields, _ key: String
  ) throws -> NamePattern {
    do throws(NamePattern.Failure) { return try NamePattern(text, at: place) } catch {
      throw fields.refusal(key, "is not a key: \(error)")
    }
  }

  /// Settings that say how a module was quantized, not what is stored, have no effect.
  private static func override(_ fields: JSONFields) throws -> Effect {
    let bits = try fields.integer("bits").map { try QuantizeConfiguration.checked(bits: $0, fields) }
    let groupSize = try fields.integer("group_size").map {
      try QuantizeConfiguration.checked(groupSize: $0, fields)
    }
    for (key, usual) in [("pack_dtype", ["int32"]), ("data_type", ["int"]), ("format", ["gptq", "gptq_v2"])] {
      if let found = try fields.string(key), !usual.contains(found) {
        throw fields.refusal(key, "is \"\(found)\"; only \(usual.joined(separator: " and ")) can be read")
      }
    }
    return .override(
      bits: bits, groupSize: groupSize, isSymmetric: try fields.bool("sym"),
      descendingActivation: try fields.bool("desc_act"))
  }

  // MARK: Using

  /// The settings of one module.
  /// - Parameter base: those of the checkpoint.
  /// - Throws: ``JSONFieldError`` when a rule leaves the module in floats: whoever asks has found codes.
  func settings(of module: String, in base: QuantizeConfiguration) throws -> QuantizeConfiguration {
    var result = base
    result.rules = ModuleRules()
    guard let rule = try rule(for: module) else { return result }
    guard case .override(let bits, let groupSize, let isSymmetric, let descendingActivation) = rule.effect
    else {
      throw JSONFieldError(
        .refused("leaves \(module) in floats, but the checkpoint has codes for it"), document: label,
        field: "\"\(rule.key)\"")
    }
    if let bits { result.bits = bits }
    if let groupSize { result.groupSize = groupSize }
    if let isSymmetric { result.isSymmetric = isSymmetric }
    if let descendingActivation { result.descendingActivation = descendingActivation }
    return result
  }

  private func rule(for module: String) throws -> Rule? {
    if let named = rules.first(where: { $0.pattern.place == .anywhere && $0.key.hasSameBytes(as: module) }) {
      return named
    }
    return try rules.first { rule in
      do throws(NamePattern.Failure) { return try rule.pattern.matches(module) } catch {
        throw JSONFieldError(.refused("cannot be used: \(error)"), document: label, field: "\"\(rule.key)\"")
      }
    }
  }

  // MARK: Writing

  /// A key of `dynamic` that means one module.
  package static func key(for module: String, isExclusion: Bool) -> String {
    key(forPattern: escaped(module), isExclusion: isExclusion)
  }

  /// A key of `dynamic` that means all modules whose whole name matches a regular expression.
  package static func key(forPattern pattern: String, isExclusion: Bool) -> String {
    "\(isExclusion ? "-:" : "+:")^\(pattern)$"
  }

  /// A regular expression that matches a part of a module's name and nothing else.
  package static func escaped(_ name: String) -> String { name.bytes.replacing(".", with: "\\.") }
}
