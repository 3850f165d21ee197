import Retrieval
import Tokenization

/// A pair on its way to a score.
package struct RerankingItem: Sendable {
  package var query: String
  package var passage: String

  package init(query: String, passage: String) {
    self.query = query
    self.passage = passage
  }
}

/// What the routes need of a model that scores passages against queries. Tests have their own.
package protocol RerankingBackend: Sendable {
  /// Longest pair, in ids; a longer one is cut.
  var maximumLength: Int { get }
  /// Scores of the pairs, in their order. A pair's score does not depend on the others.
  func scores(_ pairs: [RerankingItem]) throws -> [RerankScore]
}

/// Any ``Reranker``: passages of one query go together, because what their pairs have in common is computed once.
struct RerankerBackend: RerankingBackend {
  let reranker: any Reranker
  var maximumLength: Int { reranker.maximumLength }

  func scores(_ pairs: [RerankingItem]) throws -> [RerankScore] {
    var scores: [RerankScore] = []
    var start = 0
    while start < pairs.count {
      let query = pairs[start].query
      let end = pairs[start...].firstIndex { !$0.query.utf8.elementsEqual(query.utf8) } ?? pairs.count
      scores += try reranker.scores(query: query, passages: pairs[start..<end].map(\.passage))
      start = end
    }
    return scores
  }
}

/// A ``CrossEncoder``: pairs of all queries are rows of one batch.
struct CrossEncoderBackend: RerankingBackend {
  let encoder: CrossEncoder
  /// Whether names of special tokens in texts are tokens.
  let specials: SpecialTokens
  var maximumLength: Int { encoder.maximumLength }

  func scores(_ pairs: [RerankingItem]) throws -> [RerankScore] {
    try encoder.scores(
      pairs.map {
        try encoder.tokenizer.encode(
          $0.query, pair: $0.passage, maximumLength: encoder.maximumLength, truncation: encoder.truncation,
          side: .right, specials: specials)
      })
  }
}

/// The engine of a reranker.
typealias RerankingEngine = BatchEngine<RerankingItem, RerankScore>

extension RerankingEngine {
  convenience init(backend: any RerankingBackend, limits: BatchLimits) {
    let longest = backend.maximumLength
    self.init(
      limits: limits,
      // Before the model has seen the text: a token has about three bytes, in Chinese and in English.
      tokens: { min(longest, ($0.query.utf8.count + $0.passage.utf8.count) / 3 + 8) },
      compute: { pairs in
        let scores = try backend.scores(pairs)
        guard scores.allSatisfy({ $0.raw.isFinite && $0.relevance.isFinite }) else {
          throw RetrievalFailure.notFinite
        }
        return scores
      })
  }
}
