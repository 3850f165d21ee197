import Architecture
import Compute
import Tensors
import Transformer

/// Makes an encoder from a configuration and a source of weights.
package struct EncoderBuilder {
  package let configuration: EncoderConfiguration
  package let weights: any WeightSource
  package let index: TensorIndex
  package let arithmetic: Int4Arithmetic
  package let pool: WorkerPool

  /// - Precondition: the configuration is an encoder's.
  package init(
    _ model: ModelConfiguration, weights: any WeightSource, arithmetic: Int4Arithmetic = .exact,
    pool: WorkerPool = .shared
  ) {
    guard let configuration = model.encoder else { preconditionFailure("not an encoder's configuration") }
    self.configuration = configuration
    self.weights = weights
    self.arithmetic = arithmetic
    self.pool = pool
    index = TensorIndex(model)
  }

  private func linear(_ module: ModuleID) throws -> Linear {
    let shape = index.shape(of: module)
    let weight = try weights.matrix(module, out: shape.out, in: shape.in)
    return Linear(
      weight: inPanels(weight),
      bias: try weights.requiredVector(TensorID(module, .bias), count: shape.out), arithmetic: arithmetic)
  }

  /// Rows as panels of floats in memory: an encoder is small, and its products would bring rows into that order every time.
  private func inPanels(_ weight: WeightMatrix) -> WeightMatrix {
    guard case .rows(let rows) = weight else { return weight }
    let (out, inFeatures) = (rows.outFeatures, rows.inFeatures)
    let panels = AlignedBuffer<Float>(
      count: PanelMatrix.byteCount(outFeatures: out, inFeatures: inFeatures, dtype: .f32) / 4)
    let kernels = pool.kernels
    let target = DisjointWrites(panels.pointer)
    pool.runRanges((out + panelWidth - 1) / panelWidth) { range in
      for panel in range {
        kernels.packPanel(
          target + panel * panelWidth * inFeatures,
          from: rows.elements + panel * panelWidth * inFeatures * rows.dtype.byteCount,
          type: rows.dtype.kernelType, rowStride: inFeatures, rows: min(panelWidth, out - panel * panelWidth),
          k: inFeatures)
      }
    }
    return .panels(
      PanelMatrix(
        elements: panels.pointer, dtype: .f32, outFeatures: out, inFeatures: inFeatures, owner: panels))
  }

  private func norm(_ kind: ModuleKind, layer: Int? = nil) throws -> LayerNorm {
    func vector(_ part: TensorPart) throws -> AlignedBuffer<Float> {
      try weights.requiredVector(TensorID(kind, part, layer: layer), count: configuration.hiddenSize)
    }
    return LayerNorm(weight: try vector(.weight), bias: try vector(.bias))
  }

  package func layer(_ number: Int) throws -> EncoderLayer {
    func module(_ kind: ModuleKind) throws -> Linear { try linear(ModuleID(kind, layer: number)) }
    return EncoderLayer(
      query: try module(.query), key: try module(.key), value: try module(.value),
      attentionOutput: try module(.attentionOutput), attentionNorm: try norm(.attentionNorm, layer: number),
      intermediate: try module(.intermediate), output: try module(.output),
      outputNorm: try norm(.outputNorm, layer: number))
  }

  /// The pooler, where the checkpoint has one.
  private func pooler() throws -> Linear? {
    let width = configuration.hiddenSize
    guard try weights.vector(TensorID(.pooler, .bias), count: width) != nil else { return nil }
    return try linear(ModuleID(.pooler))
  }

  /// The encoder without its layers, for what goes through them one at a time.
  package func embeddings() throws -> Encoder { try encoder(layers: []) }

  package func encoder() throws -> Encoder {
    try encoder(layers: (0..<configuration.layerCount).map(layer))
  }

  private func encoder(layers: [EncoderLayer]) throws -> Encoder {
    func table(_ kind: ModuleKind) throws -> WeightMatrix {
      let shape = index.shape(of: ModuleID(kind))
      return try weights.matrix(ModuleID(kind), out: shape.out, in: shape.in)
    }
    var configuration = configuration
    configuration.layerCount = layers.count
    return Encoder(
      configuration: configuration, wordEmbedding: try table(.embedding),
      positionEmbedding: try table(.positionEmbedding), typeEmbedding: try table(.typeEmbedding),
      embeddingNorm: try norm(.embeddingNorm), layers: layers, pooler: try pooler(),
      classifier: configuration.labelCount == nil ? nil : try linear(ModuleID(.classifier)), pool: pool)
  }
}
