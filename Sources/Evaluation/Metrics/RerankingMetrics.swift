import Files

/// Measures of how a reranker orders the positive and negative passages of a query.
package enum RerankingMetrics {
  /// Average precision as mteb 1.x has it, whose figures are the published ones: scikit-learn's `average_precision_score`. Passages with
  /// equal scores are taken together, so their precision is that after all of them:
  /// ```
  /// Σ over different scores, the highest first, of (recall − recall before) · precision
  /// ```
  /// NaN counts as the lowest score.
  /// - Returns: nil for a query without a positive or without a negative passage, which mteb leaves out.
  /// - Complexity: O(n log n).
  package static func averagePrecision(positive: [Float], negative: [Float]) -> Double? {
    guard !positive.isEmpty, !negative.isEmpty else { return nil }
    let ordered = ordered(positive, negative)
    var (result, seen, hits) = (0.0, 0, 0)
    var start = 0
    while start < ordered.count {
      var end = start
      var new = 0
      while end < ordered.count, ordered[end].score == ordered[start].score {
        if ordered[end].isPositive { new += 1 }
        end += 1
      }
      seen = end
      hits += new
      result += Double(new) / Double(positive.count) * Double(hits) / Double(seen)
      start = end
    }
    return result
  }

  /// 1 over the place of the first positive passage among the first ten; 0 when there is none. Positive passages come first where scores
  /// are equal.
  package static func reciprocalRank(positive: [Float], negative: [Float], cutoff: Int = 10) -> Double {
    let place = ordered(positive, negative).prefix(cutoff).firstIndex { $0.isPositive }
    return place.map { 1 / Double($0 + 1) } ?? 0
  }

  /// The ids and scores that mteb 2.x gives the passages; `map_at_1000` and `ndcg_at_10` are ``RetrievalMetrics``' measures of them. In
  /// a tie negative passages come first, since ids in descending order decide.
  package static func ranking(query: Int, positive: [Float], negative: [Float]) -> (
    documents: RankedDocuments, grades: [ByteText: Int]
  ) {
    func padded(_ index: Int) -> String {
      let digits = String(index)
      return String(repeating: "0", count: max(0, 5 - digits.count)) + digits
    }
    var documents: RankedDocuments = []
    var grades: [ByteText: Int] = [:]
    for (index, score) in positive.enumerated() {
      let id = "apositive_query\(query)_\(padded(index))"
      documents.append((id, score))
      grades[id] = 1
    }
    for (index, score) in negative.enumerated() {
      let id = "negative_query\(query)_\(padded(index))"
      documents.append((id, score))
      grades[id] = 0
    }
    return (documents, grades)
  }

  private static func ordered(_ positive: [Float], _ negative: [Float]) -> [(
    score: Float, isPositive: Bool
  )] {
    let all = positive.map { ($0, true) } + negative.map { ($0, false) }
    return all.map { (score: $0.0.isNaN ? -.infinity : $0.0, isPositive: $0.1) }
      .sorted { $0.score != $1.score ? $0.score > $1.score : $0.isPositive && !$1.isPositive }
  }
}
