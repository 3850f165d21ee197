import Evaluation
import Files
import Foundation
import JSON
import Models
import Retrieval

/// A search task on an encoder: the corpus becomes an index, which is kept, and every judged query is a search.
package struct RetrievalRun {
  package static let rules = [
    MetricRule("ndcg_at_10"), MetricRule("map_at_1000"), MetricRule("mrr_at_10"), MetricRule("recall_at_10"),
    MetricRule("recall_at_100"), MetricRule("precision_at_10"), MetricRule("ndcg_at_1"),
    MetricRule("ndcg_at_100"),
  ]
  /// Of the names of indexes beside journals.
  static let indexPrefix = "index-"
  private static let cutoffs = [1, 3, 5, 10, 20, 100, 1000]

  private let data: RetrievalData
  private let top: Int

  package init(data: RetrievalData, top: Int) {
    self.data = data
    self.top = top
  }

  package func prepare(_ model: EvaluatedModel) throws -> PreparedRun {
    guard !model.isDecoder else { throw TaskError(.needsRanking(task: "retrieval"), path: model.opened.path) }
    return PreparedRun(items: data.queries.count, promptTokens: 0, freshTokens: 0, newTokens: 0) {
      try run(model, journal: $0, folder: $1, $2)
    }
  }

  private func run(_ model: EvaluatedModel, journal: Journal, folder: String?, _ context: RunContext) throws
    -> RunOutcome
  {
    let start = Date()
    var outcome = RunOutcome()
    let waiting = data.queries.filter { journal.record($0.id) == nil }
    if !waiting.isEmpty {
      let embedder = try TextEmbedder(model.opened, arithmetic: model.settings.arithmetic, pool: model.pool)
      embedder.remarks.forEach(context.warn)
      if data.judgedButMissing > 0 {
        context.warn(
          "retrieval: \(data.judgedButMissing) judged passages are not in the corpus; they count as not found"
        )
      }
      let temporary =
        folder == nil ? FileManager.default.temporaryDirectory.path + "/zhinao-evaluate-\(getpid())" : nil
      if let temporary { PendingOutputs.register(temporary) }
      defer { if let temporary { PendingOutputs.discardRegistered(temporary) } }
      let index = try index(embedder, model, folder: folder ?? temporary ?? "", &outcome, context)
      var run = EmbeddingRun(embedder)
      run.prompt = embedder.settings.prompt(for: .query)?.text
      try search(
        waiting, in: index, run, journal, &outcome, done: data.queries.count - waiting.count, context)
    }
    outcome.records = data.queries.compactMap { journal.record($0.id) }
    outcome.seconds = Date().timeIntervalSince(start)
    outcome.itemsRun = waiting.count
    return outcome
  }

  /// The index of the corpus, made once for a model and kept beside the journals.
  private func index(
    _ embedder: TextEmbedder, _ model: EvaluatedModel, folder: String, _ outcome: inout RunOutcome,
    _ context: RunContext
  ) throws -> VectorIndex {
    var run = EmbeddingRun(embedder)
    run.prompt = embedder.settings.prompt(for: .passage)?.text
    let digest = data.files.first?.sha256 ?? ""
    let key = Array(
      (digest + model.fingerprint + model.settings.arithmetic.rawValue + "\(embedder.settings.maximumLength)")
        .utf8
    ).withUnsafeBytes { Checksum.sha256($0) }
    let path = "\(folder)/\(RetrievalRun.indexPrefix)\(key.bytes.prefix(scalars: 16))"
    if !FileManager.default.fileExists(atPath: path) {
      let settings = IndexSettings(
        dimensions: run.dimensions, vectorType: .fp32, normalizes: embedder.settings.normalizes,
        maximumLength: embedder.settings.maximumLength, passagePrompt: run.prompt ?? "",
        queryPrompt: embedder.settings.prompt(for: .query)?.text ?? "", plainText: false,
        arithmetic: model.settings.arithmetic.rawValue)
      var tokens = 0
      _ = try VectorIndexBuilder(
        output: path, corpus: data.corpus, embedder: run, settings: settings,
        model: IndexedModel(path: model.opened.path, fingerprint: model.fingerprint),
        generator: "zhinao-evaluate"
      ).build { progress in
        tokens = progress.tokens
        // The searches are a small part of the time.
        context.progress(0, data.queries.count, 0.95 * Double(progress.passages) / Double(data.corpus.count))
      }
      outcome.tokensRun += tokens
      outcome.tokensAsked += tokens
    }
    return try VectorIndex(path: path)
  }

  /// Queries that are embedded and searched together.
  private static let queriesAtOnce = 64

  private func search(
    _ queries: [RetrievalData.Query], in index: VectorIndex, _ run: EmbeddingRun, _ journal: Journal,
    _ outcome: inout RunOutcome, done: Int, _ context: RunContext
  ) throws {
    for first in stride(from: 0, to: queries.count, by: RetrievalRun.queriesAtOnce) {
      let some = Array(queries[first..<min(first + RetrievalRun.queriesAtOnce, queries.count)])
      let embedded = try run.vectors(of: some.map(\.text))
      outcome.tokensRun += embedded.tokenCount
      outcome.tokensAsked += embedded.tokenCount
      // One more where the query's own passage is left out.
      let wanted = min(index.count, top + (data.ignoresIdenticalIDs ? 1 : 0))
      let found = try index.search(embedded.vectors.pointer, queryCount: some.count, top: wanted)
      for (query, hits) in zip(some, found) {
        let ranking: RankedDocuments = try hits.map { (try index.passage($0.index).id, $0.score) }
        try journal.append(record(query, ranking))
      }
      let searched = first + some.count
      context.progress(
        done + searched, data.queries.count, 0.95 + 0.05 * Double(searched) / Double(queries.count))
    }
  }

  private func record(_ query: RetrievalData.Query, _ ranking: RankedDocuments) -> ItemRecord {
    let grades = data.judgements.grades[query.id.bytes] ?? [:]
    let measures = RetrievalMetrics.measures(
      ranking, grades: grades, cutoffs: RetrievalRun.cutoffs,
      leavingOut: data.ignoresIdenticalIDs ? query.id : nil)
    var metrics: [(name: String, value: Double)] = []
    for measure in measures {
      let k = measure.cutoff
      metrics += [
        ("ndcg_at_\(k)", measure.ndcg), ("map_at_\(k)", measure.averagePrecision),
        ("mrr_at_\(k)", measure.reciprocalRank),
        ("recall_at_\(k)", measure.recall), ("precision_at_\(k)", measure.precision),
      ]
      if let capped = measure.cappedRecall { metrics.append(("recall_cap_at_\(k)", capped)) }
    }
    let relevant = grades.filter { $0.value > 0 }.map(\.key).sorted()
    return ItemRecord(
      id: query.id, subject: "retrieval", metrics: metrics,
      answer: RetrievalMetrics.ordered(ranking).prefix(10).map(\.id).joined(separator: ", "),
      expected: relevant.prefix(20).map(\.text).joined(separator: ", "),
      details: JSONObject([("question", .string(query.text)), ("relevant", .init(relevant.count))]))
  }
}

