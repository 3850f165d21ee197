import Files
import JSON

/// What `adapter_config.json` says: which modules are updated, and by how much.
struct LoRASettings {
  private let label: String
  private let rank: Int
  private let alpha: Double
  private let isRankStabilized: Bool
  private let ranks: [(pattern: NamePattern, value: Int)]
  private let alphas: [(pattern: NamePattern, value: Double)]
  private let targets: LoRATargets
  private let savedModules: [String]
  /// Rows of embeddings that were trained on their own, by the module's name; nil: of the embedding.
  private let tokenRows: [(module: String?, rows: [Int])]
  /// Both of two tied matrices are to stay tied (`ensure_weight_tying`).
  let keepsTies: Bool

  init(_ object: JSONObject, label: String) throws {
    self.label = label
    func bad(_ reason: AdapterError.Reason) -> AdapterError { AdapterError(reason, path: label) }
    try LoRASettings.refuseOtherKinds(object, bad)
    guard let rank = object["r"]?.intValue, rank > 0 else { throw bad(.notAPositiveNumber(key: "r")) }
    guard let alpha = object["lora_alpha"]?.doubleValue, alpha.isFinite else {
      throw bad(.notANumber(key: "lora_alpha"))
    }
    (self.rank, self.alpha) = (rank, alpha)
    isRankStabilized = object["use_rslora"]?.boolValue ?? false
    keepsTies = object["ensure_weight_tying"]?.boolValue ?? false
    func patterns<T>(_ key: String, _ value: (JSONValue) -> T?) throws -> [(NamePattern, T)] {
      try (object[key]?.objectValue?.members ?? []).map { text, json in
        guard let value = value(json) else { throw bad(.notANumber(key: "\(key): \"\(text)\"")) }
        do throws(NamePattern.Failure) { return (try NamePattern(text, at: .end), value) } catch {
          throw bad(.badPattern(key: key, error))
        }
      }
    }
    ranks = try patterns("rank_pattern", \.intValue)
    alphas = try patterns("alpha_pattern", \.doubleValue)
    targets = try LoRATargets(object, label: label)
    savedModules = object["modules_to_save"]?.arrayValue?.compactMap(\.stringValue) ?? []
    switch object["trainable_token_indices"] {
    case .array(let rows)?: tokenRows = [(nil, rows.compactMap(\.intValue))]
    case .object(let modules)?:
      tokenRows = modules.members.map { ($0, ($1.arrayValue ?? []).compactMap(\.intValue)) }
    default: tokenRows = []
    }
  }

  /// Refuses what a sum B·A and whole weights do not describe.
  private static func refuseOtherKinds(
    _ object: JSONObject, _ bad: (AdapterError.Reason) -> AdapterError
  ) throws {
    let type = object["peft_type"]?.stringValue ?? "LORA"
    guard type.uppercased() == "LORA" else { throw bad(.notPlainLoRA("peft_type is \(type)")) }
    func isSet(_ key: String) -> JSONValue? {
      guard let value = object[key], !value.isNull, value.boolValue != false,
        value.arrayValue?.isEmpty != true,
        value.objectValue?.isEmpty != true
      else { return nil }
      return value
    }
    if isSet("alora_invocation_tokens") != nil { throw bad(.activatedByTokens) }
    for key in [
      "use_dora", "lora_bias", "use_qalora", "use_bdlora", "target_parameters", "layer_replication",
      "megatron_config", "velora_config", "kasa_config", "monteclora_config", "arrow_config",
    ] {
      if let value = isSet(key) { throw bad(.notPlainLoRA("\(key) is \(value.serialized())")) }
    }
    if let start = object["init_lora_weights"]?.stringValue,
      ["pissa", "olora", "corda", "loftq", "lora_ga"].contains(where: start.bytes.hasPrefix)
    {
      throw bad(.notPlainLoRA("init_lora_weights is \(start): the base model's weights were changed"))
    }
  }

  // MARK: Single modules

  func rank(of module: String) throws -> Int {
    let found = try value(ranks, "rank_pattern", of: module) ?? rank
    guard found > 0 else { throw AdapterError(.badRank(module: module, found), path: label) }
    return found
  }

