import Evaluation
import Files
import Foundation
import JSON
import TestSupport
import Testing

/// NDCG against trec_eval (`golden/ranking-metrics.json`).
@Suite struct RetrievalMetricsTests {
  private static func grades(_ json: JSONValue) throws -> [ByteText: [ByteText: Int]] {
    var all: [ByteText: [ByteText: Int]] = [:]
    for (query, judged) in try #require(json.objectValue).members {
      var grades: [ByteText: Int] = [:]
      for (id, grade) in try #require(judged.objectValue).members {
        let value: Int = try #require(grade.intValue)
        grades[id.bytes] = value
      }
      all[query.bytes] = grades
    }
    return all
  }

  private static func rankings(_ json: JSONValue) throws -> [ByteText: RankedDocuments] {
    var all: [ByteText: RankedDocuments] = [:]
    for (query, scores) in try #require(json.objectValue).members {
      all[query.bytes] = try #require(scores.objectValue).members.map { id, score in
        (id, Float(try #require(score.doubleValue)))
      }
    }
    return all
  }

  /// Ties, grades, queries without a relevant document, relevant documents that were not found, queries that only the ranking or
  /// only the judgements have.
  @Test func agreesWithTrecEval() throws {
    let goldens = try #require(
      try JSONValue.parse(file: Fixture.path("golden/ranking-metrics.json"))["rankings"]?.arrayValue)
    #expect(goldens.count == 6)
    for golden in goldens {
      let judgements = RelevanceJudgements(try Self.grades(try #require(golden["qrels"])))
      let rankings = try Self.rankings(try #require(golden["run"]))
      for (query, values) in try #require(golden["ndcg"]?.objectValue).members {
        let ranking = try #require(rankings[query.bytes])
        for (cutoff, value) in try #require(values.objectValue).members {
          let found = RetrievalMetrics.ndcg(
            ranking, grades: judgements.grades[query.bytes] ?? [:], cutoff: try #require(Int(cutoff)))
          #expect(abs(found - (try #require(value.doubleValue))) < 1e-12, "\(query) at \(cutoff)")
        }
      }
      let mean = try #require(RetrievalMetrics.meanNDCG(rankings, judgements: judgements))
      #expect(abs(mean - (try #require(golden["mean_ndcg_10"]?.doubleValue))) < 1e-12)
    }
  }

  @Test func scoresThatAreNoNumbersComeLast() {
    let ranking: RankedDocuments = [("a", .nan), ("b", -1), ("c", .nan)]
    #expect(RetrievalMetrics.ndcg(ranking, grades: ["b": 1]) == 1)
    #expect(RetrievalMetrics.ndcg(ranking, grades: ["c": 1], cutoff: 1) == 0)
    #expect(RetrievalMetrics.meanNDCG([:], judgements: RelevanceJudgements(["q": ["a": 1]])) == nil)
  }

  @Test func readsJudgementsAndNamesWrongLines() throws {
    let folder = try TemporaryFolder()
    func read(_ text: String) throws -> RelevanceJudgements {
      let path = folder.file("qrels.tsv")
      try text.write(toFile: path, atomically: true, encoding: .utf8)
      return try RelevanceJudgements(path: path)
    }
    let judgements = try read("query-id\tcorpus-id\tscore\r\nq1\td1\t2\r\nq1\td2\t0\n\nq2\td1\t-1\n")
    #expect(judgements.grades == ["q1": ["d1": 2, "d2": 0], "q2": ["d1": -1]])
    for (text, line) in [
      ("q1\td1\n", "line 1"), ("q1\td1\t1\nq1\td2\tx\n", "line 2"), ("q1\td1\t1\nq1\td1\t0\n", "line 2"),
    ] {
      let error = #expect(throws: FileError.self) { try read(text) }
      #expect(error?.description.contains(line) == true)
    }
    #expect(throws: FileError.self) { try read("query-id\tcorpus-id\tscore\n") }
  }
}
