import Evaluation
import Files
import JSON
import TestSupport
import Testing

/// Measures of rankings against pytrec_eval and mteb, of rerankings against scikit-learn and mteb (`golden/metrics.json`).
@Suite struct RankingMeasuresTests {
  @Test func agreeWithTrecEvalAndMTEB() throws {
    let runs = try #require(
      try JSONValue.parse(file: Fixture.path("golden/metrics.json"))["retrieval"]?.arrayValue)
    #expect(runs.count == 30)
    for run in runs {
      for (query, expected) in try #require(run["per_query"]?.objectValue).members {
        var grades: [ByteText: Int] = [:]
        for (id, grade) in try #require(run["qrels"]?[query]?.objectValue).members {
          grades[id] = try #require(grade.intValue)
        }
        let ranking: RankedDocuments = try #require(run["run"]?[query]?.objectValue).members.map {
          ($0.key, Float(try #require($0.value.doubleValue)))
        }
        let order = try #require(expected["order"]?.arrayValue).compactMap(\.stringValue)
        #expect(RetrievalMetrics.ordered(ranking).prefix(20).map(\.id) == order)
        let cutoffs = [1, 3, 5, 10, 20, 100]
        for measures in RetrievalMetrics.measures(ranking, grades: grades, cutoffs: cutoffs) {
          let k = measures.cutoff
          var values = [
            "ndcg_cut_\(k)": measures.ndcg, "map_cut_\(k)": measures.averagePrecision,
            "recall_\(k)": measures.recall, "P_\(k)": measures.precision,
          ]
          if [1, 10, 100].contains(k) { values["mteb_mrr_at_\(k)"] = measures.reciprocalRank }
          if k == 10 {
            #expect((measures.cappedRecall == nil) == (expected["mteb_recall_cap_at_10"]?.isNull == true))
            values["mteb_recall_cap_at_10"] = measures.cappedRecall
          }
          for (name, value) in values {
            #expect(abs(value - (try #require(expected[name]?.doubleValue))) < 1e-9, "\(name) of \(query)")
          }
        }
      }
    }
  }

  @Test func leavesOutTheQueryItself() {
    let ranking: RankedDocuments = [("q", 2), ("d", 1)]
    #expect(RetrievalMetrics.measures(ranking, grades: ["d": 1], cutoffs: [1])[0].ndcg == 0)
    #expect(
      RetrievalMetrics.measures(ranking, grades: ["d": 1], cutoffs: [1], leavingOut: "q")[0].ndcg == 1)
  }

  @Test func rerankingsAgreeWithBothVersionsOfMTEB() throws {
    let rows = try #require(
      try JSONValue.parse(file: Fixture.path("golden/metrics.json"))["reranking"]?.arrayValue)
    #expect(rows.count == 30)
    for (number, row) in rows.enumerated() {
      let scores = try #require(row["scores"]?.arrayValue).map { Float(try #require($0.doubleValue)) }
      let count = try #require(row["positive"]?.intValue)
      let (positive, negative) = (Array(scores[..<count]), Array(scores[count...]))
      func expect(_ name: String, _ found: Double?) throws {
        let expected = try #require(row[name]?.doubleValue)
        #expect(abs((try #require(found)) - expected) < 1e-9, "\(name) of row \(number)")
      }
      try expect(
        "ap_mteb1_sklearn", RerankingMetrics.averagePrecision(positive: positive, negative: negative))
      let (documents, grades) = RerankingMetrics.ranking(
        query: number, positive: positive, negative: negative)
      let measures = RetrievalMetrics.measures(documents, grades: grades, cutoffs: [1000, 10])
      try expect("ap_mteb2_trec_map_at_1000", measures[0].averagePrecision)
      try expect("ndcg_at_10_trec", measures[1].ndcg)
      try expect(
        "mrr_at_10_stable_positives_first",
        RerankingMetrics.reciprocalRank(positive: positive, negative: negative))
    }
  }

  @Test func rowsWithoutAPositiveOrNegativePassageHaveNoAveragePrecision() {
    #expect(RerankingMetrics.averagePrecision(positive: [], negative: [1]) == nil)
    #expect(RerankingMetrics.averagePrecision(positive: [1], negative: []) == nil)
    #expect(RerankingMetrics.averagePrecision(positive: [.nan], negative: [0]) == 0.5)
  }
}
