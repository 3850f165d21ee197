import Compute
import Files
import Tensors
import Tokenization

/// What makes vectors of passages; a protocol, so that indexes can be tested without a model.
package protocol PassageEmbedder: Sendable {
  /// Components of a vector.
  var dimensions: Int { get }

  /// Vectors in the order of the texts, `[texts.count, dimensions]`. A text's vector does not depend on the others.
  func vectors(of texts: [String]) throws -> EmbeddedTexts
}

/// Vectors of some texts, and what making them took.
package struct EmbeddedTexts: Sendable {
  /// `[count, dimensions]`
  package var vectors: AlignedBuffer<Float>
  package var tokenCount = 0
  /// Texts that lost their end because they were too long.
  package var truncatedCount = 0

  package init(vectors: AlignedBuffer<Float>, tokenCount: Int = 0, truncatedCount: Int = 0) {
    self.vectors = vectors
    self.tokenCount = tokenCount
    self.truncatedCount = truncatedCount
  }
}

/// An encoder with the settings of one job.
package struct EmbeddingRun: PassageEmbedder {
  package let embedder: TextEmbedder
  /// Put before each text.
  package var prompt: String?
  /// Nil: as the model's folder says.
  package var normalizes: Bool?
  /// Keeps the first components only; nil: all.
  package var size: Int?
  package var specials = SpecialTokens.recognized

  package init(_ embedder: TextEmbedder) { self.embedder = embedder }

  package var dimensions: Int { size ?? embedder.dimensions }

  package func vectors(of texts: [String]) throws -> EmbeddedTexts {
    try vectors(of: texts.map { ($0, nil) })
  }

  package func vectors(of texts: [(text: String, pair: String?)]) throws -> EmbeddedTexts {
    let encoded = try texts.map {
      try embedder.encode($0.text, pair: $0.pair, prompt: prompt, specials: specials)
    }
    return EmbeddedTexts(
      vectors: try embedder.vectors(encoded, normalizes: normalizes, size: size),
      tokenCount: encoded.reduce(0) { $0 + $1.ids.count }, truncatedCount: encoded.count(where: \.isTruncated)
    )
  }
}

extension EmbeddingSettings {
  /// What a text is to a search.
  package enum Role: Sendable { case query, passage }

  /// The prompt for a role, by the names that sentence-transformers looks for; the default prompt when the model has none of
  /// them; nil when it has no prompt at all.
  package func prompt(for role: Role) -> (name: String, text: String)? {
    let names = role == .query ? ["query"] : ["document", "passage", "corpus"]
    for name in names + [defaultPromptName].compactMap({ $0 }) {
      if let text = prompts[name] { return (name, text) }
    }
    return nil
  }
}
