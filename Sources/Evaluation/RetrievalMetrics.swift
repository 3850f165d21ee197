import Files
import Foundation

/// One query's ranking: the ids of documents with their scores, in any order.
package typealias RankedDocuments = [(id: String, score: Float)]

/// Measures of a query's ranking at one cutoff.
package struct RankingMeasures: Equatable, Sendable {
  package var cutoff: Int
  package var ndcg: Double
  /// Average precision over all relevant documents, of those up to the cutoff.
  package var averagePrecision: Double
  /// 1 over the place of the first relevant document; 0 when there is none up to the cutoff.
  package var reciprocalRank: Double
  package var recall: Double
  package var precision: Double
  /// Relevant documents up to the cutoff, of as many as there could be; nil for a query without a relevant document.
  package var cappedRecall: Double?
}

/// Measures of rankings by the rules of trec_eval, which BEIR and MTEB report.
package enum RetrievalMetrics {
  /// Normalized discounted cumulative gain of a query's first `cutoff` documents, between 0 and 1.
  ///
  /// Documents come by score, the highest first; equal scores by id in descending order of its bytes, and NaN last. A document's
  /// gain is its grade, divided by log₂(place + 1); what is not judged, or judged with less than 1, gains nothing. The sum is divided
  /// by that of the best possible order of all judged documents, whether the ranking has them or not. A query without a relevant
  /// document has 0.
  /// - Parameters:
  ///   - ranking: no id twice.
  ///   - grades: of the judged documents, by id.
  /// - Complexity: O(n log n).
  package static func ndcg(_ ranking: RankedDocuments, grades: [ByteText: Int], cutoff: Int = 10) -> Double {
    precondition(cutoff > 0)
    let ordered = ordered(ranking)
    let best = gain(grades.values.filter { $0 > 0 }.sorted(by: >), cutoff)
    return best > 0 ? gain(ordered.prefix(cutoff).map { grades[$0.id.bytes] ?? 0 }, cutoff) / best : 0
  }

  /// The documents by score, the highest first; equal scores by id in descending order of its bytes; NaN last.
  package static func ordered(_ ranking: RankedDocuments) -> RankedDocuments {
    ranking.sorted { a, b in
      if a.score.isNaN || b.score.isNaN, a.score.isNaN != b.score.isNaN { return b.score.isNaN }
      return a.score == b.score || a.score.isNaN ? a.id.bytes > b.id.bytes : a.score > b.score
    }
  }

  /// What leaderboards print.
  package static let usualCutoffs = [1, 3, 5, 10, 20, 100, 1000]

  /// The measures of a query's ranking at each cutoff. A document with a grade of at least 1 is relevant; average precision and recall
  /// divide by the number of all relevant documents, whether the ranking has them or not.
  /// - Parameters:
  ///   - ranking: no id twice, in any order.
  ///   - grades: of the judged documents, by id.
  ///   - query: with an id, the document with the same id is left out, as MTEB's `ignore_identical_ids` does.
  /// - Returns: as many as there are cutoffs, in their order.
  /// - Complexity: O(n log n).
  package static func measures(
    _ ranking: RankedDocuments, grades: [ByteText: Int], cutoffs: [Int] = usualCutoffs,
    leavingOut query: String? = nil
  ) -> [RankingMeasures] {
    precondition(cutoffs.allSatisfy { $0 > 0 })
    let ordered = ordered(query.map { query in ranking.filter { !$0.id.hasSameBytes(as: query) } } ?? ranking)
      .map { max(grades[$0.id.bytes] ?? 0, 0) }
    let ideal = grades.values.filter { $0 > 0 }.sorted(by: >)
    let relevant = Double(ideal.count)
    return cutoffs.map { cutoff in
      var (found, precisions, first) = (0, 0.0, 0)
      for (place, grade) in ordered.prefix(cutoff).enumerated() where grade > 0 {
        found += 1
        if found == 1 { first = place + 1 }
        precisions += Double(found) / Double(place + 1)
      }
      let best = gain(ideal, cutoff)
      return RankingMeasures(
        cutoff: cutoff, ndcg: best > 0 ? gain(ordered, cutoff) / best : 0,
        averagePrecision: relevant > 0 ? precisions / relevant : 0,
        reciprocalRank: first > 0 ? 1 / Double(first) : 0,
        recall: relevant > 0 ? Double(found) / relevant : 0, precision: Double(found) / Double(cutoff),
        cappedRecall: relevant > 0 ? Double(found) / min(relevant, Double(cutoff)) : nil)
    }
  }

  /// The mean of ``ndcg(_:grades:cutoff:)`` over the queries that are both judged and ranked; nil when there are none.
  package static func meanNDCG(
    _ rankings: [ByteText: RankedDocuments], judgements: RelevanceJudgements, cutoff: Int = 10
  ) -> Double? {
    // In one order, so that the sum is always the same.
    let values = judgements.grades.keys.sorted().compactMap { query in
      rankings[query].map { ndcg($0, grades: judgements.grades[query] ?? [:], cutoff: cutoff) }
    }
    return values.isEmpty ? nil : values.reduce(0, +) / Double(values.count)
  }

  /// The discounted sum of the first `cutoff` grades.
  private static func gain(_ grades: [Int], _ cutoff: Int) -> Double {
    grades.prefix(cutoff).enumerated().reduce(0) { sum, item in
      sum + Double(max(item.element, 0)) / log2(Double(item.offset + 2))
    }
  }
}

/// Which documents answer which queries, and how well: the grade of each judged document, by query.
package struct RelevanceJudgements: Equatable, Sendable {
  package var grades: [ByteText: [ByteText: Int]]

  package init(_ grades: [ByteText: [ByteText: Int]]) { self.grades = grades }

  /// Reads BEIR's form: `query-id`, `corpus-id` and `score` on each line, with tabs between, after a first line with these names.
  /// - Throws: ``FileError`` with the line that is not what it should be.
  package init(path: String) throws {
    let file = try MappedFile(path: path)
    grades = [:]
    try withExtendedLifetime(file) {
      var number = 0
      for line in file.bytes.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false) {
        number += 1
        func bad(_ detail: String) -> FileError {
          FileError(.badContent, path: "\(path), line \(number)", detail: detail)
        }
        guard let text = String(validating: line, as: UTF8.self)?.bytes.trimmed else {
          throw bad("is not UTF-8 text")
        }
        let parts = text.bytes.split(separator: "\t")
        if text.isEmpty || number == 1 && parts[0].hasSameBytes(as: "query-id") { continue }
        guard parts.count == 3, let grade = Int(parts[2]), abs(grade) <= 1 << 20 else {
          throw bad("is not a query's id, a document's id and a whole number with tabs between")
        }
        guard grades[parts[0].bytes, default: [:]].updateValue(grade, forKey: parts[1].bytes) == nil else {
          throw bad("judges document \(parts[1]) for query \(parts[0]) a second time")
        }
      }
    }
    guard !grades.isEmpty else { throw FileError(.badContent, path: path, detail: "has no judgements") }
  }
}
