import Files
import JSON
import Tensors

/// What `config.json` says about a decoder of one of the known families.
///
/// A setting that this decoder cannot honour is refused by name; nothing is silently ignored.
package struct ModelConfiguration: Equatable, Sendable {
  package var family: ModelFamily
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
  package var ropeScaling: RotaryParameters.Scaling
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

  package var qkvLayout: DecoderConfiguration.QKVLayout { family.qkvLayout }

  /// The decoder that the file describes.
  package var decoder: DecoderConfiguration {
    DecoderConfiguration(
      hiddenSize: hiddenSize, intermediateSize: intermediateSize, layerCount: hiddenLayers,
      attentionHeads: attentionHeads, kvHeads: kvHeads, headDim: headDim, vocabularySize: vocabularySize,
      contextLength: maxPositionEmbeddings, rmsNormEps: Float(rmsNormEps),
      rotary: RotaryParameters(
        theta: ropeTheta, scaling: ropeScaling, rotaryDim: Int(Double(headDim) * partialRotaryFactor) / 2 * 2),
      qkvLayout: qkvLayout, logitScale: Float(logitScale))
  }

  /// - Parameters:
  ///   - label: the file's name in messages.
  ///   - families: those among which `model_type` chooses.
  /// - Throws: ``JSONFieldError`` for a field that is missing, out of range, or asks for something that is not computed.
  package init(_ json: JSONValue, label: String, families: [ModelFamily] = ModelFamily.builtIn) throws {
    let fields = try JSONFields(json, document: label)
    let object = fields.object
    self.json = object

    let type = try fields.requiredString("model_type")
    guard let family = families.first(where: { $0.name == type }) else {
      let known = families.map(\.name).joined(separator: ", ")
      throw fields.refusal("model_type", "is \"\(type)\"; the supported families are \(known)")
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
      try fields.integer("max_position_embeddings", in: 1...(1 << 30)) ?? family.defaults.contextLength
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
    qkvBias = family.defaults.qkvBias.holds(configured: attentionBias)
    outputBias = family.defaults.outputBias.holds(configured: attentionBias)
    mlpBias = try fields.bool("mlp_bias") ?? false

    try ModelConfiguration.refuseWindow(fields, family: family)
    eosTokenIDs = tokenIDs(object["eos_token_id"])
  }

  private static func refuseWindow(_ fields: JSONFields, family: ModelFamily) throws {
    for key in ["sliding_window", "interleaved_sliding_window"] {
      guard let value = fields[key] else { continue }
      // Qwen2's files name a window that only use_sliding_window switches on.
      if family.defaults.windowNeedsSwitch, try fields.bool("use_sliding_window") != true { continue }
      throw fields.refusal(key, "is \(value.serialized()); this decoder attends to the whole context only")
    }
  }

  /// - Parameter scaling: the object `rope_parameters` or `rope_scaling`.
  private static func scaling(_ scaling: JSONFields?, context: Int) throws -> RotaryParameters.Scaling {
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
        originalContext: Double(
          try scaling.integer("original_max_position_embeddings", in: 1...(1 << 30)) ?? context)
      )
    default:
      throw scaling.refusal(
        "rope_type", "is \"\(type)\"; the supported kinds of scaling are default, linear and llama3")
    }
  }
}

/// `eos_token_id` may be one id, a list, or null.
func tokenIDs(_ value: JSONValue?) -> [Int] {
  if let id = value?.intValue { return [id] }
  return value?.arrayValue?.compactMap(\.intValue) ?? []
}

extension ModelFamily.BiasRule {
  fileprivate func holds(configured: Bool) -> Bool {
    switch self {
    case .always: true
    case .never: false
    case .asConfigured: configured
    }
  }
}

extension ModelFiles {
  /// The decoder's configuration.
  /// - Throws: when there is no `config.json` or it describes something else than a decoder we can run.
  package func modelConfiguration(families: [ModelFamily] = ModelFamily.builtIn) throws -> ModelConfiguration
  {
    guard let json = try json(named: "config.json") else {
      throw FileError(.cannotOpen, path: location, detail: "has no config.json")
    }
    return try ModelConfiguration(json, label: label(of: "config.json"), families: families)
  }
}
