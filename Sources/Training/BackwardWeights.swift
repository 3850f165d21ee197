import Architecture
import Compute
import Tensors
import Transformer

/// The weights of one block as the backward pass multiplies with them: dx = dy · W, a product whose summed index runs over W's rows. W
/// stays as it is stored.
package struct BackwardWeights: Sendable {
  let layer: DecoderLayer
  /// What `dy` and W are rounded to before they are multiplied.
  let arithmetic: FloatArithmetic

  /// - Parameter layer: weights in any form, frozen.
  package init(_ layer: DecoderLayer, arithmetic: FloatArithmetic = .fp32) {
    self.layer = layer
    self.arithmetic = arithmetic
  }

  func callAsFunction(_ kind: ModuleKind) -> WeightMatrix { layer[kind].weight }
}

extension DecoderLayer {
  /// The projections to queries, keys and values, whose outputs stand beside each other.
  var attentionInputs: [ModuleKind] {
    switch qkv {
    case .fused: [.fusedQKV]
    case .separate: [.query, .key, .value]
    }
  }

  /// The same, each with the place of its first output.
  var attentionPlaces: [(kind: ModuleKind, first: Int)] {
    var first = 0
    return attentionInputs.map { kind in
      defer { first += self[kind].outFeatures }
      return (kind, first)
    }
  }

  /// Which projections the layer has, in the order of a forward pass.
  package var projections: [ModuleKind] { attentionInputs + [.attentionOutput, .gate, .up, .down] }
}
