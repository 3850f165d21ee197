import Architecture
import Compute
import Tensors
import Transformer

extension DecoderConfiguration {
  /// The decoder that a `config.json` describes.
  package init(_ c: ModelConfiguration) {
    let scaling: RotaryParameters.Scaling =
      switch c.ropeScaling {
      case .none: .none
      case .linear(let factor): .linear(factor: factor)
      case .llama3(let factor, let low, let high, let original):
        .llama3(
          factor: factor, lowFrequencyFactor: low, highFrequencyFactor: high,
          originalContext: Double(original))
      }
    self.init(
      hiddenSize: c.hiddenSize, intermediateSize: c.intermediateSize, layerCount: c.hiddenLayers,
      attentionHeads: c.attentionHeads, kvHeads: c.kvHeads, headDim: c.headDim,
      vocabularySize: c.vocabularySize, contextLength: c.maxPositionEmbeddings,
      rmsNormEps: Float(c.rmsNormEps),
      rotary: RotaryParameters(
        theta: c.ropeTheta, scaling: scaling,
        rotaryDim: Int(Double(c.headDim) * c.partialRotaryFactor) / 2 * 2),
      qkvLayout: c.qkvLayout == .interleavedFused ? .interleaved : .separate,
      logitScale: Float(c.logitScale))
  }
}

/// Names of a decoder's tensors.
package enum DecoderNames {
  package static let embedding = "model.embed_tokens"
  package static let finalNorm = "model.norm.weight"
  package static let head = "lm_head"
  package static func layer(_ index: Int) -> String { "model.layers.\(index)" }

  /// The quantizable modules of a layer in the order they are solved, with the modules that share an input together.
  package static func stages(_ layout: DecoderConfiguration.QKVLayout) -> [[String]] {
    let qkv =
      layout == .interleaved
      ? ["self_attn.qkv_proj"] : ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"]
    return [qkv, ["self_attn.o_proj"], ["mlp.gate_proj", "mlp.up_proj"], ["mlp.down_proj"]]
  }

  /// `[outFeatures, inFeatures]` of a module of a layer.
  package static func shape(of module: String, _ c: DecoderConfiguration) -> (out: Int, in: Int) {
    switch module {
    case "self_attn.qkv_proj": (c.qkvWidth, c.hiddenSize)
    case "self_attn.q_proj": (c.attentionWidth, c.hiddenSize)
    case "self_attn.k_proj", "self_attn.v_proj": (c.kvHeads * c.headDim, c.hiddenSize)
    case "self_attn.o_proj": (c.hiddenSize, c.attentionWidth)
    case "mlp.gate_proj", "mlp.up_proj": (c.intermediateSize, c.hiddenSize)
    case "mlp.down_proj": (c.hiddenSize, c.intermediateSize)
    default: preconditionFailure("not a module of a decoder layer: \(module)")
    }
  }
}

/// Makes a decoder from a configuration and a source of weights.
package struct DecoderBuilder {
  package let configuration: DecoderConfiguration
  package let weights: any WeightSource
  package let model: ModelConfiguration
  package let arithmetic: Int4Arithmetic
  package var tied: Bool { model.tieWordEmbeddings }

  package init(_ model: ModelConfiguration, weights: any WeightSource, arithmetic: Int4Arithmetic = .exact) {
    self.arithmetic = arithmetic
    configuration = DecoderConfiguration(model)
    self.model = model
    self.weights = weights
  }

  package func linear(_ module: String, out: Int, in inFeatures: Int) throws -> Linear {
    Linear(
      weight: try weights.matrix(module, out: out, in: inFeatures), bias: try bias(of: module, count: out),
      arithmetic: arithmetic)
  }

  /// The bias, if the architecture has one there. AutoGPTQ writes biases of zeros for modules that have none; anything
  /// else in such a place would change the result and is refused.
  private func bias(of module: String, count: Int) throws -> AlignedBuffer<Float>? {
    let name = module + ".bias"
    let isExpected =
      if module.hasSuffix("q_proj") || module.hasSuffix("k_proj") || module.hasSuffix("v_proj")
        || module.hasSuffix("qkv_proj")
      { model.qkvBias } else if module.hasSuffix("o_proj") {
        model.outputBias
      } else if module.contains(".mlp.") {
        model.mlpBias
      } else { false }
    if isExpected { return try weights.requiredVector(name, count: count) }
    guard let extra = try weights.vector(name, count: count) else { return nil }
    if let index = extra.buffer.firstIndex(where: { $0 != 0 }) {
      throw ModelError(
        path: weights.path, tensor: name,
        detail:
          "is not zero (element \(index) is \(extra[index])), but \(model.family.rawValue) models with this "
          + "configuration have no bias there")
    }
    return nil
  }

  package func layer(_ index: Int) throws -> DecoderLayer {
    let c = configuration
    let prefix = DecoderNames.layer(index)
    func module(_ name: String) throws -> Linear {
      let shape = DecoderNames.shape(of: name, c)
      return try linear("\(prefix).\(name)", out: shape.out, in: shape.in)
    }
    let qkv: DecoderLayer.QKVProjection =
      switch c.qkvLayout {
      case .interleaved: .fused(try module("self_attn.qkv_proj"))
      case .separate:
        .separate(
          q: try module("self_attn.q_proj"), k: try module("self_attn.k_proj"),
          v: try module("self_attn.v_proj"))
      }
    return DecoderLayer(
      inputNorm: try weights.requiredVector("\(prefix).input_layernorm.weight", count: c.hiddenSize),
      qkv: qkv, o: try module("self_attn.o_proj"),
      postAttentionNorm: try weights.requiredVector(
        "\(prefix).post_attention_layernorm.weight", count: c.hiddenSize),
      gate: try module("mlp.gate_proj"), up: try module("mlp.up_proj"), down: try module("mlp.down_proj"))
  }

  package func embedding() throws -> WeightMatrix {
    try weights.matrix(
      DecoderNames.embedding, out: configuration.vocabularySize, in: configuration.hiddenSize)
  }

  package func decoder(pool: WorkerPool = .shared) throws -> Decoder {
    let c = configuration
    let embedding = try embedding()
    let head =
      tied
      ? Linear(
        weight: try weights.separateHead(out: c.vocabularySize, in: c.hiddenSize) ?? embedding,
        arithmetic: arithmetic)
      : try linear(DecoderNames.head, out: c.vocabularySize, in: c.hiddenSize)
    return Decoder(
      configuration: c, embedding: embedding, layers: try (0..<c.layerCount).map(layer),
      finalNorm: try weights.requiredVector(DecoderNames.finalNorm, count: c.hiddenSize), head: head,
      pool: pool)
  }
}
