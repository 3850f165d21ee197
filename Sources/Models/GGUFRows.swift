import Architecture
import Transformer

/// The order of rows of queries and keys where GGUF's differs (`Formats/gguf.md`, "Decoders"), and Llama 3's frequencies.
package enum GGUFRows {
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

  // MARK: Llama 3's frequencies

  package static let frequencies = "rope_freqs.weight"

  /// What llama.cpp divides the rotary frequencies by, for Llama 3's scaling: one factor for each pair of a head.
  package static func frequencyFactors(_ c: ModelConfiguration) -> [Float]? {
    guard case .llama3 = c.ropeScaling else { return nil }
    var parameters = c.decoder.rotary
    let scaled = RotaryEmbedding(parameters).inverseFrequencies
    parameters.scaling = .none
    return zip(RotaryEmbedding(parameters).inverseFrequencies, scaled).map { $0 / $1 }
  }
}