/// A reranking task on a reranker, or on an encoder by the similarity of vectors.
package struct RerankingRun {
  package static let rules = [
    MetricRule("map"), MetricRule("map_at_1000"), MetricRule("mrr_at_10"), MetricRule("ndcg_at_10"),
  ]

  private let data: RerankingData

  package init(data: RerankingData) { self.data = data }

  package func prepare(_ model: EvaluatedModel) throws -> PreparedRun {
    PreparedRun(items: data.rows.count, promptTokens: 0, freshTokens: 0, newTokens: 0) {
      journal, _, context in
      try run(model, journal, context)
    }
  }

  private func run(_ model: EvaluatedModel, _ journal: Journal, _ context: RunContext) throws -> RunOutcome {
    let start = Date()
    var outcome = RunOutcome()
    let scorer = try PassageScorer(model)
    scorer.remarks.forEach(context.warn)
    if data.leftOut > 0 {
      context.warn(
        "reranking: \(data.leftOut) rows without a positive or a negative passage are left out, as in mteb")
    }
    let waiting = data.rows.indices.filter { journal.record("\($0)") == nil }
    for (number, index) in waiting.enumerated() {
      let row = data.rows[index]
      let passages = row.positive + row.negative
      var best: [Float] = []
      for query in row.queries {
        let (scores, tokens) = try scorer.scores(query: query, passages: passages)
        outcome.tokensRun += tokens
        outcome.tokensAsked += tokens
        best = best.isEmpty ? scores : zip(best, scores).map { max($0, $1) }
      }
      try journal.append(record(row, index, best))
      outcome.itemsRun += 1
      context.progress(
        data.rows.count - waiting.count + number + 1, data.rows.count,
        Double(number + 1) / Double(waiting.count))
    }
    outcome.records = data.rows.indices.compactMap { journal.record("\($0)") }
    outcome.seconds = Date().timeIntervalSince(start)
    return outcome
  }

  private func record(_ row: RerankingData.Row, _ index: Int, _ scores: [Float]) -> ItemRecord {
    let positive = Array(scores.prefix(row.positive.count))
    let negative = Array(scores.dropFirst(row.positive.count))
    let (documents, grades) = RerankingMetrics.ranking(query: index, positive: positive, negative: negative)
    let measures = RetrievalMetrics.measures(documents, grades: grades, cutoffs: [10, 1000])
    let passages = row.positive + row.negative
    let first = scores.indices.reduce(0) { scores[$1] > scores[$0] ? $1 : $0 }
    return ItemRecord(
      id: "\(index)", subject: "reranking",
      metrics: [
        ("map", RerankingMetrics.averagePrecision(positive: positive, negative: negative) ?? 0),
        ("map_at_1000", measures[1].averagePrecision),
        ("mrr_at_10", RerankingMetrics.reciprocalRank(positive: positive, negative: negative)),
        ("ndcg_at_10", measures[0].ndcg),
      ], answer: passages.isEmpty ? "" : passages[first], expected: row.positive.first ?? "",
      details: JSONObject([
        ("question", .string(row.queries.first ?? "")), ("scores", .array(scores.map { .init(Double($0)) })),
        ("positives", .init(positive.count)),
      ]))
  }
}

