import ArgumentParser
import Files
import Foundation
import GGUF
import JSON
import Models
import PackedModel
import Tokenization
import ToolSupport

struct TokenizeCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "tokenize",
    abstract: "Encode and decode text, one JSON object on each line.",
    discussion: """
      Reads lines like {"text": "…"} or {"ids": […]} from standard input and answers each with one line, \
      {"ids": […], "decoded": "…"}. Only the tokenizer files of MODEL are needed; MODEL may also be a .tiktoken, \
      tokenizer.json or vocab.txt file.

      Tokenizers of encoders (WordPiece) also take {"text": "…", "pair": "…", "max_length": N}: a line with "pair" \
      (which may be null) or "max_length" is encoded with its special tokens, cut to N ids, and answered with \
      {"ids": […], "type_ids": […], "truncated": …, "decoded": "…"}.

      EXAMPLES
        echo '{"text": "你好 world"}' | zhinao-verify tokenize MODEL_DIR
        echo '{"text": "a query", "pair": "a passage", "max_length": 512}' | zhinao-verify tokenize BERT_DIR
        zhinao-verify tokenize model.zhinao < cases.jsonl > ids.jsonl
      """)

  @Argument(help: "A model or a tokenizer file.")
  var model: String
  @Flag(help: "Treat names of special tokens in the text as ordinary text.")
  var plain = false
  @Flag(help: "Omit special tokens from the decoded text.")
  var skipSpecialTokens = false
  @Flag(help: "Add what the tokenizer's post-processor adds (for example <|begin_of_text|>).")
  var addSpecialTokens = false
  @Option(
    help: ArgumentHelp(
      "What is cut where \"max_length\" is exceeded: longest_first or only_second.", valueName: "strategy"))
  var truncation = Truncation.longestFirst
  @Option(help: ArgumentHelp("From which end it is cut: right or left.", valueName: "side"))
  var truncationSide = TruncationSide.right
  @OptionGroup var preTokenizer: PreTokenizerOption
  @Flag(help: "Has no effect: the output is always JSON, one object on each line.")
  var json = false

  func run() throws {
    let tokenizer = try loadTokenizer()
    var number = 0
    var answers = ""
    try StandardInput.forEachLine { line in
      number += 1
      if line.allSatisfy(TokenizeCommand.isSpace) { return }
      func bad(_ detail: String) -> FileError {
        FileError(.badContent, path: "standard input", detail: "line \(number): \(detail)")
      }
      let request: JSONValue
      do throws(JSONError) { request = try JSONValue.parse(line) } catch { throw bad(error.description) }
      let ids: [Int]
      var answer = JSONObject([("ids", .null)])
      if let text = request["text"]?.stringValue, request["pair"] != nil || request["max_length"] != nil {
        let encoded = try encodePair(text, request, tokenizer, bad)
        ids = encoded.ids
        answer["type_ids"] = .array(encoded.typeIDs.map { .init($0) })
        answer["truncated"] = .bool(encoded.isTruncated)
      } else if let text = request["text"]?.stringValue {
        ids = tokenizer.encode(text, specials: plain ? .plain : .recognized, addingAffixes: addSpecialTokens)
      } else if let given = request["ids"]?.arrayValue {
        ids = try given.map { value in
          guard let id = value.intValue else { throw bad("an id is not a whole number") }
          return id
        }
      } else {
        throw bad("expected {\"text\": …} or {\"ids\": […]}")
      }
      let decoded = try tokenizer.decode(ids, skippingSpecials: skipSpecialTokens)
      answer["ids"] = .array(ids.map { .init($0) })
      answer["decoded"] = .string(decoded)
      answers += JSONValue.object(answer).serialized() + "\n"
      if answers.utf8.count > 1 << 16 {
        try Output.stream(answers)
        answers = ""
      }
    }
    try Output.stream(answers)
  }

  /// A line with a second text or a limit.
  /// - Parameter bad: makes an error that names the line.
  private func encodePair(
    _ text: String, _ request: JSONValue, _ tokenizer: any Tokenizer, _ bad: (String) -> FileError
  ) throws -> EncodedText {
    guard let tokenizer = tokenizer as? any PairTokenizer else {
      throw bad("\"pair\" and \"max_length\" need the tokenizer of an encoder (WordPiece)")
    }
    let (pair, limit) = (request["pair"] ?? .null, request["max_length"] ?? .null)
    guard pair.isNull || pair.stringValue != nil else { throw bad("\"pair\" is not a string") }
    guard limit.isNull || limit.intValue.map({ $0 >= 0 }) == true else {
      throw bad("\"max_length\" is not a whole number of tokens")
    }
    do {
      return try tokenizer.encode(
        text, pair: pair.stringValue, maximumLength: limit.intValue, truncation: truncation,
        side: truncationSide, specials: plain ? .plain : .recognized)
    } catch let error as TokenizationError { throw bad("\(error.reason)") }
  }

  /// White space of JSON.
  private static func isSpace(_ byte: UInt8) -> Bool {
    byte == UInt8(ascii: " ") || byte == UInt8(ascii: "\t") || byte == UInt8(ascii: "\r")
  }

  private func loadTokenizer() throws -> any Tokenizer {
    var isFolder: ObjCBool = false
    guard FileManager.default.fileExists(atPath: model, isDirectory: &isFolder) else {
      throw FileError(.cannotOpen, path: model, detail: "no such file or folder")
    }
    if isFolder.boolValue { return try TokenizerLoader.load(FolderFiles(model)) }
    if model.bytes.hasSuffix(".tiktoken") || model.bytes.hasSuffix(".json")
      || model.bytes.hasSuffix(".txt")
    {
      return try TokenizerLoader.load(file: model)
    }
    if GGUFFile.isGGUF(path: model) {
      return try OpenedModel(path: model, preTokenizer: preTokenizer.preTokenizer, accepting: .all)
        .tokenizer()
    }
    return try TokenizerLoader.load(try PackedModelFile(path: model).files)
  }
}

extension Truncation: ExpressibleByArgument {}
extension TruncationSide: ExpressibleByArgument {}
