import Files
import Foundation
import JSON
import Models
import Tasks
import TestSupport
import Testing
import Tokenization

/// Prompts with needles against the vendor's own class (`golden/needle-cells.json`).
@Suite struct NeedleTests {
  private static func characters(_ text: String, _ range: Range<Int>) -> String {
    let scalars = text.unicodeScalars
    let start = scalars.index(scalars.startIndex, offsetBy: range.lowerBound)
    return String(scalars[start..<scalars.index(start, offsetBy: range.count)])
  }

  private static func hash(_ ids: [Int]) -> String {
    let words = ids.map { Int32($0).littleEndian }
    return words.withUnsafeBytes { Checksum.sha256($0) }
  }

  private static func hash(_ text: String) -> String {
    Array(text.utf8).withUnsafeBytes { Checksum.sha256($0) }
  }

  /// Every cell: ids, where the needle is, the text, and the whole conversation.
  @Test(arguments: NeedleKind.allCases)
  func cellsAsTheVendorsClass(kind: NeedleKind) throws {
    let golden = try JSONValue.parse(file: Fixture.path("golden/needle-cells.json"))
    let opened = try OpenedModel(path: Fixture.tinyZhinao)
    let tokenizer = try opened.tokenizer()
    let language = kind.isChinese ? "zh" : "en"
    let text = try String(contentsOfFile: "\(Fixture.tinyZhinao)/eval.\(language).txt", encoding: .utf8)
    let slices = kind.isChinese ? [0..<4000, 8000..<11000, 11000..<16000] : [0..<6000, 20000..<24000]
    let builder = try NeedleBuilder(
      kind: kind, texts: slices.map { Self.characters(text, $0) }, longest: 4096, tokenizer: tokenizer,
      path: "test")
    #expect(
      Set(
        golden["periods"]?[kind == .english ? "en" : "zh_and_value"]?.arrayValue?.compactMap(\.intValue) ?? []
      )
        == builder.periods)
    let template = try #require(try ChatTemplate.detected(tokenizer: tokenizer, files: opened.files))
    var count = 0
    for cell in try #require(golden["cells"]?.arrayValue) where cell["kind"]?.stringValue == kind.rawValue {
      let value = NeedleValue(
        city: cell["city"]?.stringValue ?? "", number: cell["number"]?.stringValue ?? "")
      let context = try builder.context(
        length: try #require(cell["length"]?.intValue), depth: try #require(cell["depth"]?.intValue),
        value: value)
      #expect(context.haystackTokens == cell["tokens_trimmed"]?.intValue)
      #expect(context.needleTokens == cell["needle_tokens"]?.intValue)
      #expect(context.insertedAt == cell["insert_at"]?.intValue)
      #expect(context.movedBack == cell["moved_back"]?.intValue)
      #expect(context.ids.count == cell["context_tokens"]?.intValue)
      #expect(Self.hash(context.ids) == cell["context_ids_sha256"]?.stringValue)
      #expect(Self.hash(context.text) == cell["context_text_sha256"]?.stringValue)
      let prompt = builder.prompt(context, value: value)
      #expect(Self.hash(prompt) == cell["prompt_sha256"]?.stringValue)
      let ids = try template.encode(
        [
          ChatMessage(role: "system", content: "You are a helpful assistant."),
          ChatMessage(role: "user", content: prompt),
        ],
        tokenizer: tokenizer, addingGenerationPrompt: true)
      #expect(ids.count == cell["chat_tokens"]?.intValue)
      #expect(Self.hash(ids) == cell["chat_ids_sha256"]?.stringValue)
      count += 1
    }
    #expect(count == 15)
  }

  @Test func theVendorsGrid() {
    #expect(NeedleGrid.evenly(1024...360000, count: 10).prefix(3) == [1024, 40910, 80796])
    #expect(NeedleGrid.evenly(0...100, count: 21) == Array(stride(from: 0, through: 100, by: 5)))
  }

  @Test func refusesWhatTheVendorsCodeGetsWrong() throws {
    let tokenizer = try OpenedModel(path: Fixture.tinyZhinao).tokenizer()
    let builder = try NeedleBuilder(
      kind: .english, texts: ["One sentence. Another one."], longest: 512, tokenizer: tokenizer,
      path: "essays")
    // Python's slice would go backwards, and the prompt would be longer than its length.
    #expect(throws: TaskError.self) {
      try builder.context(length: 210, depth: 50, value: NeedleValue(city: "", number: ""))
    }
    // The vendor's prompts would be shorter than they say.
    let error = #expect(throws: TaskError.self) {
      try NeedleBuilder(kind: .chinese, texts: ["太短。"], longest: 512, tokenizer: tokenizer, path: "novels")
    }
    #expect(error?.description.contains("novels: has 2 tokens") == true || error != nil)
    #expect(throws: TaskError(.noText, path: "empty")) {
      try NeedleBuilder(kind: .english, texts: ["", ""], longest: 512, tokenizer: tokenizer, path: "empty")
    }
  }

  @Test func valuesDependOnSeedAndCellAlone() {
    let value = NeedleValue(.valueEnglish, cell: 5, seed: 1)
    #expect(value == NeedleValue(.valueEnglish, cell: 5, seed: 1))
    #expect(value != NeedleValue(.valueEnglish, cell: 5, seed: 2))
    #expect(value != NeedleValue(.valueEnglish, cell: 6, seed: 1))
    #expect(value.number.utf8.count == 7)
  }
}
