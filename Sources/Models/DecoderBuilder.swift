import Architecture
import Compute
import Tensors
import Transformer

/// Makes a decoder from a configuration and a source of weights.
package struct DecoderBuilder {
  package let configuration: DecoderConfiguration
  package let weights: any WeightSource
  package let index: TensorIndex
  package let arithmetic: Int4Arithmetic
  private var model: ModelConfiguration { index.configuration }

  package init(_ model: ModelConfiguration, weights: any WeightSource, arithmetic: Int4Arithmetic = .exact) {
    self.arithmetic = arithmetic
    configuration = model.decoder
    index = TensorIndex(model)
    self.weights = weights
  }

  private func linear(_ module: ModuleID) throws -> Linear {
    let shape = index.shape(of: module)
    return Linear(
      weight: try weights.matrix(module, out: shape.out, in: shape.in), bias: try bias(of: module),
      arithmetic: arithmetic)
  }

  /// The bias, if the architecture has one there. AutoGPTQ writes biases of zeros for modules that have none; anything
  /// else in such a place would change the result and is refused.
  private func bias(of module: ModuleID) throws -> AlignedBuffer<Float>? {
    guard let bias = index.tensor(TensorID(module, .bias)) else { return nil }
    let count = bias.shape[0]
    if bias.isRequired { return try weights.requiredVector(bias.id, count: count) }
    guard let extra = try weights.vector(bias.id, count: count) else { return nil }
    if let element = extra.buffer.firstIndex(where: { $0 != 0 }) {
      throw ModelError(
        .unexpectedBias(index: element, "\(extra[element])", family: model.family.name), path: weights.path,
        tensor: weights.label(of: bias.id))
    }
    return nil
  }

  package func layer(_ number: Int) throws -> DecoderLayer {
    func module(_ kind: ModuleKind) throws -> Linear { try linear(ModuleID(kind, layer: number)) }
    func norm(_ kind: ModuleKind) throws -> AlignedBuffer<Float> {
      try weights.requiredVector(TensorID(kind, layer: number), count: configuration.hiddenSize)
    }
    let qkv: DecoderLayer.QKVProjection =
      switch configuration.qkvLayout {
      case .interleaved: .fused(try module(.fusedQKV))
      case .separate: .separate(q: try module(.query), k: try module(.key), v: try module(.value))
      }
    return DecoderLayer(
      inputNorm: try norm(.inputNorm), qkv: qkv, o: try module(.attentionOutput),
      postAttentionNorm: try norm(.postAttentionNorm), gate: try module(.gate), up: try module(.up),
      down: try module(.down))
  }

  package func embedding() throws -> WeightMatrix {
    try weights.matrix(.embedding, out: configuration.vocabularySize, in: configuration.hiddenSize)
  }

  /// The output head, which may be the embedding.
  package func head() throws -> Linear {
    guard model.tieWordEmbeddings else { return try linear(.head) }
    let separate = try weights.separateHead(
      out: configuration.vocabularySize, in: configuration.hiddenSize)
    return Linear(weight: try separate ?? embedding(), arithmetic: arithmetic)
  }

  package func finalNorm() throws -> AlignedBuffer<Float> {
    try weights.requiredVector(TensorID(.finalNorm), count: configuration.hiddenSize)
  }

  /// In `fast` arithmetic attention is `fast`, too, if the model has integer weights; otherwise the arithmetic has no effect.
  package func decoder(pool: WorkerPool = .shared) throws -> Decoder {
    let layers = try (0..<configuration.layerCount).map(layer)
    let isFast = arithmetic == .fast && layers.contains(where: \.hasIntegers)
    return Decoder(
      configuration: configuration, embedding: try embedding(), layers: layers, finalNorm: try finalNorm(),
      head: try head(), attention: isFast ? .fast : .exact, pool: pool)
  }
}