/// Scores passages with whatever a model has for it: a head, yes and no, or vectors.
struct PassageScorer {
  private let reranker: (any Reranker)?
  private let embedder: TextEmbedder?

  /// - Throws: ``RetrievalError`` for a decoder that cannot score.
  init(_ model: EvaluatedModel) throws {
    if let encoder = model.opened.configuration.encoder, encoder.labelCount == nil {
      reranker = nil
      embedder = try TextEmbedder(model.opened, arithmetic: model.settings.arithmetic, pool: model.pool)
    } else {
      var options = model.settings.reranker
      options.arithmetic = model.settings.arithmetic
      reranker = try RerankerLoader.open(model.opened, options: options, pool: model.pool)
      embedder = nil
    }
  }

  var remarks: [String] { reranker?.remarks ?? embedder?.remarks ?? [] }

  /// Scores in the order of the passages, and the tokens that ran.
  func scores(query: String, passages: [String]) throws -> ([Float], tokens: Int) {
    if let reranker {
      let scores = try reranker.scores(query: query, passages: passages)
      return (scores.map(\.raw), scores.reduce(0) { $0 + $1.tokenCount })
    }
    guard let embedder else { preconditionFailure("there is one or the other") }
    var run = EmbeddingRun(embedder)
    run.prompt = embedder.settings.prompt(for: .query)?.text
    let asked = try run.vectors(of: [query])
    run.prompt = embedder.settings.prompt(for: .passage)?.text
    let answers = try run.vectors(of: passages)
    let width = run.dimensions
    let scores = passages.indices.map { index in
      (0..<width).reduce(Float(0)) {
        $0 + asked.vectors.pointer[$1] * answers.vectors.pointer[index * width + $1]
      }
    }
    return (scores, asked.tokenCount + answers.tokenCount)
  }
}
