import Compute
import Models
import Tensors

/// How well a passage answers a query.
package struct RerankScore: Equatable, Sendable {
  /// The model's own number.
  package var raw: Float
  /// Between 0 and 1: the sigmoid of `raw`, or the probability that a model gives.
  package var relevance: Float
  /// Ids of the pair, after truncation.
  package var tokenCount: Int
  /// Whether the pair lost ids because it was too long.
  package var isTruncated: Bool

  package init(raw: Float, relevance: Float, tokenCount: Int, isTruncated: Bool = false) {
    self.isTruncated = isTruncated
    self.raw = raw
    self.relevance = relevance
    self.tokenCount = tokenCount
  }
}

/// A model that scores passages against a query: a cross-encoder, or a decoder with a head or with yes and no.
package protocol Reranker: Sendable {
  var model: OpenedModel { get }
  /// Longest pair, in ids.
  var maximumLength: Int { get }

  /// What a person should know of how scores are made, as sentences for warnings; empty when there is nothing.
  var remarks: [String] { get }

  /// Scores of the passages, in their order. A passage's score does not depend on the others.
  func scores(query: String, passages: [String]) throws -> [RerankScore]
}

extension Reranker {
  package var remarks: [String] { [] }
}
