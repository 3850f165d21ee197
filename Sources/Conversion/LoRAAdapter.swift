import Files
import Foundation
import JSON
import Safetensors

/// A PEFT adapter of type LoRA: for some modules two thin matrices A `[rank, in]` and B `[out, rank]`, and weights that were
/// trained as a whole (`modules_to_save`).
package struct LoRAAdapter: Sendable {
  /// What one module's weight gains: `scale · B · A`.
  package struct Update: Sendable {
    package let a: StoredTensor
    package let b: StoredTensor
    package let scale: Float
  }

  package let path: String
  /// By the module's name in the base model, for example `model.layers.0.self_attn.q_proj`.
  package let updates: [ByteText: Update]
  /// Tensors that replace the base model's, by name.
  package let replacements: [ByteText: StoredTensor]

  /// - Parameter path: a folder with `adapter_config.json` and `adapter_model.safetensors`.
  /// - Throws: when it holds anything but plain LoRA weights, which a merge would get wrong.
  package init(path: String) throws {
    self.path = path
    let files = FolderFiles(path)
    guard let object = try files.json(named: "adapter_config.json")?.objectValue else {
      throw ConversionError(.noAdapterConfiguration, path: path)
    }
    let settings = try LoRASettings(object, label: files.label(of: "adapter_config.json"))
    guard FileManager.default.fileExists(atPath: "\(path)/adapter_model.safetensors") else {
      throw ForeignWeights.refusal(ofFolder: path)
        ?? ConversionError(.noAdapterWeights, path: path)
    }
    let table = try TensorTable(path: "\(path)/adapter_model.safetensors")
    var pairs: [ByteText: (a: StoredTensor?, b: StoredTensor?)] = [:]
    var replacements: [ByteText: StoredTensor] = [:]
    for tensor in table.inFileOrder {
      guard [.f32, .f16, .bf16].contains(tensor.dtype) else {
        throw ConversionError(.wrongType(tensor.dtype), path: table.path, tensor: tensor.name)
      }
      let (name, part) = LoRAAdapter.parsed(tensor.name)
      switch part {
      case .a: pairs[name, default: (nil, nil)].a = tensor
      case .b: pairs[name, default: (nil, nil)].b = tensor
      case .whole: replacements[name] = tensor
      case nil:
        throw ConversionError(.unknownAdapterTensor, path: table.path, tensor: tensor.name)
      }
    }
    updates = try Dictionary(
      uniqueKeysWithValues: pairs.map { key, pair in
        let name = key.text
        guard let a = pair.a, let b = pair.b, a.shape.count == 2, b.shape.count == 2,
          a.shape[0] == b.shape[1]
        else {
          throw ConversionError(.noPair, path: table.path, tensor: name)
        }
        let rank = try settings.rank(of: name)
        guard a.shape[0] == rank else {
          throw ConversionError(
            .rankDiffers(found: a.shape[0], expected: rank), path: table.path, tensor: a.name)
        }
        return (key, Update(a: a, b: b, scale: try settings.scale(of: name)))
      })
    self.replacements = replacements
    if updates.isEmpty && replacements.isEmpty {
      throw ConversionError(.emptyAdapter, path: table.path)
    }
  }

  private enum Part { case a, b, whole }

  /// The base model's name for a tensor of an adapter. PEFT wraps the model in `base_model.model.`, and older files keep the
  /// adapter's own name (`lora_A.default.weight`).
  private static func parsed(_ name: String) -> (String, Part?) {
    var name = name
    while let inner = name.bytes.dropping(prefix: "base_model.model.") { name = inner }
    name = name.bytes.replacing(".base_layer.", with: ".").bytes.replacing(
      ".modules_to_save.default.", with: ".")
    for (mark, part) in [(".lora_A.", Part.a), (".lora_B.", .b)] {
      guard let range = name.bytes.range(of: mark) else { continue }
      let rest = name[range.upperBound...].bytes.split(separator: ".")
      guard rest.last == "weight", rest.count <= 2 else { return (name, nil) }
      return (String(name[..<range.lowerBound]), part)
    }
    return (name, name.bytes.contains("lora_") ? nil : .whole)
  }
}

