import ArgumentParser
import Calibration
import Conversion
import DemoModels
import Evaluation
import Files
import Foundation
import JSON
import Models
import Quantization
import Retrieval
import ToolSupport

/// The command without a subcommand: help, or `--demo`.
struct DemoCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "demo",
    abstract: "Search and rerank with a small included pair of models, and print a table.",
    usage: Search.usage,
    shouldDisplay: false)

  @Flag(help: "Search and rerank with a small included pair of models, and print a table.")
  var demo = false
  @OptionGroup var compute: ComputeOptions
  @OptionGroup var output: OutputOptions

  func run() throws {
    guard demo else { throw CleanExit.helpRequest(Search.self) }
    compute.apply()
    try Demo().run(output)
  }
}

/// Quantizes the small trained pair inside this program, indexes a corpus with each encoding, searches, reranks, and shows how good
/// the rankings are.
struct Demo {
  /// An encoding of both models, and what it does.
  private struct Row {
    var name: String
    /// Of the two packed files.
    var byteCount: Int
    var ndcg: Double
    var rerankedNDCG: Double
  }

  /// What one encoding finds.
  private struct Answers {
    /// Of each query: the passages' ids with the encoder's scores, best first.
    var found: [RankedDocuments] = []
    /// The first ones with the reranker's own scores, best first: those between 0 and 1 are equal sooner.
    var reranked: [RankedDocuments] = []
  }

  /// Passages of a query that the reranker reads.
  private static let candidates = 20
  private static let groupSize = 32
  /// The positions that the models have.
  private static let calibrationLength = 128

  func run(_ output: OutputOptions) throws {
    let start = Date()
    let folder = try DemoModels.folder(DemoModels.search)
    let work = FileManager.default.temporaryDirectory.appendingPathComponent("zhinao-demo-\(getpid())").path
    PendingOutputs.register(work)
    defer { PendingOutputs.discardRegistered(work) }
    do { try FileManager.default.createDirectory(atPath: work, withIntermediateDirectories: true) } catch {
      throw FileError(.cannotWrite, path: work, detail: "cannot create: \(error.localizedDescription)")
    }
    let corpus = try CorpusFile(path: "\(folder)/corpus.jsonl")
    let queries = try QueryFile.read("\(folder)/queries.jsonl")
    let judgements = try RelevanceJudgements(path: "\(folder)/qrels.tsv")
    if !output.json {
      try Output.print(
        "tiny-search: an encoder and a reranker of 2 layers, hidden 64, trained on classic novels\n"
          + "\(corpus.count) passages that they were not trained on, \(queries.count) queries\n")
    }
    var rows: [Row] = []
    var example: JSONValue = nil
    for bits in [16, 8, 4] {
      let encoder = try pack("encoder", bits: bits, from: folder, into: work)
      let reranker = try pack("reranker", bits: bits, from: folder, into: work)
      let answers = try answers(
        corpus, queries, encoder: encoder, reranker: reranker, index: "\(work)/index-\(bits)")
      func ndcg(_ rankings: [RankedDocuments]) -> Double {
        let byQuery = Dictionary(zip(queries.map { ($0.id ?? "").bytes }, rankings)) { first, _ in first }
        return RetrievalMetrics.meanNDCG(byQuery, judgements: judgements) ?? 0
      }
      rows.append(
        Row(
          name: bits == 16 ? "bf16" : "\(bits) bits",
          byteCount: try MappedFile(path: encoder).byteCount + MappedFile(path: reranker).byteCount,
          ndcg: ndcg(answers.found), rerankedNDCG: ndcg(answers.reranked)))
      if bits == 16 { example = try show(answers, queries, corpus, output) }
    }
    let seconds = Date().timeIntervalSince(start)
    try output.show(json(rows, example, corpus.count, queries.count, seconds)) { text(rows, seconds) }
  }

  // MARK: Models

  /// Writes a `.zhinao` file of one of the models and opens it with every checksum compared.
  /// - Returns: its path.
  private func pack(_ name: String, bits: Int, from folder: String, into work: String) throws -> String {
    let path = "\(work)/\(name)-\(bits).zhinao"
    let tool = QuantizationJob.ToolIdentity(generator: ToolVersion.generator, version: ToolVersion.current)
    if bits == 16 {
      try ModelPacker(ModelContents(OpenedModel(path: "\(folder)/\(name)", accepting: .all))).write(
        to: path, generator: tool.generator, provenance: JSONObject())
    } else {
      var recipe = QuantizationRecipe(method: .gptq, bits: bits, groupSize: Demo.groupSize)
      recipe.apply(.balanced)
      let result = try QuantizationJob(
        modelPath: "\(folder)/\(name)", recipe: recipe,
        calibrationFiles: [CalibrationFile("\(folder)/corpus.jsonl")],
        calibrationOptions: CalibrationOptions(sequenceLength: Demo.calibrationLength),
        outputs: QuantizationJob.Outputs(packed: path, overwrites: true), tool: tool
      ).run()
      for warning in result.report.warnings { Output.warn(warning) }
    }
    _ = try OpenedModel(path: path, verification: .full, accepting: .all)
    return path
  }

