import Files
import JSON
import TestSupport
import Testing
import Tokenization

/// Ids and text as the `tokenizers` library gives them for small vocabularies of each family.
@Suite struct BytePairGoldens {
  @Test(arguments: ["gpt2", "smol", "llama3", "qwen2"])
  func agreesWithTokenizers(name: String) throws {
    let tokenizer = try TokenizerLoader.load(file: Fixture.path("tokenizers/\(name).json"))
    let lines = try Fixture.data("tokenizers/\(name).jsonl").split(separator: 10)
    #expect(lines.count > 250)
    for line in lines {
      let item = try JSONValue.parse(Array(line))
      let text = try #require(item["text"]?.stringValue)
      func ids(_ key: String) throws -> [Int] {
        let array = try #require(item[key]?.arrayValue)
        return array.compactMap(\.intValue)
      }
      let found = tokenizer.encode(text)
      #expect(found == (try ids("ids")), "\(text.debugDescription)")
      #expect(
        tokenizer.encode(text, specials: .recognized, addingAffixes: true) == (try ids("with_affixes")))
      #expect(try tokenizer.decode(found) == item["decoded"]?.stringValue, "\(text.debugDescription)")
      #expect(try tokenizer.decode(found, skippingSpecials: true) == item["skipped"]?.stringValue)
    }
  }

  /// Two spellings of é are two added tokens; each is found, whatever follows it.
  @Test func addedTokensAreBytes() throws {
    var json = try JSONValue.parse(file: Fixture.path("tokenizers/gpt2.json")).objectValue ?? JSONObject()
    var added = json["added_tokens"]?.arrayValue ?? []
    let names = ["<\u{E9}>", "<e\u{301}>", "a\r", "\u{1F3FD}"]
    let first = try BytePairTokenizer(.object(json), path: "t").tokenCount
    for (index, name) in names.enumerated() {
      added.append(["id": .init(first + index), "content": .string(name), "special": true])
    }
    json["added_tokens"] = .array(added)
    let tokenizer = try BytePairTokenizer(.object(json), path: "t")
    for (index, name) in names.enumerated() {
      #expect(tokenizer.specialTokens[name] == first + index)
      for mark in ["\n", "\u{301}", "\u{FE0F}", "\u{200D}"] {
        let ids = tokenizer.encode(name + mark)
        #expect(ids.first == first + index)
        let decoded = try tokenizer.decode(ids)
        // The library decodes added tokens, too, as stand-ins for bytes where all of their characters are some.
        let shown = name.utf8.elementsEqual("<\u{E9}>".utf8) ? "<\u{FFFD}>" : name
        #expect(decoded.utf8.elementsEqual((shown + mark).utf8))
      }
    }
  }

  /// As `content | trim` in Llama 3's template does: code points, not what a reader sees.
  @Test func templatesTrimCodePoints() throws {
    let tokenizer = try TokenizerLoader.load(file: Fixture.path("tokenizers/llama3.json"))
    for (content, trimmed) in [
      (" \u{301}x\r\n", "\u{301}x"), ("\u{3000}y\u{1F}", "y"), ("z\u{200D}", "z\u{200D}"),
    ] {
      func ids(_ content: String) throws -> [Int] {
        try ChatTemplate.llama3.encode(
          [ChatMessage(role: "user", content: content)], tokenizer: tokenizer, addingGenerationPrompt: false)
      }
      #expect(try ids(content) == ids(trimmed))
      #expect(try ids(content).count > ids("").count)
    }
  }

  @Test func plainTextMakesNoSpecialToken() throws {
    for name in ["gpt2", "llama3"] {
      let tokenizer = try TokenizerLoader.load(file: Fixture.path("tokenizers/\(name).json"))
      let ids = tokenizer.encode("a<|im_end|>b", specials: .plain, addingAffixes: false)
      #expect(!ids.contains(try #require(tokenizer.specialTokens["<|im_end|>"])))
      #expect(try tokenizer.decode(ids) == "a<|im_end|>b")
    }
  }

  @Test(arguments: [
    (#"{"model": {"type": "WordPiece"}}"#, "WordPiece"),
    (#"{"model": {"type": "BPE", "vocab": {"a": -1}, "merges": []}}"#, "no valid id"),
    (
      #"{"model": {"type": "BPE", "vocab": {"a": 0}, "merges": ["a b"]}, "pre_tokenizer": {"type": "ByteLevel"}}"#,
      "merge 0"
    ),
    (
      #"{"model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}, "pre_tokenizer": {"type": "Metaspace"}}"#,
      "decoder null"
    ),
    (
      #"{"model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}, "pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "ByteLevel"}, {"type": "Digits", "individual_digits": true}]}}"#,
      "Digits after ByteLevel"
    ),
    (
      #"{"model": {"type": "BPE", "vocab": {"a": 0}, "merges": [], "byte_fallback": true}, "pre_tokenizer": {"type": "ByteLevel"}}"#,
      "byte_fallback"
    ), (#"{"model": {"type": "Unigram", "vocab": []}}"#, "Unigram"),
    (
      #"{"model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}, "normalizer": {"type": "Lowercase"}, "pre_tokenizer": {"type": "ByteLevel"}}"#,
      "Lowercase"
    ),
  ])
  func refusesWhatItCannotHonour(json: String, part: String) throws {
    let error = #expect(throws: TokenizationError.self) {
      try BytePairTokenizer(JSONValue.parse(json), path: "tokenizer.json")
    }
    #expect(error?.description.contains(part) == true, "\(error?.description ?? "")")
    #expect(error?.category == .badInput)
  }

  @Test func takesLinearTimeOnOnePiece() throws {
    // Half a million letters are one piece: quadratic merging would take minutes.
    let tokenizer = try TokenizerLoader.load(file: Fixture.path("tokenizers/gpt2.json"))
    let text = String(repeating: "thequickbrownfox", count: 32_768)
    let ids = tokenizer.encode(text)
    #expect(try tokenizer.decode(ids) == text)
  }
}

@Suite struct ZhinaoTokenizerTests {
  static func tokenizer() throws -> any Tokenizer {
    try TokenizerLoader.load(FolderFiles(Fixture.tinyZhinao))
  }

  @Test func plainTextKeepsNamesOfTokensAsText() throws {
    let tokenizer = try Self.tokenizer()
    let specials = tokenizer.specialTokens
    let ids = tokenizer.encode("<eod>     x[space4]", specials: .plain, addingAffixes: false)
    #expect(!ids.contains(try #require(specials["<eod>"])))
    // The run of five spaces still becomes a token; the literal name does not.
    #expect(ids.filter { $0 == specials["[space4]"] }.count == 1)
  }

  @Test func skipsSpecialsButNotSpaces() throws {
    let tokenizer = try Self.tokenizer()
    let ids = tokenizer.encode("<|im_start|>a        b<|im_end|><eod><pad>")
    #expect(try tokenizer.decode(ids, skippingSpecials: true) == "a        b")
  }

  @Test func chatMLEncodesEachPieceSeparately() throws {
    let tokenizer = try Self.tokenizer()
    let template = try #require(try ChatTemplate.detected(tokenizer: tokenizer))
    let ids = try template.encode(
      [ChatMessage(role: "user", content: "\n你好<eod>")], tokenizer: tokenizer, contents: .plain,
      addingGenerationPrompt: true)
    let text = try tokenizer.decode(ids)
    #expect(
      text
        == "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n\n你好<eod><|im_end|>\n<|im_start|>assistant\n"
    )
    #expect(!ids.contains(try #require(tokenizer.specialTokens["<eod>"])))
    let newline = tokenizer.encode("\n")
    let start = try #require(tokenizer.specialTokens["<|im_start|>"])
    let user = try #require(ids.lastIndex(of: start).flatMap { ids[..<$0].lastIndex(of: start) })
    #expect(
      Array(ids[(user + 1)...].prefix(tokenizer.encode("user").count + 1)) == tokenizer.encode("user")
        + newline)
  }

  @Test func anIdOutsideTheVocabularyIsAnError() throws {
    let tokenizer = try Self.tokenizer()
    #expect(throws: TokenizationError.self) { try tokenizer.decode([tokenizer.tokenCount]) }
    #expect(throws: TokenizationError.self) { try tokenizer.decode([-1]) }
  }

  @Test(arguments: [
    ("", "no tokens"), ("YQ== 0\nYQ== 1\n", "repeats"), ("YQ== 0\nYg== 2\n", "rank 1 is missing"),
    ("YQ== 0\nYg== 0\n", "given twice"), ("!!!! 0\n", "line 1"), ("YQ==0\n", "line 1"),
    ("YQ== 0\n", "single byte"),
  ])
  func refusesBrokenVocabularies(text: String, part: String) {
    let error = #expect(throws: TokenizationError.self) {
      try ZhinaoTokenizer(vocabulary: Array(text.utf8), path: "v.tiktoken")
    }
    #expect(error?.description.contains(part) == true, "\(error?.description ?? "")")
  }

  /// The original release of another model may lie beside `tokenizer.json`.
  @Test func anotherVocabularyBesideTokenizerJSONDoesNotCount() throws {
    var contents: [ByteText: [UInt8]] = [
      "tokenizer.json": [UInt8](try Fixture.data("tokenizers/gpt2.json")),
      "original/other.tiktoken": [1, 2, 3],
    ]
    #expect(
      try TokenizerLoader.load(EmbeddedFiles(location: "m", contents: contents)) is BytePairTokenizer)
    contents["vocab/360.tiktoken"] = [1, 2, 3]
    #expect(throws: TokenizationError.self) {
      try TokenizerLoader.load(EmbeddedFiles(location: "m", contents: contents))
    }
  }
}
