import ArgumentParser
import Distribution
import Files
import Foundation
import JSON
import Models
import Retrieval
import ToolSupport

struct IndexCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "index",
    abstract: "Make an index of a corpus.",
    discussion: """
      The corpus is a JSON Lines file in BEIR's form: {"_id": "…", "title": "…", "text": "…"} on each line. What is embedded is the \
      title, a space and the text. The index is a folder with vectors, texts and a manifest (Formats/vector-index.md). If a run is \
      interrupted, the same command continues it.

      EXAMPLES
        zhinao-search index MODEL_DIR --corpus corpus.jsonl -o INDEX
        zhinao-search index model.zhinao --corpus corpus.jsonl --type int8 -o INDEX
      """)

  @Argument(help: "An encoder: Hugging Face folder or .zhinao file.")
  var model: String
  @Option(help: ArgumentHelp("The corpus.", valueName: "file"))
  var corpus: String
  @Option(
    name: [.customShort("o"), .customLong("output")],
    help: ArgumentHelp("Folder of the index.", valueName: "folder"))
  var folder: String
  @Option(
    help: ArgumentHelp(
      "What vectors are stored as: fp32, fp16 (half the size) or int8 (a quarter; one scale for each vector).",
      valueName: "type"))
  var type = VectorType.fp32
  @Option(
    help: ArgumentHelp(
      "This text is put before queries to the index (default: the model's query prompt).", valueName: "text"))
  var queryPrompt: String?
  @Flag(help: "Replace an existing index.")
  var overwrite = false
  @OptionGroup var embedding: EmbeddingArguments
  @OptionGroup var arithmetic: ArithmeticOptions
  @OptionGroup var opening: OpeningOptions
  @OptionGroup var compute: ComputeOptions
  @OptionGroup var output: OutputOptions

  func run() throws {
    let communicator = try compute.join()
    let start = Date()
    guard communicator.isRoot else { return try help(communicator) }
    let reading = ProgressReporter("read the corpus", unit: "bytes")
    let byteCount = (try? FileManager.default.attributesOfItem(atPath: corpus)[.size] as? Int) ?? 0
    let texts = try CorpusFile(path: corpus) { reading.update($0, of: byteCount) }
    if texts.emptyCount > 0 {
      Output.warn("\(corpus): \(texts.emptyCount) of \(texts.count) passages have neither title nor text")
    }
    let embedder = try EmbeddingArguments.open(model, opening, arithmetic)
    try RankSession.check("the model", ModelFingerprint.of(embedder.model), communicator)
    let run = try embedding.run(embedder, role: .passage)
    let ranked = RankedEmbedder(run, communicator)
    let settings = IndexSettings(
      dimensions: run.dimensions, vectorType: type,
      normalizes: embedding.normalize ?? embedder.settings.normalizes,
      maximumLength: embedder.settings.maximumLength, passagePrompt: run.prompt ?? "",
      queryPrompt: queryPrompt ?? embedder.settings.prompt(for: .query)?.text ?? "",
      plainText: embedding.plainText, arithmetic: (arithmetic.arithmetic ?? .exact).rawValue)
    if !settings.normalizes {
      Output.warn("vectors are not normalized, so scores are inner products; --normalize makes them cosines")
    }
    let builder = VectorIndexBuilder(
      output: folder, corpus: texts, embedder: ranked, settings: settings,
      // Queries may be asked from another folder.
      model: IndexedModel(
        path: URL(fileURLWithPath: model).path,
        fingerprint: try ModelFingerprint.of(embedder.model)),
      generator: ToolVersion.generator, replacing: overwrite)
    sayWhatIsKept()
    let bar = ProgressReporter("embed", unit: "passages")
    var (reused, tokens): (Int?, Int) = (nil, 0)
    let manifest = try builder.build { progress in
      if progress.tokens == 0 { reused = progress.passages }
      tokens = progress.tokens
      bar.update(progress.passages, of: texts.count)
    }
    try ranked.finish()
    let seconds = Date().timeIntervalSince(start)
    if manifest.truncatedCount > 0 {
      Output.warn(
        "\(manifest.truncatedCount) of \(texts.count) passages were longer than \(settings.maximumLength) tokens and lost their end"
      )
    }
    try output.show(
      [
        "index": .string(folder), "passages": .init(manifest.passageCount),
        "dimensions": .init(run.dimensions),
        "vector_type": .string(type.rawValue), "truncated_passages": .init(manifest.truncatedCount),
        "empty_passages": .init(manifest.emptyCount), "reused_passages": .init(reused ?? 0),
        "tokens": .init(tokens), "seconds": .init(seconds),
      ]
    ) {
      let fresh = texts.count - (reused ?? 0)
      return "\(folder): \(texts.count) passages, vectors of \(run.dimensions) in \(type.rawValue), "
        + "\(Format.bytes(manifest.files.reduce(0) { $0 + $1.byteCount }))\n"
        + "\(Format.duration(seconds)), \(tokens) tokens, \(Format.rate(fresh, seconds)) passages/s"
    }
  }

  /// The part of another rank than 0, which needs no corpus.
  private func help(_ communicator: any Communicator) throws {
    let embedder = try EmbeddingArguments.open(model, opening, arithmetic)
    try RankSession.check("the model", ModelFingerprint.of(embedder.model), communicator)
    try RankedEmbedder(embedding.run(embedder, role: .passage), communicator).serve()
  }

  /// Says what an earlier run left, and lets an interrupted one say how to go on.
  private func sayWhatIsKept() {
    let folder = folder
    let kept = VectorIndexBuilder.keptPassages(output: folder)
    if kept > 0 {
      Output.remark(
        "continuing after about \(kept) passages in \(PathParts.withoutTrailingSlashes(folder)).partial")
    }
    Interruption.farewell.withLock { farewell in
      farewell = {
        let kept = VectorIndexBuilder.keptPassages(output: folder)
        return kept > 0
          ? "about \(kept) passages are kept in \(PathParts.withoutTrailingSlashes(folder)).partial; the same command continues"
          : nil
      }
    }
  }
}
