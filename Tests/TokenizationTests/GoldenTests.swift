import JSON
import TestSupport
import Testing
import Tokenization

/// Ids and text as OpenAI's tiktoken and the published wrapper give them.
@Suite struct ZhinaoGoldens {
  private static func cases(_ name: String) throws -> [JSONValue] {
    try Fixture.data("golden/\(name).jsonl").split(separator: 10).map { try JSONValue.parse(Array($0)) }
  }

  private static func vocabulary(_ name: String) -> String {
    switch name {
    case "tiny": Fixture.tinyZhinao + "/vocab/360.tiktoken"
    case "micro": Fixture.path("golden/micro.tiktoken")
    default: Fixture.path("cl100k_base.tiktoken")
    }
  }

  @Test(arguments: [("tiny", 643), ("cl100k", 643), ("micro", 598)])
  func encodesAsTiktoken(name: String, count: Int) throws {
    let tokenizer = try TokenizerLoader.load(file: Self.vocabulary(name))
    let cases = try Self.cases("tokenizer-\(name)")
    #expect(cases.count == count)
    for item in cases {
      let text = try #require(item["text"]?.stringValue)
      let ids = try #require(item["ids"]?.arrayValue).compactMap(\.intValue)
      #expect(tokenizer.encode(text) == ids, "\(item["tag"]?.stringValue ?? "") \(text.debugDescription)")
      #expect(try tokenizer.decode(ids) == item["decoded"]?.stringValue)
    }
  }

  @Test(arguments: ["tiny", "cl100k"])
  func decodesInvalidText(name: String) throws {
    let tokenizer = try TokenizerLoader.load(file: Self.vocabulary(name))
    for item in try Self.cases("tokenizer-\(name)-decode") {
      let ids = try #require(item["ids"]?.arrayValue).compactMap(\.intValue)
      let expected = try #require(item["decoded"]?.stringValue)
      #expect(try tokenizer.decode(ids).utf8.elementsEqual(expected.utf8))
    }
  }

  @Test func streamsWholeCharactersOnly() throws {
    let tokenizer = try TokenizerLoader.load(file: Self.vocabulary("tiny"))
    for item in try Self.cases("tokenizer-tiny") + Self.cases("tokenizer-tiny-decode") {
      let ids = try #require(item["ids"]?.arrayValue).compactMap(\.intValue)
      var stream = StreamingDetokenizer(tokenizer, skippingSpecials: false)
      var text = ""
      var pieces: [[UInt8]] = []
      for id in ids {
        let piece = try stream.push(id)
        text += piece
        let bytes = try tokenizer.bytes(of: id, skippingSpecials: false)
        pieces.append(try #require(bytes))
      }
      text += stream.finish()
      // Everything arrives, and a character that is valid in the end was never emitted in parts.
      #expect(text.utf8.elementsEqual(String(decoding: pieces.joined(), as: UTF8.self).utf8))
    }
  }
}
