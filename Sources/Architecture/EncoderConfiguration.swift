import Files
import JSON

/// The shape and constants of an encoder.
package struct EncoderConfiguration: Equatable, Sendable {
  /// What a block computes of its intermediate activations.
  package enum Activation: String, Equatable, Sendable {
    /// x / 2 · (1 + erf(x / √2))
    case gelu
    /// x / 2 · (1 + tanh(√(2 / π) · (x + 0.044715 x³)))
    case geluTanh
    case relu

    /// - Parameter name: `hidden_act` of `config.json`.
    package init?(configured name: String) {
      switch name {
      case "gelu": self = .gelu
      case "gelu_new", "gelu_pytorch_tanh": self = .geluTanh
      case "relu": self = .relu
      default: return nil
      }
    }
  }

  package var hiddenSize: Int
  package var intermediateSize: Int
  package var layerCount: Int
  package var attentionHeads: Int
  package var vocabularySize: Int
  /// Positions that have vectors: the longest text in tokens.
  package var positionCount: Int
  package var textTypeCount: Int
  package var layerNormEps: Float
  package var activation: Activation
  /// Numbers that the classifier gives; nil: the model has none.
  package var labelCount: Int?

  package init(
    hiddenSize: Int, intermediateSize: Int, layerCount: Int, attentionHeads: Int, vocabularySize: Int,
    positionCount: Int, textTypeCount: Int, layerNormEps: Float, activation: Activation, labelCount: Int?
  ) {
    self.hiddenSize = hiddenSize
    self.intermediateSize = intermediateSize
    self.layerCount = layerCount
    self.attentionHeads = attentionHeads
    self.vocabularySize = vocabularySize
    self.positionCount = positionCount
    self.textTypeCount = textTypeCount
    self.layerNormEps = layerNormEps
    self.activation = activation
    self.labelCount = labelCount
  }

  package var headDim: Int { hiddenSize / attentionHeads }
}

/// What `config.json` says of an encoder beyond what decoders have as well.
package struct EncoderSettings: Equatable, Sendable {
  package var textTypeCount: Int
  package var activation: EncoderConfiguration.Activation
  package var labelCount: Int?

  /// - Throws: ``JSONFieldError`` for what is missing, out of range, or not computed.
  init(_ fields: JSONFields) throws {
    let name = try fields.string("hidden_act") ?? "gelu"
    guard let activation = EncoderConfiguration.Activation(configured: name) else {
      throw fields.refusal(
        "hidden_act", "is \"\(name)\"; gelu, gelu_new, gelu_pytorch_tanh and relu are supported")
    }
    self.activation = activation
    textTypeCount = try fields.integer("type_vocab_size", in: 1...(1 << 10)) ?? 2
    if let kind = try fields.string("position_embedding_type"), kind != "absolute" {
      throw fields.refusal(
        "position_embedding_type", "is \"\(kind)\"; only learned absolute positions are supported")
    }
    for key in ["is_decoder", "add_cross_attention"] where try fields.bool(key) == true {
      throw fields.refusal(key, "is true; only encoders of their own are supported")
    }
    let classes = fields["architectures"]?.arrayValue?.compactMap(\.stringValue) ?? []
    guard classes.contains(where: { $0.bytes.hasSuffix("ForSequenceClassification") }) else { return }
    let named = fields["id2label"]?.objectValue?.members.count
    let counted = try fields.integer("num_labels", in: 1...(1 << 16))
    if let named, let counted, named != counted {
      throw fields.refusal("num_labels", "is \(counted), but id2label names \(named)")
    }
    // transformers' default.
    labelCount = counted ?? named ?? 2
  }
}

/// How a checkpoint spells the names of its tensors, where its family has several ways.
package struct TensorNaming: Equatable, Sendable {
  /// Whether ``ModelFamily/bodyPrefix`` stands before the names of the body.
  package var hasBodyPrefix = false
  /// Whether layer norms have the family's older names.
  package var hasLegacyNorms = false

  package init() {}

  /// - Parameter names: of the tensors of a checkpoint.
  package init(_ names: some Sequence<String>, family: ModelFamily) {
    let embedding = family.tensors[0]
    let name = "\(family.bodyPrefix)\(embedding.name).\(embedding.part.rawValue)".bytes
    for found in names {
      if !family.bodyPrefix.isEmpty, found.bytes == name { hasBodyPrefix = true }
      if let legacy = family.legacyNormParts, found.bytes.hasSuffix("LayerNorm.\(legacy.weight)") {
        hasLegacyNorms = true
      }
    }
  }
}
