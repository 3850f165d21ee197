import Models
import Tensors
import Transformer

/// The Linears of a block that are quantized.
package enum LinearKind: String, CaseIterable, Sendable {
  case qkv = "self_attn.qkv_proj"
  case query = "self_attn.q_proj"
  case key = "self_attn.k_proj"
  case value = "self_attn.v_proj"
  case output = "self_attn.o_proj"
  case gate = "mlp.gate_proj"
  case up = "mlp.up_proj"
  case down = "mlp.down_proj"

  /// What a checkpoint calls it in one layer.
  package func name(layer: Int) -> String { "\(DecoderNames.layer(layer)).\(rawValue)" }

  package func shape(_ c: DecoderConfiguration) -> (out: Int, in: Int) {
    DecoderNames.shape(of: rawValue, c)
  }

  /// Those a layer has, in the order in which they are solved.
  package static func all(_ c: DecoderConfiguration) -> [LinearKind] {
    LayerStage.allCases.flatMap { $0.linears(c) }
  }
}

extension LayerStage {
  /// The Linears that read the input of the stage, in the order in which they are solved.
  package func linears(_ c: DecoderConfiguration) -> [LinearKind] {
    switch self {
    case .qkv: c.qkvLayout == .interleaved ? [.qkv] : [.query, .key, .value]
    case .o: [.output]
    case .gateUp: [.gate, .up]
    case .down: [.down]
    }
  }
}

extension DecoderLayer {
  /// Gives the weights of a stage to `body` in the order in which they are solved, and puts what it returns in their place.
  package mutating func replaceWeights(
    of stage: LayerStage, _ body: (LinearKind, WeightMatrix) throws -> WeightMatrix
  ) rethrows {
    func replaced(_ kind: LinearKind, _ linear: Linear) throws -> Linear {
      var linear = linear
      linear.weight = try body(kind, linear.weight)
      return linear
    }
    switch stage {
    case .qkv:
      switch qkv {
      case .fused(let linear): qkv = .fused(try replaced(.qkv, linear))
      case .separate(let q, let k, let v):
        qkv = .separate(q: try replaced(.query, q), k: try replaced(.key, k), v: try replaced(.value, v))
      }
    case .o: o = try replaced(.output, o)
    case .gateUp:
      gate = try replaced(.gate, gate)
      up = try replaced(.up, up)
    case .down: down = try replaced(.down, down)
    }
  }
}
