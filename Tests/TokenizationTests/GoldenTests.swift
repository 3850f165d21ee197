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
      let decoded = try tokenizer.decode(ids)
      #expect(decoded.utf8.elementsEqual(try #require(item["decoded"]?.stringValue).utf8))
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

  /// The reference replaces the names of the space tokens in the finished text with Python's `str.replace`, whatever follows them.
  @Test(arguments: [
    ("a[space2]\u{301}b", "a  \u{301}b"), ("[space8]\u{FE0F}", "        \u{FE0F}"),
    ("[space4]\u{200D}[space4]", "    \u{200D}    "), ("x[space3]\u{20E3}", "x   \u{20E3}"),
    ("\u{1F44D}[space2]\u{1F3FD}", "\u{1F44D}  \u{1F3FD}"), ("[space2]\r\n[space3]\n", "  \r\n   \n"),
    ("[[space2]]", "[  ]"), ("[space\u{301}2]", "[space\u{301}2]"),
  ])
  func namesOfSpacesAreReplacedWhateverFollows(text: String, expected: String) throws {
    for name in ["tiny", "cl100k"] {
      let tokenizer = try TokenizerLoader.load(file: Self.vocabulary(name))
      for specials in [SpecialTokens.plain, .recognized] {
        let ids = tokenizer.encode(text, specials: specials, addingAffixes: false)
        let decoded = try tokenizer.decode(ids)
        #expect(decoded.utf8.elementsEqual(expected.utf8))
      }
      // Token by token, the names of tokens become spaces too.
      let ids = tokenizer.encode(text, specials: .recognized, addingAffixes: false)
      var stream = StreamingDetokenizer(tokenizer)
      let streamed = try ids.map { try stream.push($0) }.joined() + stream.finish()
      #expect(streamed.utf8.elementsEqual(expected.utf8))
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
