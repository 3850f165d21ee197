import FileSupport
import Numerics

/// What `config.json` says about a decoder, for `zhinao`, `llama` and `qwen2` models.
///
/// A setting that this decoder cannot honour is refused by name; nothing is silently ignored.
package struct ModelConfiguration: Equatable, Sendable {
  package enum Family: String, CaseIterable, Sendable { case zhinao, llama, qwen2 }

  package enum QKVLayout: Equatable, Sendable {
    /// One `qkv_proj`, per key/value head its queries, its key, its value.
    case interleavedFused
    /// `q_proj`, `k_proj`, `v_proj`.
    case separate
  }

  package enum RopeScaling: Equatable, Sendable {
    case none
    case linear(factor: Double)
    case llama3(factor: Double, lowFrequencyFactor: Double, highFrequencyFactor: Double, originalContext: Int)
  }

  package var family: Family
  package var hiddenSize: Int
  package var intermediateSize: Int
  package var hiddenLayers: Int
  package var attentionHeads: Int
  package var kvHeads: Int
  package var headDim: Int
  package var vocabularySize: Int
  package var maxPositionEmbeddings: Int
  package var rmsNormEps: Double
  package var ropeTheta: Double
  package var ropeScaling: RopeScaling
  package var partialRotaryFactor: Double
  package var logitScale: Double
  package var tieWordEmbeddings: Bool
  /// Biases that the architecture has; others in a file must be zero.
  package var qkvBias: Bool
  package var outputBias: Bool
  package var mlpBias: Bool
  package var eosTokenIDs: [Int]
  /// The file itself, for what is written back.
  package var json: JSONObject

  /// The type of the weights the file declares, if it is one of the three that are used.
  package var declaredType: DType? {
    switch (json["dtype"] ?? json["torch_dtype"])?.stringValue {
    case "bfloat16": .bf16
    case "float16": .f16
    case "float32": .f32
    default: nil
    }
  }

  package var qkvLayout: QKVLayout { family == .zhinao ? .interleavedFused : .separate }

  /// - Parameter label: the file's name in messages.
  package init(_ json: JSONValue, label: String) throws {
    guard let object = json.objectValue else {
      throw CheckpointError(path: label, detail: "is not a JSON object")
    }
    let fields = ConfigurationFields(object: object, label: label)
    self.json = object

    guard let type = object["model_type"]?.stringValue else { throw fields.bad("model_type", "is missing") }
    guard let family = Family(rawValue: type) else {
      throw fields.bad("model_type", "is \"\(type)\"; supported are zhinao, llama, qwen2")
    }
    self.family = family
    if let activation = object["hidden_act"]?.stringValue, activation != "silu" {
      throw fields.bad("hidden_act", "is \"\(activation)\"; this decoder computes silu only")
    }

    hiddenSize = try fields.size("hidden_size", limit: 1 << 20)
    intermediateSize = try fields.size("intermediate_size", limit: 1 << 22)
    hiddenLayers = try fields.size("num_hidden_layers", limit: 4096)
    attentionHeads = try fields.size("num_attention_heads", limit: 1 << 14)
    kvHeads = try fields.size("num_key_value_heads", limit: 1 << 14, default: attentionHeads)
    vocabularySize = try fields.size("vocab_size", limit: 1 << 24)
    guard attentionHeads % kvHeads == 0 else {
      throw fields.bad(
        "num_key_value_heads", "is \(kvHeads), which does not divide \(attentionHeads) attention heads")
    }
    if fields.isPresent("head_dim") {
      headDim = try fields.size("head_dim", limit: 1 << 12)
    } else {
      guard hiddenSize % attentionHeads == 0 else {
        throw fields.bad(
          "hidden_size", "is \(hiddenSize), not a multiple of \(attentionHeads) heads; head_dim is needed")
      }
      headDim = hiddenSize / attentionHeads
    }
    maxPositionEmbeddings = try fields.size(
      "max_position_embeddings", limit: 1 << 30, default: family == .llama ? 2048 : 8192)
    rmsNormEps = try fields.number("rms_norm_eps", nil)
    guard rmsNormEps > 0 else { throw fields.bad("rms_norm_eps", "is \(rmsNormEps), not positive") }
    partialRotaryFactor = try fields.number("partial_rotary_factor", 1)
    guard partialRotaryFactor > 0, partialRotaryFactor <= 1,
      Int(Double(headDim) * partialRotaryFactor) >= 2, Int(Double(headDim) * partialRotaryFactor) % 2 == 0
    else {
      throw fields.bad(
        "partial_rotary_factor", "of heads of \(headDim) does not give an even number of rotated elements")
    }
    logitScale = try fields.number("logit_scale", 1)
    tieWordEmbeddings = try fields.flag("tie_word_embeddings", false)

    // transformers 5 writes one object for what used to be rope_theta and rope_scaling.
    let parameters = object["rope_parameters"]?.objectValue
    let nested = parameters.map { ConfigurationFields(object: $0, label: label) }
    ropeTheta = try nested?.number("rope_theta", nil) ?? fields.number("rope_theta", 10000)
    guard ropeTheta > 1, ropeTheta.isFinite else {
      throw fields.bad("rope_theta", "is \(ropeTheta), expected more than 1")
    }
    ropeScaling = try ModelConfiguration.scaling(
      parameters.map { .object($0) } ?? object["rope_scaling"], context: maxPositionEmbeddings, fields: fields
    )

    let attentionBias = try fields.flag("attention_bias", fields.flag("bias", false))
    switch family {
    case .zhinao:
      qkvBias = true
      outputBias = attentionBias
    case .llama:
      qkvBias = attentionBias
      outputBias = attentionBias
    case .qwen2:
      qkvBias = true
      outputBias = false
    }
    mlpBias = try fields.flag("mlp_bias", false)

    try ModelConfiguration.refuseWindow(object, family: family, fields: fields)
    eosTokenIDs = tokenIDs(object["eos_token_id"])
  }

  private static func refuseWindow(_ object: JSONObject, family: Family, fields: ConfigurationFields) throws {
    for key in ["sliding_window", "interleaved_sliding_window"] {
      guard let value = object[key], !value.isNull else { continue }
      // Qwen2 names a window that only use_sliding_window switches on.
      if family == .qwen2, try !fields.flag("use_sliding_window", false) { continue }
      throw fields.bad(key, "is \(value.serialized()); this decoder attends to the whole context only")
    }
  }

  private static func scaling(_ value: JSONValue?, context: Int, fields: ConfigurationFields) throws
    -> RopeScaling
  {
    guard let value, !value.isNull else { return .none }
    guard let object = value.objectValue else { throw fields.bad("rope_scaling", "is not an object") }
    let scaling = ConfigurationFields(object: object, label: fields.label)
    let type = object["rope_type"]?.stringValue ?? object["type"]?.stringValue ?? "default"
    switch type {
    case "default": return .none
    case "linear":
      let factor = try scaling.number("factor", nil)
      guard factor >= 1 else { throw fields.bad("rope_scaling.factor", "is \(factor), expected at least 1") }
      return .linear(factor: factor)
    case "llama3":
      let result = RopeScaling.llama3(
        factor: try scaling.number("factor", nil),
        lowFrequencyFactor: try scaling.number("low_freq_factor", nil),
        highFrequencyFactor: try scaling.number("high_freq_factor", nil),
        originalContext: try scaling.size(
          "original_max_position_embeddings", limit: 1 << 30, default: context))
      if case .llama3(let factor, let low, let high, _) = result, factor > 0, low > 0, high > low {
        return result
      }
      throw fields.bad(
        "rope_scaling", "has llama3 factors that are not 0 < factor, 0 < low_freq_factor < high_freq_factor")
    default:
      throw fields.bad("rope_scaling", "has type \"\(type)\"; supported are default, linear, llama3")
    }
  }
}