/// What `adapter_config.json` says about the size of updates.
struct LoRASettings {
  private let label: String
  private let rank: Int
  private let alpha: Double
  private let isRankStabilized: Bool
  private let ranks: [(pattern: ModulePattern, value: Int)]
  private let alphas: [(pattern: ModulePattern, value: Double)]

  init(_ object: JSONObject, label: String) throws {
    self.label = label
    func bad(_ reason: ConversionError.Reason) -> ConversionError { ConversionError(reason, path: label) }
    func refuse(_ what: String) -> ConversionError { bad(.notPlainLoRA(what)) }
    let type = object["peft_type"]?.stringValue ?? "LORA"
    guard type.uppercased() == "LORA" else { throw refuse("peft_type is \(type)") }
    for key in [
      "use_dora", "fan_in_fan_out", "lora_bias", "use_qalora", "use_bdlora", "target_parameters",
      "trainable_token_indices", "alora_invocation_tokens", "layer_replication", "megatron_config",
      "velora_config",
    ] {
      guard let value = object[key] else { continue }
      let isUnset =
        value.isNull || value.boolValue == false || value.arrayValue?.isEmpty == true
        || value.objectValue?.isEmpty == true
      if !isUnset { throw refuse("\(key) is \(value.serialized())") }
    }
    if let bias = object["bias"]?.stringValue, bias != "none" { throw refuse("bias is \(bias)") }
    if let start = object["init_lora_weights"]?.stringValue,
      ["pissa", "olora", "corda", "loftq", "lora_ga"].contains(where: start.bytes.hasPrefix)
    {
      throw refuse("init_lora_weights is \(start): the base model's weights were changed")
    }
    guard let rank = object["r"]?.intValue, rank > 0 else { throw bad(.notAPositiveNumber(key: "r")) }
    guard let alpha = object["lora_alpha"]?.doubleValue else { throw bad(.notANumber(key: "lora_alpha")) }
    (self.rank, self.alpha) = (rank, alpha)
    isRankStabilized = object["use_rslora"]?.boolValue ?? false
    func patterns<T>(_ key: String, _ value: (JSONValue) -> T?) throws -> [(ModulePattern, T)] {
      try (object[key]?.objectValue?.members ?? []).map { text, json in
        guard let pattern = ModulePattern(text), let value = value(json) else {
          throw bad(.badPattern(key: key, text))
        }
        return (pattern, value)
      }
    }
    ranks = try patterns("rank_pattern", \.intValue)
    alphas = try patterns("alpha_pattern", \.doubleValue)
  }

  func rank(of module: String) throws -> Int {
    let found = ranks.first { $0.pattern.matches(module) }?.value ?? rank
    guard found > 0 else {
      throw ConversionError(.badRank(module: module, found), path: label)
    }
    return found
  }

  /// alpha / rank, or with `use_rslora` alpha / √rank.
  func scale(of module: String) throws -> Float {
    let alpha = alphas.first { $0.pattern.matches(module) }?.value ?? alpha
    let rank = Double(try rank(of: module))
    return Float(alpha / (isRankStabilized ? rank.squareRoot() : rank))
  }
}

/// A key of `rank_pattern` or `alpha_pattern`. PEFT takes it for a regular expression that matches the end of a module's
/// name from a dot on (from the start, after `^`); in practice it is that end itself, dots escaped or not. Others are
/// refused rather than run, as a regular expression from a stranger can take forever.
struct ModulePattern {
  private let name: String
  private let isWhole: Bool

  init?(_ text: String) {
    let whole = text.bytes.dropping(prefix: "^")
    isWhole = whole != nil
    name = (whole ?? text).bytes.replacing("\\.", with: ".")
    let isPlain = name.unicodeScalars.allSatisfy {
      ("a"..."z").contains($0) || ("A"..."Z").contains($0) || ("0"..."9").contains($0) || $0 == "_"
        || $0 == "."
        || $0 == "-"
    }
    guard isPlain, !name.isEmpty else { return nil }
  }

  func matches(_ module: String) -> Bool {
    module.hasSameBytes(as: name) || (!isWhole && module.bytes.hasSuffix("." + name))
  }
}
