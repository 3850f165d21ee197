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
      {"ids": […], "decoded": "…"}. Only the tokenizer files of MODEL are needed; MODEL may also be a .tiktoken or \
      tokenizer.json file.

      EXAMPLES
        echo '{"text": "你好 world"}' | zhinao-verify tokenize MODEL_DIR
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
      if let text = request["text"]?.stringValue {
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
      let answer: JSONValue = ["ids": .array(ids.map { .init($0) }), "decoded": .string(decoded)]
      answers += answer.serialized() + "\n"
      if answers.utf8.count > 1 << 16 {
        try Output.stream(answers)
        answers = ""
      }
    }
    try Output.stream(answers)
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
    if model.bytes.hasSuffix(".tiktoken") || model.bytes.hasSuffix(".json") {
      return try TokenizerLoader.load(file: model)
    }
    if GGUFFile.isGGUF(path: model) {
      return try OpenedModel(path: model, preTokenizer: preTokenizer.preTokenizer, accepting: .all).tokenizer()
    }
    return try TokenizerLoader.load(try PackedModelFile(path: model).files)
  }
}
