import ArgumentParser
import Compute
import Files
import Foundation
import JSON
import Models
import Retrieval
import Tensors
import Tokenization
import ToolSupport

struct QueryCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "query",
    abstract: "Search an index.",
    discussion: """
      The search is exact: the query's vector is multiplied with every vector of the index. Passages with equal scores come in the \
      order of the corpus. With --rerank, the best --candidates passages are scored again by a reranker and sorted by its scores.

      EXAMPLES
        zhinao-search query INDEX "what is sought"
        zhinao-search query INDEX "what is sought" --top 5 --rerank RERANKER_DIR --json
        zhinao-search query INDEX --queries queries.jsonl --json > results.jsonl
      """)

  @Argument(help: "Folder of an index.")
  var folder: String
  @Argument(help: "The query.")
  var query: String?
  @Option(
    help: ArgumentHelp(
      "A JSON Lines file with _id and text on each line, as BEIR has queries; with --json each answer is one line.",
      valueName: "file"))
  var queries: String?
  @Option(help: ArgumentHelp("How many passages are printed.", valueName: "n"))
  var top = 10
  @Option(help: ArgumentHelp("Rerank the candidates with this model.", valueName: "model"))
  var rerank: String?
  @Option(
    help: ArgumentHelp(
      "How many passages are reranked (default: 100, or --top if that is more).", valueName: "n"))
  var candidates: Int?
  @Option(help: ArgumentHelp("The model that made the index, where it has moved.", valueName: "model"))
  var model: String?
  @Flag(name: .customLong("check"), help: "Check every byte of the index first.")
  var checksIndex = false
  @Flag(help: "Print the model's own scores of --rerank instead of values between 0 and 1.")
  var rawScores = false
  @OptionGroup(title: "Scoring with --rerank") var scoring: RerankerArguments
  @OptionGroup var arithmetic: ArithmeticOptions
  @OptionGroup var opening: OpeningOptions
  @OptionGroup var compute: ComputeOptions
  @OptionGroup var output: OutputOptions

  func validate() throws {
    guard (query == nil) != (queries == nil) else {
      throw ValidationError("Specify either a QUERY or --queries FILE.")
    }
    try OptionRange.check("--top", top, 1...1_000_000)
    try OptionRange.check("--candidates", candidates, 1...1_000_000)
  }

  private struct Answer {
    var hits: [VectorIndex.Hit]
    var passages: [CorpusFile.Passage]
    var scores: [RerankScore]?
    /// Indices of the hits in the order of the answer.
    var order: [Int]
  }

  /// Queries that share a pass over the vectors.
  private static let queriesAtOnce = 64

  func run() throws {
    compute.apply()
    let index = try VectorIndex(path: folder)
    if checksIndex { try VerifyCommand.check(index) }
    if model == nil, !FileManager.default.fileExists(atPath: index.manifest.model.path) {
      throw VectorIndexError(.modelMoved(index.manifest.model.path), path: index.path)
    }
    let embedder = try EmbeddingArguments.open(model ?? index.manifest.model.path, opening, arithmetic)
    try index.check(embedder.model)
    let run = try embeddingRun(embedder, index)
    let reranker = try rerank.map { try scoring.open($0, opening, arithmetic: arithmetic) }
    let queries = try readQueries()
    let bar = ProgressReporter("query", unit: "queries")
    for first in stride(from: 0, to: queries.count, by: QueryCommand.queriesAtOnce) {
      let some = Array(queries[first..<min(first + QueryCommand.queriesAtOnce, queries.count)])
      try answer(some, index, run, reranker)
      bar.update(first + some.count, of: queries.count)
    }
  }

  /// Queries become vectors as the passages did.
  private func embeddingRun(_ embedder: TextEmbedder, _ index: VectorIndex) throws -> EmbeddingRun {
    let settings = index.manifest.settings
    var run = EmbeddingRun(embedder)
    guard settings.dimensions <= embedder.dimensions else {
      throw VectorIndexError(
        .otherDimensions(found: embedder.dimensions, expected: settings.dimensions), path: index.path)
    }
    run.size = settings.dimensions == embedder.dimensions ? nil : settings.dimensions
    run.prompt = settings.queryPrompt.isEmpty ? nil : settings.queryPrompt
    run.normalizes = settings.normalizes
    run.specials = settings.plainText ? .plain : .recognized
    return run
  }

  private func readQueries() throws -> [QueryFile.Query] {
    try queries.map(QueryFile.read) ?? [QueryFile.Query(id: nil, text: query ?? "")]
  }

  private func answer(
    _ queries: [QueryFile.Query], _ index: VectorIndex, _ run: EmbeddingRun, _ reranker: (any Reranker)?
  ) throws {
    let start = Date()
    let vectors = try run.vectors(of: queries.map(\.text)).vectors
    let embedded = Date()
    let wanted = reranker == nil ? top : max(top, candidates ?? 100)
    let found = try index.search(vectors.pointer, queryCount: queries.count, top: wanted)
    let searched = Date()
    for (query, hits) in zip(queries, found) {
      let began = Date()
      var answer = Answer(
        hits: hits, passages: try hits.map { try index.passage($0.index) }, scores: nil,
        order: Array(hits.indices))
      if let reranker {
        let scores = try reranker.scores(query: query.text, passages: answer.passages.map(\.embedded))
        answer.order = Ranking.order(scores.map(\.raw))
        answer.scores = scores
        RerankCommand.warn(scores)
      }
      answer.order = Array(answer.order.prefix(top))
      let times: JSONValue = [
        "embed": .init(embedded.timeIntervalSince(start)),
        "search": .init(searched.timeIntervalSince(embedded)),
        "rerank": .init(reranker == nil ? 0 : Date().timeIntervalSince(began)),
      ]
      try show(query, answer, times)
    }
  }

  private func shown(_ score: RerankScore) -> Float { rawScores ? score.raw : score.relevance }

  private func show(_ query: QueryFile.Query, _ answer: Answer, _ times: JSONValue) throws {
    if output.json {
      let results = answer.order.map { position -> JSONValue in
        let (hit, passage) = (answer.hits[position], answer.passages[position])
        var object = JSONObject([
          ("_id", .string(passage.id)), ("score", Ranking.number(hit.score)), ("index", .init(hit.index)),
        ])
        if let scores = answer.scores {
          object["relevance_score"] = Ranking.number(shown(scores[position]))
        }
        object["title"] = .string(passage.title)
        object["text"] = .string(passage.text)
        return .object(object)
      }
      var object = JSONObject()
      if let id = query.id { object["_id"] = .string(id) }
      object["query"] = .string(query.text)
      object["seconds"] = times
      object["results"] = .array(results)
      try Output.print(JSONValue.object(object).serialized(indent: queries == nil ? 2 : nil))
      return
    }
    if queries != nil { try Output.print((query.id.map { "\($0): " } ?? "") + Ranking.excerpt(query.text)) }
    let head = (answer.scores == nil ? [] : ["relevance"]) + ["score", "_id", "passage"]
    try Output.print(
      Format.table(
        [head]
          + answer.order.map { position in
            let passage = answer.passages[position]
            return (answer.scores.map { [Ranking.text(shown($0[position]))] } ?? [])
              + [
                Ranking.text(answer.hits[position].score), Ranking.excerpt(passage.id),
                Ranking.excerpt(passage.embedded),
              ]
          }))
  }
}

/// Queries in BEIR's form: `_id` and `text` on each line.
enum QueryFile {
  struct Query {
    var id: String?
    var text: String
  }

  static func read(_ path: String) throws -> [Query] {
    let file = try MappedFile(path: path)
    return try withExtendedLifetime(file) {
      var found: [Query] = []
      var number = 0
      for line in file.bytes.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false) {
        number += 1
        if line.allSatisfy({ [32, 9, 13].contains($0) }) { continue }
        let label = "\(path), line \(number)"
        let json: JSONValue
        do throws(JSONError) { json = try JSONValue.parse(Array(line)) } catch {
          throw FileError(.badContent, path: label, detail: error.description)
        }
        let fields = try JSONFields(json, document: label)
        found.append(Query(id: try fields.string("_id"), text: try fields.requiredString("text")))
      }
      return found
    }
  }
}
