import ArgumentParser
import Files
import Foundation
import JSON
import Retrieval
import ToolSupport

struct RerankCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "rerank",
    abstract: "Score passages against a query, and sort them.",
    discussion: """
      With --query, passages are read from standard input, one a line, and printed best first. With --pairs, each line of a file is \
      {"query": "…", "passage": "…"}, and scores are printed in the order of the file. A score lies between 0 and 1 unless \
      --raw-scores asks for the model's own number.

      EXAMPLES
        zhinao-search rerank RERANKER_DIR --query "天空是什么颜色的" < passages.txt
        zhinao-search rerank RERANKER_DIR --position before-placeholder --final-norm --pairs pairs.jsonl --json
        zhinao-search rerank DECODER_DIR --template qwen3-reranker --query "…" < passages.txt
      """)

  @Argument(help: "A cross-encoder, or a decoder that scores: Hugging Face folder or .zhinao file.")
  var model: String
  @Option(
    help: ArgumentHelp("The query that the passages on standard input are scored against.", valueName: "text")
  )
  var query: String?
  @Option(
    help: ArgumentHelp(
      "A JSON Lines file with query and passage on each line; - is standard input.", valueName: "file"))
  var pairs: String?
  @Option(help: ArgumentHelp("Print the best n passages only.", valueName: "n"))
  var top: Int?
  @Flag(help: "Print the model's own scores instead of values between 0 and 1.")
  var rawScores = false
  @OptionGroup var input: TextInput
  @OptionGroup(title: "Scoring") var scoring: RerankerArguments
  @OptionGroup var arithmetic: ArithmeticOptions
  @OptionGroup var opening: OpeningOptions
  @OptionGroup var compute: ComputeOptions
  @OptionGroup var output: OutputOptions

  func validate() throws {
    guard (query == nil) != (pairs == nil) else {
      throw ValidationError("Specify either --query or --pairs.")
    }
    try OptionRange.check("--top", top, 1...Int.max)
  }

  func run() throws {
    compute.apply()
    let reranker = try scoring.open(model, opening, arithmetic: arithmetic)
    if let query { try rerank(query, with: reranker) } else { try scorePairs(with: reranker) }
  }

  private func shown(_ score: RerankScore) -> Float { rawScores ? score.raw : score.relevance }

  // MARK: One query

  /// Passages that are scored together, so that the progress is seen and memory stays bounded.
  private static let passagesAtOnce = 256

  private func rerank(_ query: String, with reranker: any Reranker) throws {
    var passages: [String] = []
    try input.forEachText { text, _ in
      guard text.pair == nil else {
        throw FileError(
          .badContent, path: "standard input",
          detail: "has a pair, but --query is the first text of every pair")
      }
      passages.append(text.text)
    }
    let start = Date()
    let bar = ProgressReporter("rerank", unit: "passages")
    var scores: [RerankScore] = []
    for first in stride(from: 0, to: passages.count, by: RerankCommand.passagesAtOnce) {
      let some = Array(passages[first..<min(first + RerankCommand.passagesAtOnce, passages.count)])
      scores += try reranker.scores(query: query, passages: some)
      bar.update(scores.count, of: passages.count)
    }
    let seconds = Date().timeIntervalSince(start)
    let order = Ranking.order(scores.map(\.raw)).prefix(top ?? passages.count)
    try output.show(
      [
        "model": .string(model), "query": .string(query), "seconds": .init(seconds),
        "results": .array(
          order.map { index in
            [
              "index": .init(index), "relevance_score": Ranking.number(shown(scores[index])),
              "raw_score": Ranking.number(scores[index].raw), "tokens": .init(scores[index].tokenCount),
              "text": .string(passages[index]),
            ]
          }),
      ]
    ) {
      Format.table(
        [["score", "line", "passage"]]
          + order.map {
            [Ranking.text(shown(scores[$0])), "\($0 + 1)", Ranking.excerpt(passages[$0])]
          })
    }
    remark(scores, seconds)
  }

  /// Says how many pairs were cut.
  static func warn(_ scores: [RerankScore]) {
    let cut = scores.count { $0.isTruncated }
    if cut > 0 { Output.warn("\(cut) of \(scores.count) pairs were too long for the model and were cut") }
  }

  private func remark(_ scores: [RerankScore], _ seconds: Double) {
    RerankCommand.warn(scores)
    let tokens = scores.reduce(0) { $0 + $1.tokenCount }
    Output.remark(
      "\(scores.count) pairs, \(tokens) tokens in \(Format.duration(seconds)), \(Format.rate(scores.count, seconds)) pairs/s"
    )
  }

  // MARK: Pairs

  private func scorePairs(with reranker: any Reranker) throws {
    let pairs = try readPairs()
    let start = Date()
    let bar = ProgressReporter("rerank", unit: "pairs")
    var scores: [RerankScore] = []
    // Neighbours with the same query are scored together.
    while scores.count < pairs.count {
      let first = scores.count
      let query = pairs[first].query
      var end = first + 1
      while end < pairs.count, end - first < RerankCommand.passagesAtOnce,
        pairs[end].query.hasSameBytes(as: query)
      {
        end += 1
      }
      scores += try reranker.scores(query: query, passages: pairs[first..<end].map(\.passage))
      bar.update(scores.count, of: pairs.count)
    }
    let seconds = Date().timeIntervalSince(start)
    for (index, score) in scores.enumerated() {
      if output.json {
        let line: JSONValue = [
          "index": .init(index), "score": Ranking.number(shown(score)),
          "raw_score": Ranking.number(score.raw),
          "tokens": .init(score.tokenCount),
        ]
        try Output.stream(line.serialized() + "\n")
      } else {
        try Output.stream("\(shown(score))\n")
      }
    }
    remark(scores, seconds)
  }

  private func readPairs() throws -> [(query: String, passage: String)] {
    var found: [(String, String)] = []
    let path = pairs == "-" ? "standard input" : pairs ?? ""
    var number = 0
    func take(_ line: [UInt8]) throws {
      number += 1
      if line.allSatisfy({ [32, 9, 13].contains($0) }) { return }
      let label = "\(path), line \(number)"
      let json: JSONValue
      do throws(JSONError) { json = try JSONValue.parse(line) } catch {
        throw FileError(.badContent, path: label, detail: error.description)
      }
      let fields = try JSONFields(json, document: label)
      found.append((try fields.requiredString("query"), try fields.requiredString("passage")))
    }
    if pairs == "-" {
      try StandardInput.forEachLine(take)
    } else {
      let file = try MappedFile(path: path)
      try withExtendedLifetime(file) {
        for line in file.bytes.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false) {
          try take(Array(line))
        }
      }
    }
    return found
  }
}

/// Scores and texts for people and programs.
enum Ranking {
  /// Indices from the highest score down; equal scores in their order, NaN last.
  static func order(_ scores: [Float]) -> [Int] {
    scores.indices.sorted { a, b in
      let (x, y) = (scores[a], scores[b])
      if x.isNaN || y.isNaN { return x.isNaN == y.isNaN ? a < b : y.isNaN }
      return x == y ? a < b : x > y
    }
  }

  /// The shortest spelling that gives the same float again.
  static func number(_ value: Float) -> JSONValue { value.isFinite ? .number("\(value)") : .null }

  static func text(_ value: Float) -> String { Format.number(Double(value), digits: 4) }

  /// The beginning of a text on one line.
  static func excerpt(_ text: String) -> String {
    let line = String(text.unicodeScalars.map { $0.value < 0x20 ? " " : Character($0) })
    let start = line.bytes.prefix(scalars: 96)
    return start.hasSameBytes(as: line) ? line : start + "…"
  }
}
