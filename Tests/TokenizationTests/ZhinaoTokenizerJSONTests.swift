import Files
import JSON
import TestSupport
import Testing
import Tokenization

/// The Zhinao tokenizer as `tokenizer.json`: the ids and texts of tiktoken again. `Tests/External/Interop` shows the same of the
/// `tokenizers` library.
@Suite struct ZhinaoTokenizerJSONTests {
  private static let vocabularies = [
    "tiny": Fixture.tinyZhinao + "/vocab/360.tiktoken", "micro": Fixture.path("golden/micro.tiktoken"),
    "cl100k": Fixture.path("cl100k_base.tiktoken"),
  ]

  private static func zhinao(_ name: String) throws -> ZhinaoTokenizer {
    let path = try #require(vocabularies[name])
    return try #require(try TokenizerLoader.load(file: path) as? ZhinaoTokenizer)
  }

  /// What a reader makes of the document's text.
  private static func rebuilt(_ tokenizer: ZhinaoTokenizer) throws -> (BytePairTokenizer, JSONValue) {
    let text = try ZhinaoTokenizerJSON.document(tokenizer).serialized()
    let json = try JSONValue.parse(text)
    return (try BytePairTokenizer(json, path: "tokenizer.json"), json)
  }

  private static func cases(_ name: String) throws -> [(text: String?, ids: [Int], decoded: String)] {
    try Fixture.data("golden/\(name).jsonl").split(separator: 10).map { line in
      let item = try JSONValue.parse(Array(line))
      let ids = try #require(item["ids"]?.arrayValue).compactMap(\.intValue)
      return (item["text"]?.stringValue, ids, try #require(item["decoded"]?.stringValue))
    }
  }

  @Test(arguments: ["tiny", "micro", "cl100k"])
  func givesTheIDsOfTiktoken(name: String) throws {
    let original = try Self.zhinao(name)
    let (tokenizer, _) = try Self.rebuilt(original)
    #expect(tokenizer.tokenCount == original.tokenCount)
    for item in try Self.cases("tokenizer-\(name)") {
      let text = try #require(item.text)
      #expect(tokenizer.encode(text) == item.ids, "\(text.debugDescription)")
      #expect(try tokenizer.decode(item.ids) == item.decoded)
      #expect(
        try tokenizer.decode(item.ids, skippingSpecials: true)
          == original.decode(item.ids, skippingSpecials: true))
      for id in item.ids {
        #expect(
          try tokenizer.bytes(of: id, skippingSpecials: true)
            == original.bytes(of: id, skippingSpecials: true))
      }
    }
    guard name != "micro" else { return }
    for item in try Self.cases("tokenizer-\(name)-decode") {
      #expect(try tokenizer.decode(item.ids).utf8.elementsEqual(item.decoded.utf8))
    }
  }

  @Test(arguments: ["tiny", "micro", "cl100k"])
  func givesTheVocabularyBack(name: String) throws {
    let (_, json) = try Self.rebuilt(Self.zhinao(name))
    let file = try MappedFile(path: try #require(Self.vocabularies[name]))
    let original = withExtendedLifetime(file) { Array(file.bytes) }
    #expect(try ZhinaoTokenizerJSON.vocabulary(json, path: "tokenizer.json") == original)
  }

  @Test func otherTokenizersAreNoZhinaoTokenizer() throws {
    let json = try JSONValue.parse(file: Fixture.path("tokenizers/qwen2.json"))
    #expect(throws: TokenizationError.self) { try ZhinaoTokenizerJSON.vocabulary(json, path: "t") }
    // One merge out of order would give other ids than the ranks do.
    let (_, good) = try Self.rebuilt(Self.zhinao("tiny"))
    var document = try #require(good.objectValue)
    var model = try #require(document["model"]?.objectValue)
    var merges = try #require(model["merges"]?.arrayValue)
    merges.swapAt(0, 1)
    model["merges"] = .array(merges)
    document["model"] = .object(model)
    let error = #expect(throws: TokenizationError.self) {
      try ZhinaoTokenizerJSON.vocabulary(.object(document), path: "t")
    }
    #expect(error?.description.contains("merges") == true)
  }

  @Test func replacesLeftToRight() {
    func apply(_ pattern: String, _ content: String, _ text: String) -> String {
      String(decoding: ByteReplacement(pattern, content).apply(Array(text.utf8)), as: UTF8.self)
    }
    #expect(apply("aa", "b", "aaaaa") == "bba")
    #expect(apply("x", "", "xaxx") == "a")
    #expect(apply("<br>", "\n", "<<br><br") == "<\n<br")
    #expect(apply("  ", "[space2]", "") == "")
  }
}
