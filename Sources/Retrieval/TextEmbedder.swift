import Compute
import Models
import Tokenization
import Tensors
import Transformer

/// Makes vectors of texts with an encoder.
package final class TextEmbedder: Sendable {
  package let model: OpenedModel
  package let settings: EmbeddingSettings
  package let tokenizer: any PairTokenizer

  /// - Throws: when the model is no encoder, or its folder asks for something that is not built.
  package init(_ model: OpenedModel, arithmetic: Int4Arithmetic = .exact, pool: WorkerPool = .shared) throws {
    preconditionFailure("being built")
  }

  /// Components of a vector.
  package var dimensions: Int { preconditionFailure("being built") }

  /// - Parameters:
  ///   - prompt: put before the text as it is; nil: none.
  ///   - truncates: false: a text that is too long is an error.
  package func encode(
    _ text: String, pair: String? = nil, prompt: String? = nil, truncates: Bool = true,
    side: TruncationSide = .right, specials: SpecialTokens = .recognized
  ) throws -> EncodedText {
    preconditionFailure("being built")
  }

  /// The texts' vectors, `[texts.count, dimensions]`. Texts are run in batches of their own choosing; a text's vector does not
  /// depend on the others.
  /// - Parameters:
  ///   - normalizes: nil: as the model's folder says.
  ///   - size: keeps the first components only, before vectors are normalized; nil: all.
  /// - Throws: ``RetrievalError`` for ids outside the vocabulary or more of them than the model has positions.
  package func vectors(_ texts: [EncodedText], normalizes: Bool? = nil, size: Int? = nil) throws -> AlignedBuffer<
    Float
  > {
    preconditionFailure("being built")
  }
}

/// What a sentence-transformers folder says of an embedding model, or the defaults in its place.
package struct EmbeddingSettings: Equatable, Sendable {
  package enum Pooling: String, Sendable, CaseIterable { case cls, mean }
  package var pooling = Pooling.cls
  package var normalizes = true
  /// Longest text, in ids, special ones included.
  package var maximumLength = 512
  /// By name; what is put before a text.
  package var prompts: [String: String] = [:]
  package var defaultPromptName: String?
  /// Whether the folder said none of it, so that these are the vendor's settings for 360Zhinao-search.
  package var isAssumed = true

  package init() {}
}
