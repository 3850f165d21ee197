import Files
import JSON
import Tensors

/// What `config.json` says about a model of one of the known families.
///
/// A setting that cannot be honoured is refused by name; nothing is silently ignored.
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
  /// Of the norms: RMS norms of decoders, layer norms of encoders.
  package var rmsNormEps = 0.0
  package var ropeTheta = 10_000.0
  package var ropeScaling = RotaryParameters.Scaling.none
  package var partialRotaryFactor = 1.0
  package var logitScale = 1.0
  package var tieWordEmbeddings = false
  /// Biases that the architecture has; others in a file must be zero.
  package var qkvBias = false
  package var outputBias = false
  package var mlpBias = false
  package var eosTokenIDs: [Int] = []
  /// What only encoders have; nil: a decoder.
  package var encoderSettings: EncoderSettings?
  /// How the checkpoint spells its tensors' names.
  package var naming = TensorNaming()
  /// The file itself, for what is written back.
  package var json: JSONObject
  /// Where the file says one thing twice and differently.
  package private(set) var discrepancies: [Discrepancy] = []

  /// The type of the weights the file declares, if it is one of the three that are used.
  package var declaredType: DType? {
    switch json["dtype"]?.stringValue ?? json["torch_dtype"]?.stringValue {
    case "bfloat16": .bf16
    case "float16": .f16
    case "float32": .f32
    default: nil
    }
  }

  /// The head is a matrix of its own, whatever the file says.
  package mutating func untie() {
    tieWordEmbeddings = false
    json["tie_word_embeddings"] = false
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

  /// The encoder that the file describes; nil: it describes a decoder.
  package var encoder: EncoderConfiguration? {
    guard let settings = encoderSettings else { return nil }
    return EncoderConfiguration(
      hiddenSize: hiddenSize, intermediateSize: intermediateSize, layerCount: hiddenLayers,
      attentionHeads: attentionHeads, vocabularySize: vocabularySize, positionCount: maxPositionEmbeddings,
      textTypeCount: settings.textTypeCount, layerNormEps: Float(rmsNormEps),
      activation: settings.activation, labelCount: settings.labelCount)
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
      if let reason = ModelConfiguration.reasons[type] {
        throw fields.refusal("model_type", "is \"\(type)\", which \(reason)")
      }
      let known = families.map(\.name).joined(separator: ", ")
      throw fields.refusal("model_type", "is \"\(type)\"; the supported families are \(known)")
    }
    self.family = family
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
    try noteTypes(fields, label: label)
    guard family.kind == .decoder else {
      try readEncoder(fields)
      return
    }

    if let activation = try fields.string("hidden_act"), activation != "silu" {
      throw fields.refusal("hidden_act", "is \"\(activation)\"; only silu is supported")
    }
    rmsNormEps = try fields.requiredNumber("rms_norm_eps")
    guard rmsNormEps > 0 else { throw fields.refusal("rms_norm_eps", "is \(rmsNormEps), not positive") }
    let rotary = try RotarySettings(fields, context: maxPositionEmbeddings, family: family)
    ropeTheta = rotary.theta
    ropeScaling = rotary.scaling
    partialRotaryFactor = rotary.partialFactor
    guard partialRotaryFactor > 0, partialRotaryFactor <= 1,
      Int(Double(headDim) * partialRotaryFactor) >= 2, Int(Double(headDim) * partialRotaryFactor) % 2 == 0
    else {
      throw fields.refusal(
        "partial_rotary_factor", "of heads of \(headDim) does not give an even number of rotated elements")
    }
    logitScale = try fields.number("logit_scale") ?? 1
    tieWordEmbeddings = try fields.bool("tie_word_embeddings") ?? false

    let attentionBias = try fields.bool("attention_bias") ?? fields.bool("bias") ?? false
    qkvBias = family.defaults.qkvBias.holds(configured: attentionBias)
    outputBias = family.defaults.outputBias.holds(configured: attentionBias)
    mlpBias = try fields.bool("mlp_bias") ?? false

    eosTokenIDs = tokenIDs(object["eos_token_id"])
    try refuseWindow(fields)
    discrepancies += rotary.discrepancies
  }

  /// Where the file names the type of its weights twice and differently.
  private mutating func noteTypes(_ fields: JSONFields, label: String) throws {
    if let type = try fields.string("dtype"), let older = try fields.string("torch_dtype"), type != older {
      discrepancies.append(
        Discrepancy(
          .elementType, path: label,
          "dtype is \(type) and torch_dtype is \(older); the first counts, as in transformers"))
    }
  }

  /// Why encoders that look like BERT are refused, by their `model_type`.
  private static let reasons = [
    "roberta": "numbers positions from pad_token_id + 1 and has a byte-level BPE tokenizer; use a BERT model",
    "xlm-roberta":
      "numbers positions from pad_token_id + 1 and has a SentencePiece tokenizer; use a BERT model",
    "camembert":
      "numbers positions from pad_token_id + 1 and has a SentencePiece tokenizer; use a BERT model",
    "nomic_bert": "rotates queries and keys instead of adding positions; use a BERT model",
    "new": "rotates queries and keys instead of adding positions; use a BERT model",
    "modernbert": "rotates queries and keys instead of adding positions; use a BERT model",
    "distilbert": "has other tensors and no kinds of text; use a BERT model",
    "deberta-v2": "has relative positions; use a BERT model",
    "mpnet": "has relative positions; use a BERT model",
    "electra": "has a projection of its embeddings; use a BERT model",
  ]

  /// What is left to read of an encoder.
  private mutating func readEncoder(_ fields: JSONFields) throws {
    guard headDim * attentionHeads == hiddenSize, kvHeads == attentionHeads else {
      throw fields.refusal("num_attention_heads", "heads of an encoder make up its hidden size, one key each")
    }
    encoderSettings = try EncoderSettings(fields)
    // transformers' default; 1e-12 counts as well, variances being computed in fp32.
    rmsNormEps = try fields.number("layer_norm_eps") ?? 1e-12
    guard rmsNormEps >= 0, rmsNormEps.isFinite else {
      throw fields.refusal("layer_norm_eps", "is \(rmsNormEps), not a small positive number")
    }
    qkvBias = true
    outputBias = true
  }

  /// Windows of attention are refused unless they never narrow what a token attends to.
  private func refuseWindow(_ fields: JSONFields) throws {
    if let types = fields["layer_types"]?.arrayValue,
      let other = types.first(where: { $0.stringValue != "full_attention" })
    {
      throw fields.refusal(
        "layer_types", "has \(other.serialized()); this decoder attends to the whole context only")
    }
    if let window = family.defaults.switchedWindow {
      guard try fields.bool("use_sliding_window") == true, fields["layer_types"] == nil else { return }
      let first = try fields.integer("max_window_layers") ?? window.firstLayer
      let isOff = fields.object["sliding_window"]?.isNull == true
      let size = try fields.integer("sliding_window") ?? window.size
      if isOff || first >= hiddenLayers || size >= maxPositionEmbeddings { return }
      throw fields.refusal(
        "use_sliding_window",
        "is true, with a window of \(size) from layer \(first) on; this decoder attends to the whole context only"
      )
    }
    for key in ["sliding_window", "interleaved_sliding_window"] {
      guard let value = fields[key] else { continue }
      throw fields.refusal(key, "is \(value.serialized()); this decoder attends to the whole context only")
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
  /// The model's configuration.
  /// - Parameter tensorNames: those of the checkpoint, which say how it spells them; nil: as the family does.
  /// - Throws: when there is no `config.json` or it describes something else than a model we can run.
  package func modelConfiguration(
    families: [ModelFamily] = ModelFamily.builtIn, tensorNames: [String]? = nil
  ) throws -> ModelConfiguration {
    guard let json = try json(named: "config.json") else {
      throw FileError(.cannotOpen, path: location, detail: "has no config.json")
    }
    var configuration = try ModelConfiguration(json, label: label(of: "config.json"), families: families)
    if let tensorNames { configuration.naming = TensorNaming(tensorNames, family: configuration.family) }
    return configuration
  }
}