/// `eos_token_id` may be one id, a list, or null.
private func tokenIDs(_ value: JSONValue?) -> [Int] {
  if let id = value?.intValue { return [id] }
  return value?.arrayValue?.compactMap(\.intValue) ?? []
}

/// Fields of a JSON configuration with checks and named errors.
struct ConfigurationFields {
  let object: JSONObject
  let label: String

  func bad(_ key: String, _ detail: String) -> CheckpointError {
    CheckpointError(path: label, detail: "\(key) \(detail)")
  }

  func isPresent(_ key: String) -> Bool { object[key].map { !$0.isNull } ?? false }

  /// A whole number in `1 ... limit`.
  func size(_ key: String, limit: Int, default standard: Int? = nil) throws -> Int {
    guard isPresent(key) else {
      guard let standard else { throw bad(key, "is missing") }
      return standard
    }
    guard let value = object[key]?.intValue, value >= 1, value <= limit else {
      throw bad(key, "is \(object[key]?.serialized() ?? "?"), expected a whole number from 1 to \(limit)")
    }
    return value
  }

  func number(_ key: String, _ standard: Double?) throws -> Double {
    guard isPresent(key) else {
      guard let standard else { throw bad(key, "is missing") }
      return standard
    }
    guard let value = object[key]?.doubleValue, value.isFinite else {
      throw bad(key, "is \(object[key]?.serialized() ?? "?"), expected a number")
    }
    return value
  }