  private func answers(
    _ corpus: CorpusFile, _ queries: [QueryFile.Query], encoder: String, reranker: String, index path: String
  ) throws -> Answers {
    let embedder = try TextEmbedder(OpenedModel(path: encoder, accepting: .encoders))
    let run = EmbeddingRun(embedder)
    let settings = IndexSettings(
      dimensions: run.dimensions, vectorType: .fp32, normalizes: embedder.settings.normalizes,
      maximumLength: embedder.settings.maximumLength)
    _ = try VectorIndexBuilder(
      output: path, corpus: corpus, embedder: run, settings: settings,
      model: IndexedModel(path: encoder, fingerprint: try ModelFingerprint.of(embedder.model)),
      generator: ToolVersion.generator
    ).build()
    let index = try VectorIndex(path: path)
    let crossEncoder = try RerankerLoader.open(OpenedModel(path: reranker, accepting: .all))
    let vectors = try run.vectors(of: queries.map(\.text)).vectors
    // All passages, because equal scores at the end of a shorter list would be cut in the order of the corpus.
    let found = try index.search(vectors.pointer, queryCount: queries.count, top: index.count)
    var answers = Answers()
    for (query, hits) in zip(queries, found) {
      let passages = try hits.map { try index.passage($0.index) }
      answers.found.append(zip(passages, hits).map { ($0.id, $1.score) })
      let read = passages.prefix(Demo.candidates)
      let scores = try crossEncoder.scores(query: query.text, passages: read.map(\.embedded))
      answers.reranked.append(Ranking.order(scores.map(\.raw)).map { (read[$0].id, scores[$0].raw) })
    }
    return answers
  }

  // MARK: What is shown

  /// Shows the first query whose best three passages reranking changes.
  private func show(
    _ answers: Answers, _ queries: [QueryFile.Query], _ corpus: CorpusFile, _ output: OutputOptions
  ) throws -> JSONValue {
    func best(_ ranking: RankedDocuments) -> RankedDocuments { Array(ranking.prefix(3)) }
    let changed = queries.indices.first { index in
      !best(answers.found[index]).map(\.id.bytes).elementsEqual(best(answers.reranked[index]).map(\.id.bytes))
    }
    let index = changed ?? 0
    var texts: [ByteText: String] = [:]
    for number in 0..<corpus.count {
      let passage = try corpus.passage(number)
      texts[passage.id.bytes] = passage.embedded
    }
    let (before, after) = (best(answers.found[index]), best(answers.reranked[index]))
    if !output.json {
      func table(_ ranking: RankedDocuments) -> String {
        Format.table(
          [["score", "_id", "passage"]]
            + ranking.map { [Ranking.text($0.score), $0.id, Ranking.excerpt(texts[$0.id.bytes] ?? "")] })
      }
      try Output.print(
        "query: \(queries[index].text)\n\n" + table(before) + "\n\nreranked\n"
          + table(after) + "\n")
    }
    func json(_ ranking: RankedDocuments) -> JSONValue {
      .array(ranking.map { ["_id": .string($0.id), "score": Ranking.number($0.score)] })
    }
    return ["query": .string(queries[index].text), "found": json(before), "reranked": json(after)]
  }

  private func json(
    _ rows: [Row], _ example: JSONValue, _ passages: Int, _ queries: Int, _ seconds: Double
  ) -> JSONValue {
    [
      "passages": .init(passages), "queries": .init(queries), "example": example,
      "rows": .array(
        rows.map { row in
          [
            "name": .string(row.name), "bytes": .init(row.byteCount), "ndcg_at_10": .init(row.ndcg),
            "reranked_ndcg_at_10": .init(row.rerankedNDCG),
          ]
        }), "seconds": .init(seconds), "intact": true,
    ]
  }

  private func text(_ rows: [Row], _ seconds: Double) -> String {
    let header = ["weights", "size of both", "NDCG@10", "NDCG@10 reranked"]
    return Format.table(
      [header]
        + rows.map { row in
          [
            row.name, Format.bytes(row.byteCount), Format.number(row.ndcg, digits: 4),
            Format.number(row.rerankedNDCG, digits: 4),
          ]
        })
      + "\n\nEmbeddings stay bf16, which is most of so small a model. All files verified: every checksum right. "
      + "\(Format.duration(seconds)) in all."
  }
}
