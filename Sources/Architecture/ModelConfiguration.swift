import Files
import JSON
import Safetensors
import Tensors

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
    let fields = try JSONFields(json, document: label)
    let object = fields.object
    self.json = object

    let type = try fields.requiredString("model_type")
    guard let family = Family(rawValue: type) else {
      throw fields.refusal("model_type", "is \"\(type)\"; supported are zhinao, llama, qwen2")
    }
    self.family = family
    if let activation = try fields.string("hidden_act"), activation != "silu" {
      throw fields.refusal("hidden_act", "is \"\(activation)\"; this decoder computes silu only")
    }

    hiddenSize = try fields.requiredInteger("hidden_size", in: 1...(1 << 20))
    intermediateSize = try fields.requiredInteger("intermediate_size", in: 1...(1 << 22))
    hiddenLayers = try fields.requiredInteger("num_hidden_layers", in: 1...4096)
    attentionHeads = try fields.requiredInteger("num_attention_heads", in: 1...(1 << 14))
    kvHeads = try fields.integer("num_key_value_heads", in: 1...(1 << 14)) ?? attentionHeads
    vocabularySize = try fields.requiredInteger("vocab_size", in: 1...(1 << 24))
    guard attentionHeads % kvHeads == 0 else {
      throw fields.refusal(
        "num_key_value_heads", "is \(kvHeads), which does not divide \(attentionHeads) attention heads")
    }
    if fields.isPresent("head_dim") {
      headDim = try fields.requiredInteger("head_dim", in: 1...(1 << 12))
    } else {
      guard hiddenSize % attentionHeads == 0 else {
        throw fields.refusal(
          "hidden_size", "is \(hiddenSize), not a multiple of \(attentionHeads) heads; head_dim is needed")
      }
      headDim = hiddenSize / attentionHeads
    }
    maxPositionEmbeddings =
      try fields.integer("max_position_embeddings", in: 1...(1 << 30)) ?? (family == .llama ? 2048 : 8192)
    rmsNormEps = try fields.requiredNumber("rms_norm_eps")
    guard rmsNormEps > 0 else { throw fields.refusal("rms_norm_eps", "is \(rmsNormEps), not positive") }
    partialRotaryFactor = try fields.number("partial_rotary_factor") ?? 1
    guard partialRotaryFactor > 0, partialRotaryFactor <= 1,
      Int(Double(headDim) * partialRotaryFactor) >= 2, Int(Double(headDim) * partialRotaryFactor) % 2 == 0
    else {
      throw fields.refusal(
        "partial_rotary_factor", "of heads of \(headDim) does not give an even number of rotated elements")
    }
    logitScale = try fields.number("logit_scale") ?? 1
    tieWordEmbeddings = try fields.bool("tie_word_embeddings") ?? false

    // transformers 5 writes one object for what used to be rope_theta and rope_scaling.
    let parameters = try fields.object("rope_parameters")
    ropeTheta = try parameters?.requiredNumber("rope_theta") ?? fields.number("rope_theta") ?? 10000
    guard ropeTheta > 1, ropeTheta.isFinite else {
      throw fields.refusal("rope_theta", "is \(ropeTheta), expected more than 1")
    }
    ropeScaling = try ModelConfiguration.scaling(
      parameters ?? fields.object("rope_scaling"), context: maxPositionEmbeddings)

    let attentionBias = try fields.bool("attention_bias") ?? fields.bool("bias") ?? false
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
    mlpBias = try fields.bool("mlp_bias") ?? false

    try ModelConfiguration.refuseWindow(fields, family: family)
    eosTokenIDs = tokenIDs(object["eos_token_id"])
  }

  private static func refuseWindow(_ fields: JSONFields, family: Family) throws {
    for key in ["sliding_window", "interleaved_sliding_window"] {
      guard let value = fields[key] else { continue }
      // Qwen2 names a window that only use_sliding_window switches on.
      if family == .qwen2, try fields.bool("use_sliding_window") != true { continue }
      throw fields.refusal(key, "is \(value.serialized()); this decoder attends to the whole context only")
    }
  }

  /// - Parameter scaling: the object `rope_parameters` or `rope_scaling`.
  private static func scaling(_ scaling: JSONFields?, context: Int) throws -> RopeScaling {
    guard let scaling else { return .none }
    let type = try scaling.string("rope_type") ?? scaling.string("type") ?? "default"
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
        originalContext: try scaling.integer("original_max_position_embeddings", in: 1...(1 << 30)) ?? context
      )
    default:
      throw scaling.refusal(
        "rope_type", "is \"\(type)\"; the supported kinds of scaling are default, linear and llama3")
    }
  }
}

/// `eos_token_id` may be one id, a list, or null.
private func tokenIDs(_ value: JSONValue?) -> [Int] {
  if let id = value?.intValue { return [id] }
  return value?.arrayValue?.compactMap(\.intValue) ?? []
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
    let fields = try JSONFields(json, document: label)
    eosTokenIDs = tokenIDs(fields["eos_token_id"])
    padTokenID = try fields.integer("pad_token_id")
    doSample = try fields.bool("do_sample")
    temperature = try fields.number("temperature")
    topK = try fields.integer("top_k")
    topP = try fields.number("top_p")
    repetitionPenalty = try fields.number("repetition_penalty")
    maxNewTokens = try fields.integer("max_new_tokens")
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
