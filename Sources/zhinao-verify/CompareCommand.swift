import ArgumentParser
import Distribution
import Evaluation
import Files
import Foundation
import JSON
import Models
import Retrieval
import Tensors
import Tokenization
import ToolSupport

struct CompareCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "compare",
    abstract: "Compare the predictions of two models on a text.",
    discussion: """
      Both perplexities and their ratio, KL divergence of the reference from the candidate (mean and 99th percentile, \
      in nats per token), the share of positions where both put the same token first, and how many of the 5 and 10 most \
      likely tokens they share. --arithmetic and --lora are those of the candidate; the reference is computed in fp32.

      --details says where they differ: by the length of the context, along the text, by the kind of token, and at the \
      positions with the largest divergence. --json has all of this always.

      Of encoders, the cosine of the two vectors of each text (mean, 1st percentile, least), and how many of the ten \
      nearest texts stay the same; of cross-encoders, the errors of the scores. --text is then a file with a text on each \
      line, or JSON Lines with text and pair, or with query and passage; --max-windows limits how many are read.

      EXAMPLES
        zhinao-verify compare bge/ bge-int8.zhinao --text sentences.txt --arithmetic fast
        zhinao-verify compare MODEL_DIR model-int4.zhinao --text eval.txt
        zhinao-verify compare MODEL_DIR model-int4.zhinao --text eval.txt --details --worst 5
        zhinao-verify compare MERGED_DIR model-int4.zhinao --lora ADAPTER_DIR --text eval.txt
      """)

  @Argument(help: "The reference model.")
  var reference: String
  @Argument(help: "The model that is compared with the reference.")
  var candidate: String
  @OptionGroup var text: TextOptions
  @Flag(
    help:
      "Print where decoders differ: by context, along the text, by kind of token, and the worst positions.")
  var details = false
  @Option(
    help: ArgumentHelp(
      "How many positions with the largest divergence are listed, with their context (default: 20; 0: none).",
      valueName: "n"))
  var worst: Int?
  @OptionGroup var arithmetic: ArithmeticOptions
  @OptionGroup var adapters: AdapterOptions
  @OptionGroup var opening: OpeningOptions
  @OptionGroup var compute: ComputeOptions
  @OptionGroup var output: OutputOptions

  static let mostWorst = 10_000

  func validate() throws { try OptionRange.check("--worst", worst, 0...Self.mostWorst) }

  func run() throws {
    let communicator = try compute.join()
    let start = Date()
    let (a, b) = (
      try opening.open(reference, accepting: .all), try opening.open(candidate, accepting: .all)
    )
    guard a.configuration.family == b.configuration.family || a.configuration.encoder == nil else {
      throw ValidationError("\(reference) is an encoder, \(candidate) is not.")
    }
    if a.configuration.encoder != nil {
      return try compareEncoders(a, b, communicator, start: start)
    }
    if b.configuration.encoder != nil {
      throw ValidationError("\(candidate) is an encoder, \(reference) is not.")
    }
    let tokenizer = try tokenizer(of: a)
    let ids = try text.load(for: a, tokenizer: tokenizer)
    try check(a, b, ids, communicator)
    let bar = ProgressReporter("compare", unit: "windows")
    let result = try Comparison.measure(
      reference: a.decoder(),
      candidate: adapters.decoder(of: b, arithmetic: arithmetic.arithmetic ?? .exact), ids: ids,
      protocol: text.windowing, texts: tokenizer.map(TokenTexts.init), worst: worst ?? 20,
      communicator: communicator
    ) { bar.update($0, of: $1) }
    var json = result.json.objectValue ?? JSONObject()
    json["reference"] = .string(reference)
    json["candidate"] = .string(candidate)
    if let adapters = adapters.json { json["adapters"] = adapters }
    json["window"] = .init(text.window)
    json["seconds"] = .init(Date().timeIntervalSince(start))
    try output.show(.object(json)) {
      let summary = Format.table(
        [
          ["perplexity of the reference", Format.number(result.reference, digits: 4)],
          ["perplexity of the candidate", Format.number(result.candidate, digits: 4)],
          ["ratio", Format.number(result.ratio, digits: 5)],
          ["KL divergence, mean", Format.number(result.meanKL, digits: 6)],
          ["KL divergence, median", Format.number(result.medianKL, digits: 6)],
          ["KL divergence, 99th percentile", Format.number(result.kl99, digits: 6)],
          ["top-1 agreement", Format.number(result.top1Agreement * 100, digits: 2) + " %"],
        ] + (result.profile?.overlapRows ?? []) + [["tokens", "\(result.tokensScored)"]])
      return ([summary] + (details ? result.profile?.tables ?? [] : [])).joined(separator: "\n\n")
    }
  }

  /// The reference's tokenizer. Ids can be compared without one.
  private func tokenizer(of model: OpenedModel) throws -> (any Tokenizer)? {
    do { return try model.tokenizer() } catch {
      if text.text != nil { throw error }
      Output.warn(
        "\(reference): the tokenizer cannot be read, so that classes and texts of tokens are left out: \(error)"
      )
      return nil
    }
  }

  /// Refuses ranks that have other models or another text.
  private func check(
    _ a: OpenedModel, _ b: OpenedModel, _ ids: [Int], _ communicator: any Communicator
  ) throws {
    guard !communicator.isAlone else { return }
    let models = try [a, b].map(ModelFingerprint.of).joined(separator: ", ")
    let digest = ids.withUnsafeBytes { Checksum.sha256($0) }
    try RankSession.check("the models or the text", "\(models), text \(digest)", communicator)
  }

  private func check(
    _ a: OpenedModel, _ b: OpenedModel, _ texts: [EncodedText], _ communicator: any Communicator
  ) throws { try check(a, b, texts.flatMap { [$0.ids.count] + $0.ids }, communicator) }

  private func compareEncoders(
    _ a: OpenedModel, _ b: OpenedModel, _ communicator: any Communicator, start: Date
  ) throws {
    guard !details, worst == nil else {
      throw ValidationError(
        "--details and --worst compare the predictions of decoders; \(reference) is an encoder.")
    }
    guard adapters.lora.isEmpty else {
      throw ValidationError("--lora: adapters are used with decoders; \(candidate) is an encoder.")
    }
    guard let path = text.text else {
      throw ValidationError("Encoders are compared on texts: specify --text FILE.")
    }
    let arithmetic = arithmetic.arithmetic ?? .exact
    let texts = try TextPairs(ofFile: path, most: text.maxWindows ?? .max).texts
    let bar = ProgressReporter("compare", unit: "texts")
    let result: JSONValue
    let rows: [[String]]
    if a.configuration.encoder?.labelCount != nil {
      let (first, second) = (try CrossEncoder(a), try CrossEncoder(b, arithmetic: arithmetic))
      let pairs = try texts.enumerated().map { index, text in
        guard let pair = text.pair else {
          throw ValidationError(
            "\(path): text \(index + 1) has no second text; a cross-encoder reads query and passage.")
        }
        return try first.encode(query: text.text, passage: pair)
      }
      try check(a, b, pairs, communicator)
      let scores = ScoreComparison.measure(
        try first.scores(pairs, communicator: communicator),
        try second.scores(pairs, communicator: communicator))
      result = scores.json
      rows = [
        ["error of raw scores, mean", Format.number(scores.meanError, digits: 6)],
        ["error of raw scores, largest", Format.number(scores.largestError, digits: 6)],
        ["error of relevances, mean", Format.number(scores.meanRelevanceError, digits: 6)],
        [
          "pairs in the same order",
          scores.orderAgreement.map { Format.number($0 * 100, digits: 2) + " %" } ?? "-",
        ],
        ["pairs", "\(scores.pairs)"], ["tokens", "\(scores.tokens)"],
      ]
    } else {
      let (first, second) = (try TextEmbedder(a), try TextEmbedder(b, arithmetic: arithmetic))
      for remark in first.remarks { Output.remark(remark) }
      let encoded = try texts.map { try first.encode($0.text, pair: $0.pair) }
      try check(a, b, encoded, communicator)
      let vectors = try EmbeddingComparison.measure(
        reference: first, candidate: second, texts: encoded, communicator: communicator
      ) {
        bar.update($0, of: encoded.count)
      }
      result = vectors.json
      rows = [
        ["cosine, mean", Format.number(vectors.meanCosine, digits: 6)],
        ["cosine, 1st percentile", Format.number(vectors.lowCosine, digits: 6)],
        ["cosine, least", Format.number(vectors.leastCosine, digits: 6)],
        [
          "the ten nearest that stay",
          vectors.neighbourAgreement.map { Format.number($0 * 100, digits: 2) + " %" } ?? "-",
        ],
        ["texts", "\(vectors.texts)"], ["tokens", "\(vectors.tokens)"],
      ]
    }
    var json = result.objectValue ?? JSONObject()
    json["reference"] = .string(reference)
    json["candidate"] = .string(candidate)
    json["arithmetic"] = .string(arithmetic.rawValue)
    json["seconds"] = .init(Date().timeIntervalSince(start))
    try output.show(.object(json)) { Format.table(rows) }
  }
}
