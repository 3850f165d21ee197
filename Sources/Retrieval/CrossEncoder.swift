import Compute
import Distribution
import Foundation
import Models
import Tensors
import Tokenization
import Transformer

/// A BERT classifier of one label that reads query and passage together.
package final class CrossEncoder: Reranker {
  package let model: OpenedModel
  package let tokenizer: any PairTokenizer
  package let maximumLength: Int
  /// How pairs that are too long are cut.
  package let truncation: Truncation
  private let encoder: Encoder

  /// - Parameters:
  ///   - maximumLength: less than the model's; nil: the model's.
  ///   - truncation: nil: the longer of the two loses its end.
  /// - Throws: ``RetrievalError`` when the model has no pooler, or other than one label.
  package init(
    _ model: OpenedModel, arithmetic: Int4Arithmetic = .exact, maximumLength: Int? = nil,
    truncation: Truncation? = nil, pool: WorkerPool = .shared
  ) throws {
    self.model = model
    self.truncation = truncation ?? .longestFirst
    tokenizer = try model.pairTokenizer()
    encoder = try model.encoder(arithmetic: arithmetic, pool: pool)
    guard let labels = encoder.configuration.labelCount else {
      throw RetrievalError(
        .wrongModel(found: "an encoder without a classifier", needed: "BertForSequenceClassification"),
        path: model.path)
    }
    guard labels == 1 else {
      throw RetrievalError(
        .wrongModel(found: "a classifier of \(labels) labels", needed: "a classifier of one label"),
        path: model.path)
    }
    guard encoder.pooler != nil else {
      throw RetrievalError(
        .wrongModel(found: "a classifier without its pooler", needed: "bert.pooler.dense"), path: model.path)
    }
    let most = try EmbeddingSettings(lengthsOf: model).maximumLength
    self.maximumLength = min(maximumLength ?? most, most)
  }

  /// Ids of the pair as the model reads it.
  package func encode(query: String, passage: String) throws -> EncodedText {
    try tokenizer.encode(
      query, pair: passage, maximumLength: maximumLength, truncation: truncation, side: .right,
      specials: .recognized)
  }

  package func scores(query: String, passages: [String]) throws -> [RerankScore] {
    try scores(passages.map { try encode(query: query, passage: $0) })
  }

  /// Scores of pairs of ids.
  package func scores(_ pairs: [EncodedText]) throws -> [RerankScore] {
    try pairs.check(encoder, path: model.path)
    var scores: [RerankScore] = []
    pairs.eachBatch(of: 8192) { range in
      let (states, batch) = encoder.hiddenStates(pairs[range].map { ($0.ids, $0.typeIDs) })
      let logits = encoder.labels(states, batch)
      for (index, pair) in range.enumerated() {
        var score = RerankScore(logit: logits[index], tokenCount: pairs[pair].ids.count)
        score.isTruncated = pairs[pair].isTruncated
        scores.append(score)
      }
    }
    return scores
  }
}

extension CrossEncoder {
  /// Scores of pairs of ids, which the ranks share: the same on all ranks, whatever their number.
  package func scores(_ pairs: [EncodedText], communicator: any Communicator) throws -> [RerankScore] {
    guard !communicator.isAlone else { return try scores(pairs) }
    let own = try scores(Array(pairs[communicator.share(of: pairs.count)]))
    let logits = try communicator.gather(own.map(\.raw)).flatMap { $0 }
    return zip(pairs, logits).map { pair, logit in
      var score = RerankScore(logit: logit, tokenCount: pair.ids.count)
      score.isTruncated = pair.isTruncated
      return score
    }
  }
}

extension RerankScore {
  /// - Parameter logit: its sigmoid is the relevance.
  package init(logit: Float, tokenCount: Int) {
    self.init(
      raw: logit, relevance: Float(1 / (1 + exp(-Double(logit)))), tokenCount: tokenCount)
  }
}
