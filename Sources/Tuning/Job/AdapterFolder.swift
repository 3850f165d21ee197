import Compute
import Files
import Foundation
import JSON
import Safetensors
import Tensors
import Training

/// An adapter on disk, as PEFT's `save_pretrained` lays it out: `adapter_config.json`, `adapter_model.safetensors`, and a model card.
package struct AdapterFolder {
  package static let configurationName = "adapter_config.json"
  package static let weightsName = "adapter_model.safetensors"
  static let prefix = "base_model.model."

  /// In what type the tensors are stored.
  package enum StoredType: String, CaseIterable, Sendable {
    case f32
    case bf16

    var dtype: DType { self == .f32 ? .f32 : .bf16 }
  }

  package var options: LoRAOptions
  package var parameters: [Parameter]
  /// Where PEFT finds the model: a folder, or a name on the Hugging Face Hub.
  package var baseModel: String
  package var type: StoredType

  package init(options: LoRAOptions, parameters: [Parameter], baseModel: String, type: StoredType = .f32) {
    self.options = options
    self.parameters = parameters
    self.baseModel = baseModel
    self.type = type
  }

  // MARK: Writing

  /// Ends of the names of modules with low-rank updates, in the order of the model.
  package var targets: [String] { AdapterFolder.lastParts(parameters, droppingSuffix: ".lora_A.weight") }

  private static func lastParts(_ parameters: [Parameter], droppingSuffix suffix: String) -> [String] {
    var seen: Set<ByteText> = []
    return parameters.compactMap { parameter in
      guard let module = parameter.name.bytes.dropping(suffix: suffix),
        let last = module.bytes.split(separator: ".").last.map({ String($0) }),
        seen.insert(last.bytes).inserted
      else { return nil }
      return last
    }
  }

  /// Keys that every version of PEFT knows.
  package var configuration: JSONValue {
    let saved = AdapterFolder.lastParts(
      parameters.filter { !$0.name.bytes.contains(".lora_") }, droppingSuffix: ".weight")
    return [
      "alpha_pattern": [:], "auto_mapping": nil, "base_model_name_or_path": .string(baseModel),
      "bias": "none", "fan_in_fan_out": false, "inference_mode": true, "init_lora_weights": true,
      "layers_pattern": nil, "layers_to_transform": nil, "lora_alpha": alphaNumber,
      "lora_dropout": .init(options.dropout),
      "modules_to_save": saved.isEmpty ? nil : .array(saved.map { .string($0) }), "peft_type": "LORA",
      "r": .init(options.rank), "rank_pattern": [:], "revision": nil,
      "target_modules": .array(targets.map { .string($0) }), "task_type": "CAUSAL_LM", "use_dora": false,
      "use_rslora": .bool(options.isRankStabilized),
    ]
  }

  /// PEFT writes whole numbers as such.
  private var alphaNumber: JSONValue {
    let alpha = options.alpha
    return alpha.rounded() == alpha && abs(alpha) < 0x1p53 ? .init(Int(alpha)) : .init(alpha)
  }

  /// Writes the configuration and the tensors.
  /// - Parameter folder: exists.
  package func write(into folder: String, pool: WorkerPool = .shared) throws {
    try AtomicFile.write(
      configuration.serialized(indent: 2), to: "\(folder)/\(AdapterFolder.configurationName)")
    let byName = Dictionary(uniqueKeysWithValues: parameters.map { ($0.name.bytes, $0) })
    try SafetensorsWriter.write(
      to: "\(folder)/\(AdapterFolder.weightsName)",
      tensors: parameters.map { TensorPlan($0.name, type.dtype, $0.shape) }
    ) { plan, emit in
      guard let parameter = byName[plan.name.bytes] else { return }
      guard type == .bf16 else { return try emit(UnsafeRawBufferPointer(parameter.values.buffer)) }
      let narrow = AlignedBuffer<UInt16>(count: parameter.count)
      pool.kernels.narrow(narrow.pointer, from: parameter.values.pointer, type: .bf16, count: parameter.count)
      try emit(UnsafeRawBufferPointer(narrow.buffer))
    }
  }

  // MARK: Reading

  /// The options of an adapter from which a tuning begins.
  /// - Throws: ``TuningError/Reason/otherAdapter(_:)`` for anything that is not the same update of every target.
  package static func options(ofFolder path: String) throws -> LoRAOptions {
    let file = "\(path)/\(configurationName)"
    guard FileManager.default.fileExists(atPath: file) else {
      throw TuningError(.otherAdapter("is not a PEFT adapter: it holds no \(configurationName)"), path: path)
    }
    guard let object = try JSONValue.parse(file: file).objectValue else {
      throw TuningError(.otherAdapter("is not a JSON object"), path: file)
    }
    func refuse(_ detail: String) -> TuningError { TuningError(.otherAdapter(detail), path: file) }
    let type = object["peft_type"]?.stringValue ?? "LORA"
    guard type == "LORA" else { throw refuse("peft_type is \(type); only LORA can be continued") }
    func isSet(_ value: JSONValue?) -> Bool {
      guard let value, !value.isNull else { return false }
      return value.boolValue != false && value.arrayValue?.isEmpty != true
        && value.objectValue?.isEmpty != true
    }
    for key in [
      "use_dora", "rank_pattern", "alpha_pattern", "layers_to_transform", "layers_pattern", "exclude_modules",
      "fan_in_fan_out", "lora_bias", "layer_replication", "trainable_token_indices", "target_parameters",
      "alora_invocation_tokens", "use_qalora", "use_bdlora", "megatron_config", "arrow_config",
      "velora_config", "kasa_config", "monteclora_config",
    ] where isSet(object[key]) {
      throw refuse("\(key) is \(object[key]?.serialized() ?? ""), which a tuning here does not continue")
    }
    if let bias = object["bias"]?.stringValue, bias != "none" {
      throw refuse("bias is \(bias): trained biases are not continued")
    }
    guard let rank = object["r"]?.intValue, rank > 0, rank <= 1 << 16 else {
      throw refuse("r is not a rank")
    }
    guard let alpha = object["lora_alpha"]?.doubleValue, alpha.isFinite else {
      throw refuse("lora_alpha is not a number")
    }
    guard let targets = object["target_modules"]?.arrayValue, !targets.isEmpty else {
      throw refuse(
        "target_modules is not a list of modules' names; a pattern is not continued: pass the modules with --target"
      )
    }
    return LoRAOptions(
      rank: rank, alpha: alpha, isRankStabilized: object["use_rslora"]?.boolValue ?? false,
      dropout: object["lora_dropout"]?.doubleValue ?? 0, targets: targets.compactMap(\.stringValue),
      savedModules: (object["modules_to_save"]?.arrayValue ?? []).compactMap(\.stringValue))
  }

  /// Reads the values of an adapter into parameters that were made by its ``options(ofFolder:)``.
  /// - Throws: ``TuningError/Reason/otherAdapter(_:)`` when a tensor is missing, is of another shape, or is one too many.
  package static func load(_ path: String, into parameters: [Parameter], pool: WorkerPool = .shared) throws {
    let file = "\(path)/\(weightsName)"
    guard FileManager.default.fileExists(atPath: file) else {
      throw ForeignWeights.refusal(ofFolder: path)
        ?? TuningError(.otherAdapter("holds no \(weightsName)"), path: path)
    }
    let table = try SafetensorsFile(path: file)
    func refuse(_ detail: String) -> TuningError { TuningError(.otherAdapter(detail), path: file) }
    // Older files keep the adapter's own name.
    let found = Dictionary(
      table.tensors.map { (plainName($0.name).bytes, $0) }, uniquingKeysWith: { first, _ in first })
    for parameter in parameters {
      guard let tensor = found[parameter.name.bytes] else {
        throw refuse("does not hold \(parameter.name): it was trained on another model or on other modules")
      }
      guard tensor.shape == parameter.shape else {
        throw refuse("\(tensor.name) has the shape \(tensor.shape), expected \(parameter.shape)")
      }
      let type: KernelType
      switch tensor.dtype {
      case .f32: type = .f32
      case .f16: type = .f16
      case .bf16: type = .bf16
      default: throw refuse("\(tensor.name) has the type \(tensor.dtype.rawValue), expected F32, F16 or BF16")
      }
      guard let base = table.bytes(of: tensor).baseAddress else { continue }
      withExtendedLifetime(table) {
        pool.kernels.widen(parameter.values.pointer, from: base, type: type, count: parameter.count)
      }
      guard parameter.values.buffer.allSatisfy(\.isFinite) else {
        throw refuse("\(tensor.name) holds a value that is not a finite number")
      }
    }
    let known = Set(parameters.map(\.name.bytes))
    if let other = table.tensors.first(where: { !known.contains(plainName($0.name).bytes) }) {
      throw refuse("holds \(other.name), which is none of the tensors that are trained here")
    }
  }

  private static func plainName(_ name: String) -> String {
    var name = name
    while let inner = name.bytes.dropping(prefix: prefix + prefix) { name = prefix + inner }
    for part in [".lora_A.", ".lora_B."] {
      guard let range = name.bytes.range(of: part) else { continue }
      return String(name[..<range.upperBound]) + "weight"
    }
    return name
  }
}
