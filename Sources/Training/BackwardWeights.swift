import Architecture
import Compute
import Tensors
import Transformer

/// The weights of one block as the backward pass multiplies with them: dx = dy · W, a product whose summed index runs over W's rows.
package struct BackwardWeights: Sendable {
  /// Wᵀ of each projection, in panels of floats.
  private let transposed: [ModuleKind: WeightMatrix]
  let layer: DecoderLayer
  /// What `dy` is rounded to before it is multiplied.
  let arithmetic: FloatArithmetic

  /// - Parameter layer: weights in any form, frozen; they are copied as floats.
  package init(_ layer: DecoderLayer, arithmetic: FloatArithmetic = .fp32, pool: WorkerPool) {
    self.layer = layer
    self.arithmetic = arithmetic
    transposed = Dictionary(
      uniqueKeysWithValues: layer.projections.map { ($0, layer[$0].weight.transposed(pool: pool)) })
  }

  func callAsFunction(_ kind: ModuleKind) -> WeightMatrix {
    guard let matrix = transposed[kind] else { preconditionFailure("the layer has no \(kind.rawValue)") }
    return matrix
  }
}

extension DecoderLayer {
  /// The projections to queries, keys and values, whose outputs stand beside each other.
  var attentionInputs: [ModuleKind] {
    switch qkv {
    case .fused: [.fusedQKV]
    case .separate: [.query, .key, .value]
    }
  }

  /// Which projections the layer has, in the order of a forward pass.
  package var projections: [ModuleKind] { attentionInputs + [.attentionOutput, .gate, .up, .down] }
}

extension WeightMatrix {
  /// Wᵀ `[inFeatures, outFeatures]` in panels of floats.
  package func transposed(pool: WorkerPool = .shared) -> WeightMatrix {
    let rows = rowMajorFloats(pool: pool)
    let (out, width) = (outFeatures, inFeatures)
    let panels = (width + panelWidth - 1) / panelWidth
    let result = AlignedBuffer<Float>(count: panels * panelWidth * out)
    pool.runRanges(panels) { range in
      let first = range.lowerBound * panelWidth
      pool.kernels.copyPanels(
        result.pointer + first * out, panelStride: out * panelWidth, from: rows.pointer + first,
        rowStride: width, columns: min(range.count * panelWidth, width - first), k: out)
    }
    return .panels(
      PanelMatrix(
        elements: result.pointer, dtype: .f32, outFeatures: width, inFeatures: out, owner: result))
  }
}
