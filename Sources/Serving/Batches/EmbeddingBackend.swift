import Compute
import Retrieval
import Tokenization

/// What the routes need of a model that makes vectors of texts. Tests have their own.
package protocol EmbeddingBackend: Sendable {
  var settings: EmbeddingSettings { get }
  var tokenizer: any PairTokenizer { get }
  /// Components of a vector.
  var dimensions: Int { get }

  func encode(
    _ text: String, pair: String?, prompt: String?, truncates: Bool, side: TruncationSide,
    specials: SpecialTokens, maximumLength: Int?
  ) throws -> EncodedText

  /// `[texts.count, size ?? dimensions]`; see ``TextEmbedder``.
  func vectors(_ texts: [EncodedText], normalizes: Bool?, size: Int?) throws -> AlignedBuffer<Float>
}

extension TextEmbedder: EmbeddingBackend {}

/// A text on its way to a vector.
struct EmbeddingItem: Sendable {
  var text: EncodedText
  /// Nil: as the model's folder says.
  var normalizes: Bool?
  /// The first components only; nil: all.
  var size: Int?
}

/// The engine of an embedding model.
typealias EmbeddingEngine = BatchEngine<EmbeddingItem, [Float]>

extension EmbeddingEngine {
  convenience init(backend: any EmbeddingBackend, limits: BatchLimits) {
    self.init(
      limits: limits, tokens: { $0.text.ids.count },
      canShare: { $0.normalizes == $1.normalizes && $0.size == $1.size },
      compute: { items in
        let (normalizes, size) = (items[0].normalizes, items[0].size)
        let vectors = try backend.vectors(items.map(\.text), normalizes: normalizes, size: size)
        let width = size ?? backend.dimensions
        return try items.indices.map { row in
          let vector = (row * width..<(row + 1) * width).map { vectors[$0] }
          guard vector.allSatisfy(\.isFinite) else { throw RetrievalFailure.notFinite }
          return vector
        }
      })
  }
}

/// Why a model's numbers cannot be given away.
enum RetrievalFailure: Error {
  /// A weight is probably NaN or infinite.
  case notFinite
}