  /// alpha / rank, or with `use_rslora` alpha / √rank.
  func scale(of module: String) throws -> Float {
    let alpha = try value(alphas, "alpha_pattern", of: module) ?? alpha
    let rank = Double(try rank(of: module))
    return Float(alpha / (isRankStabilized ? rank.squareRoot() : rank))
  }

  /// The value of the first key that matches, as in PEFT.
  private func value<T>(_ patterns: [(pattern: NamePattern, value: T)], _ key: String, of module: String)
    throws -> T?
  {
    do throws(NamePattern.Failure) {
      for (pattern, value) in patterns where try pattern.matches(module) { return value }
      return nil
    } catch { throw AdapterError(.badPattern(key: key, error), path: label) }
  }

  /// Whether PEFT would give the module an update.
  func isTarget(_ module: String) throws -> Bool { try targets.contains(module) }

  /// Whether the module was trained as a whole, on a copy of its own.
  func isSaved(_ module: String) -> Bool { savedModules.contains { module.bytes.hasSuffix($0) } }

  /// The rows that `trainable_token_indices` names, in the order of the tensor's rows.
  func tokenRows(of module: String) -> [Int]? {
    tokenRows.first { rule in
      rule.module.map { module.hasSameBytes(as: $0) || module.bytes.hasSuffix("." + $0) }
        ?? module.bytes.hasSuffix("embed_tokens")
    }?.rows
  }
}

/// Which modules have updates: `target_modules`, `exclude_modules`, `layers_to_transform` and `layers_pattern`, as PEFT reads them.
struct LoRATargets {
  private enum Names {
    case all
    case pattern(NamePattern)
    case ends([String])
  }

  private let label: String
  private let targets: Names
  /// `ends([])`: none.
  private let excluded: Names
  /// Nil: all layers.
  private let layers: [Int]?
  /// What stands before a layer's number; empty: anything.
  private let layerNames: [String]

  init(_ object: JSONObject, label: String) throws {
    self.label = label
    func names(_ key: String, absent: Names) throws -> Names {
      switch object[key] {
      case .string(let text)?:
        if text.lowercased() == "all-linear" { return .all }
        do throws(NamePattern.Failure) { return .pattern(try NamePattern(text, at: .whole)) } catch {
          throw AdapterError(.badPattern(key: key, error), path: label)
        }
      case .array(let names)?: return .ends(names.compactMap(\.stringValue))
      default: return absent
      }
    }
    func list(_ key: String) -> [JSONValue] {
      object[key].map { $0.arrayValue ?? [$0] }?.filter { !$0.isNull } ?? []
    }
    targets = try names("target_modules", absent: .all)
    excluded = try names("exclude_modules", absent: .ends([]))
    let numbers = list("layers_to_transform").compactMap(\.intValue)
    layers = numbers.isEmpty ? nil : numbers
    layerNames = list("layers_pattern").compactMap(\.stringValue)
  }

  func contains(_ module: String) throws -> Bool {
    if case .ends(let names) = excluded, names.isEmpty {
    } else if try matches(excluded, module, "exclude_modules") {
      return false
    }
    guard try matches(targets, module, "target_modules") else { return false }
    guard let layers, case .ends = targets else { return true }
    return layer(of: module).map(layers.contains) ?? false
  }

  private func matches(_ names: Names, _ module: String, _ key: String) throws -> Bool {
    switch names {
    case .all: return true
    case .ends(let ends):
      return ends.contains { module.hasSameBytes(as: $0) || module.bytes.hasSuffix("." + $0) }
    case .pattern(let pattern):
      do throws(NamePattern.Failure) { return try pattern.matches(module) } catch {
        throw AdapterError(.badPattern(key: key, error), path: label)
      }
    }
  }

  /// The first number in the module's name that stands where a layer's number does.
  private func layer(of module: String) -> Int? {
    let parts = module.bytes.split(separator: ".")
    for (place, part) in parts.enumerated().dropFirst(2).dropLast() {
      guard let number = Int(part), number >= 0 else { continue }
      if layerNames.isEmpty || layerNames.contains(where: { $0.hasSameBytes(as: parts[place - 1]) }) {
        return number
      }
    }
    return nil
  }
}
