import Retrieval

/// What the routes need of a model that scores passages against a query. Tests have their own.
package protocol RerankingBackend: Sendable {
  /// Longest pair, in ids; a longer one is cut.
  var maximumLength: Int { get }
  /// Scores of the passages, in their order. A passage's score does not depend on the others.
  func scores(query: String, passages: [String]) throws -> [RerankScore]
}

/// Any ``Reranker`` is one.
struct RerankerBackend: RerankingBackend {
  let reranker: any Reranker
  var maximumLength: Int { reranker.maximumLength }
  func scores(query: String, passages: [String]) throws -> [RerankScore] {
    try reranker.scores(query: query, passages: passages)
  }
}

/// A pair on its way to a score.
struct RerankingItem: Sendable {
  var query: String
  var passage: String
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
      compute: { items in
        var scores: [RerankScore] = []
        // Passages of one query go together: what their pairs have in common is computed once.
        var start = 0
        while start < items.count {
          let query = items[start].query
          let end = items[start...].firstIndex { !$0.query.utf8.elementsEqual(query.utf8) } ?? items.count
          scores += try backend.scores(query: query, passages: items[start..<end].map(\.passage))
          start = end
        }
        guard scores.allSatisfy({ $0.raw.isFinite && $0.relevance.isFinite }) else {
          throw RetrievalFailure.notFinite
        }
        return scores
      })
  }
}
