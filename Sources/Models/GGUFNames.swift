import Architecture
import Transformer

/// Names of a decoder's tensors in GGUF, and the order of rows where GGUF's differs (`Formats/gguf.md`, "Decoders").
package enum GGUFNames {
  private static let modules: [(huggingFace: String, gguf: String)] = [
    ("input_layernorm", "attn_norm"), ("self_attn.q_proj", "attn_q"), ("self_attn.k_proj", "attn_k"),
    ("self_attn.v_proj", "attn_v"), ("self_attn.o_proj", "attn_output"),
    ("post_attention_layernorm", "ffn_norm"), ("mlp.gate_proj", "ffn_gate"), ("mlp.up_proj", "ffn_up"),
    ("mlp.down_proj", "ffn_down"),
  ]
  private static let others: [(huggingFace: String, gguf: String)] = [
    (DecoderNames.embedding, "token_embd"), (DecoderNames.finalNorm.module, "output_norm"),
    (DecoderNames.head, "output"),
  ]
  private static let layerPrefix = "model.layers."
  private static let blockPrefix = "blk."

  /// `model.layers.3.mlp.up_proj.weight` → `blk.3.ffn_up.weight`; nil for what GGUF has no name for.
  package static func gguf(_ name: String) -> String? {
    translated(name, from: layerPrefix, to: blockPrefix, modules, others)
  }

  /// The inverse of ``gguf(_:)``.
  package static func huggingFace(_ name: String) -> String? {
    translated(
      name, from: blockPrefix, to: layerPrefix, modules.map { ($0.gguf, $0.huggingFace) },
      others.map { ($0.gguf, $0.huggingFace) })
  }

  private static func translated(
    _ name: String, from: String, to: String, _ modules: [(String, String)], _ others: [(String, String)]
  ) -> String? {
    guard let dot = name.lastIndex(of: ".") else { return nil }
    let (module, suffix) = (name[..<dot], name[dot...])
    guard suffix == ".weight" || suffix == ".bias" else { return nil }
    guard module.hasPrefix(from) else { return others.first { $0.0 == module }.map { $0.1 + suffix } }
    let rest = module.dropFirst(from.count)
    guard let end = rest.firstIndex(of: "."), let layer = Int(rest[..<end]), String(layer) == rest[..<end]
    else { return nil }
    return modules.first { $0.0 == rest[rest.index(after: end)...] }.map { "\(to)\(layer).\($0.1)\(suffix)" }
  }

  /// Place of a tensor, by its GGUF name, in the order a forward pass meets them.
  package static func rank(_ name: String) -> [Int] {
    let isBias = name.hasSuffix(".bias") ? 1 : 0
    let parts = name.split(separator: ".")
    guard parts.count == 4, let layer = Int(parts[1]) else {
      return name.hasPrefix("token_embd") ? [0] : [2, name.hasPrefix("output_norm") ? 0 : 1]
    }
    return [1, layer, modules.firstIndex { $0.gguf == parts[2] } ?? modules.count, isBias]
  }

  // MARK: Rows of queries and keys

  /// llama.cpp rotates neighbouring elements of a head in `llama` models, Hugging Face an element of each half: rows
  /// `(head, half, i)` of q and k become `(head, i, half)`.
  /// - Returns: for each row of GGUF's matrix, the row of Hugging Face's.
  package static func neighbouringPairs(heads: Int, headDim: Int) -> [Int] {
    (0..<heads * headDim).map { row in
      let (head, place) = (row / headDim, row % headDim)
      return head * headDim + place % 2 * (headDim / 2) + place / 2
    }
  }

  /// The inverse: for each row of Hugging Face's matrix, the row of GGUF's.
  package static func halves(heads: Int, headDim: Int) -> [Int] {
    (0..<heads * headDim).map { row in
      let (head, place) = (row / headDim, row % headDim)
      return head * headDim + place % (headDim / 2) * 2 + place / (headDim / 2)
    }
  }

  /// Whether a model of the family stores q and k in ``neighbouringPairs(heads:headDim:)``.
  package static func permutesQueries(_ family: ModelConfiguration.Family) -> Bool { family == .llama }

  // MARK: Llama 3's frequencies

  package static let frequencies = "rope_freqs.weight"

  /// What llama.cpp divides the rotary frequencies by, for Llama 3's scaling: one factor for each pair of a head.
  package static func frequencyFactors(_ c: ModelConfiguration) -> [Float]? {
    guard case .llama3 = c.ropeScaling else { return nil }
    var parameters = DecoderConfiguration(c).rotary
    let scaled = RotaryEmbedding(parameters).inverseFrequencies
    parameters.scaling = .none
    return zip(RotaryEmbedding(parameters).inverseFrequencies, scaled).map { $0 / $1 }
  }
}