  func flag(_ key: String, _ standard: @autoclosure () throws -> Bool) throws -> Bool {
    guard isPresent(key) else { return try standard() }
    guard let value = object[key]?.boolValue else {
      throw bad(key, "is \(object[key]?.serialized() ?? "?"), expected true or false")
    }
    return value
  }
}

/// What `generation_config.json` says; nil where it says nothing.
package struct GenerationConfiguration: Equatable, Sendable {
  package var eosTokenIDs: [Int] = []
  package var padTokenID: Int?
  package var doSample: Bool?
  package var temperature: Double?
  package var topK: Int?
  package var topP: Double?
  package var repetitionPenalty: Double?
  package var maxNewTokens: Int?

  package init() {}

  package init(_ json: JSONValue, label: String) throws {
    guard let object = json.objectValue else {
      throw CheckpointError(path: label, detail: "is not a JSON object")
    }
    let fields = ConfigurationFields(object: object, label: label)
    func number(_ key: String) throws -> Double? { fields.isPresent(key) ? try fields.number(key, nil) : nil }
    func whole(_ key: String) throws -> Int? {
      guard fields.isPresent(key) else { return nil }
      guard let value = object[key]?.intValue else { throw fields.bad(key, "is not a whole number") }
      return value
    }
    eosTokenIDs = tokenIDs(object["eos_token_id"])
    padTokenID = try whole("pad_token_id")
    doSample = fields.isPresent("do_sample") ? try fields.flag("do_sample", false) : nil
    temperature = try number("temperature")
    topK = try whole("top_k")
    topP = try number("top_p")
    repetitionPenalty = try number("repetition_penalty")
    maxNewTokens = try whole("max_new_tokens")
  }
}

extension ModelFiles {
  /// The decoder's configuration.
  /// - Throws: when there is no `config.json` or it describes something else than a decoder we can run.
  package func modelConfiguration() throws -> ModelConfiguration {
    guard let json = try json(named: "config.json") else {
      throw CheckpointError(path: location, detail: "has no config.json", category: .cannotOpenInput)
    }
    return try ModelConfiguration(json, label: label(of: "config.json"))
  }

  /// Defaults for generation; empty when there is no `generation_config.json`.
  package func generationConfiguration() throws -> GenerationConfiguration {
    guard let json = try json(named: "generation_config.json") else { return GenerationConfiguration() }
    return try GenerationConfiguration(json, label: label(of: "generation_config.json"))
  }
}
