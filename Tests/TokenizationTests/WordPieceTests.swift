import Files
import JSON
import TestSupport
import Testing
import Tokenization

/// Ids as the `tokenizers` library gives them.
@Suite struct WordPieceGoldens {
  /// Values for `tokenizer_config.json`.
  static let variants: [(name: String, configuration: String)] = [
    ("lower", "{}"), ("cased", #"{"do_lower_case": false}"#),
    ("lower-keep-accents", #"{"strip_accents": false}"#),
    ("cased-strip-accents", #"{"do_lower_case": false, "strip_accents": true}"#),
    ("lower-no-cjk-spacing", #"{"tokenize_chinese_chars": false}"#),
  ]

  static func tokenizer(_ vocabulary: String, _ configuration: String = "{}") throws -> WordPieceTokenizer {
    let contents: [ByteText: [UInt8]] = [
      "vocab.txt": Array(try Fixture.data("wordpiece/\(vocabulary)-vocab.txt")),
      "tokenizer_config.json": Array(configuration.utf8),
    ]
    let tokenizer = try TokenizerLoader.load(EmbeddedFiles(location: "m", contents: contents))
    return try #require(tokenizer as? WordPieceTokenizer)
  }

  private static func records(_ name: String) throws -> [JSONValue] {
    try Fixture.data("wordpiece/\(name).jsonl").split(separator: 10).map { try JSONValue.parse(Array($0)) }
  }

  @Test(arguments: ["tiny", "minilm"])
  func agreesWithTokenizers(vocabulary: String) throws {
    let records = try Self.records(vocabulary)
    #expect(records.count > 500)
    let variants = Self.variants.filter { vocabulary == "tiny" || ["lower", "cased"].contains($0.name) }
    for variant in variants {
      let tokenizer = try Self.tokenizer(vocabulary, variant.configuration)
      for record in records {
        let text = try #require(record["text"]?.stringValue)
        // A variant that is absent has the ids of `lower`.
        let ids = try #require((record["ids"]?[variant.name] ?? record["ids"]?["lower"])?.arrayValue)
        #expect(
          tokenizer.encode(text) == ids.compactMap(\.intValue), "\(variant.name) \(text.debugDescription)")
      }
    }
  }

  @Test(arguments: ["tiny", "minilm"])
  func cutsPairsAsTokenizersDoes(vocabulary: String) throws {
    let tokenizer = try Self.tokenizer(vocabulary)
    let records = try Self.records("\(vocabulary)-pairs")
    #expect(records.count > 70)
    for record in records {
      let found = try tokenizer.encode(
        try #require(record["a"]?.stringValue), pair: record["b"]?.stringValue,
        maximumLength: record["max_length"]?.intValue, truncation: .longestFirst, side: .right,
        specials: .recognized)
      #expect(found.ids == record["ids"]?.arrayValue?.compactMap(\.intValue))
      #expect(found.typeIDs == record["type_ids"]?.arrayValue?.compactMap(\.intValue))
    }
  }
}

@Suite struct WordPieceTests {
  static let words = [
    "[PAD]", "the", "##s", "cat", "##nip", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", ",", "'", "s", "É", "é",
    "中", "Cat", "[", "]", "sep",
  ]
  /// Ids are places in the list.
  static func id(_ word: String) -> Int { words.firstIndex(of: word) ?? -1 }

  /// A `tokenizer.json` for ``words``, with some of its members replaced.
  static func json(_ changes: (String, JSONValue)...) -> JSONValue {
    let special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    var object = JSONObject([
      (
        "added_tokens",
        .array(special.map { ["id": .init(id($0)), "content": .string($0), "special": true] })
      ),
      (
        "normalizer",
        [
          "type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": nil,
          "lowercase": true,
        ]
      ),
      ("pre_tokenizer", ["type": "BertPreTokenizer"]),
      (
        "post_processor",
        [
          "type": "BertProcessing", "cls": ["[CLS]", .init(id("[CLS]"))],
          "sep": ["[SEP]", .init(id("[SEP]"))],
        ]
      ),
      ("decoder", ["type": "WordPiece", "prefix": "##", "cleanup": true]),
      (
        "model",
        [
          "type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
          "max_input_chars_per_word": 100,
          "vocab": .object(JSONObject(words.enumerated().map { ($1, JSONValue($0)) })),
        ]
      ),
    ])
    for (key, value) in changes { object[key] = value }
    return .object(object)
  }

  static func tokenizer() throws -> WordPieceTokenizer {
    try WordPieceTokenizer(json(), path: "tokenizer.json")
  }

  static func ids(_ words: [String]) -> [Int] { words.map(id) }

  // MARK: Files

  /// `tokenizer_config.json` counts; a class that takes `tokenizer.json` as it is makes an exception.
  @Test(arguments: [
    (#"{"do_lower_case": false}"#, "Cat"), (#"{"do_lower_case": true}"#, "cat"), ("{}", "cat"),
    (#"{"tokenizer_class": "PreTrainedTokenizerFast", "do_lower_case": true}"#, "Cat"),
  ])
  func configurationCountsBeforeNormalizer(configuration: String, word: String) throws {
    let stored = Self.json(
      (
        "normalizer",
        [
          "type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": nil,
          "lowercase": false,
        ]
      ))
    let contents: [ByteText: [UInt8]] = [
      "tokenizer.json": Array(stored.serialized().utf8), "tokenizer_config.json": Array(configuration.utf8),
    ]
    let tokenizer = try TokenizerLoader.load(EmbeddedFiles(location: "m", contents: contents))
    #expect(tokenizer.encode("Cat") == [Self.id(word)])
    #expect(tokenizer.discrepancies.contains { $0.fact == .normalizer } == (word == "cat"))
  }

  @Test func readsVocabularyLines() throws {
    let lines = Self.words.joined(separator: "\r\n") + "\r\ncat\r\n"
    let tokenizer = try WordPieceTokenizer(vocabulary: Array(lines.utf8), path: "vocab.txt")
    #expect(tokenizer.encode("The cats") == [Self.id("the"), Self.words.count, Self.id("##s")])
    #expect(tokenizer.discrepancies.map(\.fact) == [.vocabulary])
    #expect(tokenizer.affixes.prefix == [Self.id("[CLS]")])
    #expect(tokenizer.unusedIDs == [Self.id("cat")..<Self.id("cat") + 1])
    #expect(tokenizer.maximumLength == nil)
  }

  @Test(arguments: [
    (Array("[UNK]\n[CLS]\n[SEP]\na\u{FF}".utf8) + [0xFF, 10], "line 4: the token is not valid UTF-8"),
    (Array("[UNK]\na\rb\n".utf8), "line 2: the token holds a carriage return"),
    (Array("".utf8), "holds no tokens"), (Array("a\n[CLS]\n[SEP]\n".utf8), "unk_token"),
    (Array("a\n[UNK]\n[SEP]\n".utf8), "cls_token"),
  ])
  func refusesVocabularies(bytes: [UInt8], part: String) throws {
    let error = #expect(throws: TokenizationError.self) {
      try WordPieceTokenizer(vocabulary: bytes, path: "m/vocab.txt")
    }
    #expect(error?.description.contains(part) == true, "\(error?.description ?? "")")
  }

  @Test(arguments: [
    ("normalizer", #"{"type": "NFC"}"#, "normalizer NFC"), ("normalizer", "null", "normalizer null"),
    ("pre_tokenizer", #"{"type": "Whitespace"}"#, "pre_tokenizer Whitespace"),
    ("post_processor", #"{"type": "RobertaProcessing"}"#, "post_processor RobertaProcessing"),
    ("post_processor", #"{"type": "BertProcessing", "cls": ["[CLS]", 99], "sep": ["[SEP]", 7]}"#, "cls"),
    (
      "post_processor", #"{"type": "TemplateProcessing", "single": [], "pair": []}"#, "each text once"
    ), ("decoder", #"{"type": "ByteLevel"}"#, "decoder ByteLevel"),
    ("model", #"{"type": "WordPiece", "vocab": {"a": 0}}"#, "unk_token"),
    ("model", #"{"type": "WordPiece", "vocab": {"a": 0, "[UNK]": 0}}"#, "id 0 to two"),
    ("model", #"{"type": "WordPiece", "vocab": {"[UNK]": -1}}"#, "no valid id"),
    (
      "model", #"{"type": "WordPiece", "vocab": {"[UNK]": 0}, "max_input_chars_per_word": 100000}"#,
      "max_input_chars_per_word"
    ), ("model", #"{"type": "Unigram"}"#, "Unigram"),
  ])
  func refusesWhatItCannotHonour(member: String, value: String, part: String) throws {
    let error = #expect(throws: TokenizationError.self) {
      try WordPieceTokenizer(Self.json((member, JSONValue.parse(value))), path: "tokenizer.json")
    }
    #expect(error?.description.contains(part) == true, "\(error?.description ?? "")")
    #expect(error?.category == .badInput)
  }

  // MARK: Encoding

  @Test func plainTextMakesNoSpecialToken() throws {
    let tokenizer = try Self.tokenizer()
    #expect(tokenizer.encode("cat[SEP]") == Self.ids(["cat", "[SEP]"]))
    #expect(
      tokenizer.encode("cat[SEP]", specials: .plain, addingAffixes: false)
        == Self.ids(["cat", "[", "sep", "]"]))
  }

  @Test func addsWhatThePostProcessorSays() throws {
    let tokenizer = try Self.tokenizer()
    #expect(
      tokenizer.encode("catnips", specials: .recognized, addingAffixes: true)
        == Self.ids(["[CLS]", "cat", "##nip", "##s", "[SEP]"]))
    #expect(tokenizer.addedTokenCount(isPair: false) == 2)
    #expect(tokenizer.addedTokenCount(isPair: true) == 3)
    let pair = try tokenizer.encode(
      "the", pair: "", maximumLength: nil, truncation: .longestFirst, side: .right, specials: .recognized)
    #expect(pair.ids == Self.ids(["[CLS]", "the", "[SEP]", "[SEP]"]))
    #expect(pair.typeIDs == [0, 0, 0, 1])
    #expect(!pair.isTruncated)
  }

  @Test func cutsFromEitherSide() throws {
    let tokenizer = try Self.tokenizer()
    func cut(_ truncation: Truncation, _ side: TruncationSide) throws -> EncodedText {
      try tokenizer.encode(
        "the cat", pair: "cat . , '", maximumLength: 7, truncation: truncation, side: side,
        specials: .recognized)
    }
    let right = Self.ids(["[CLS]", "the", "cat", "[SEP]", "cat", ".", "[SEP]"])
    #expect(try cut(.longestFirst, .right).ids == right)
    #expect(try cut(.onlySecond, .right).ids == right)
    #expect(try cut(.onlySecond, .right).isTruncated)
    #expect(
      try cut(.longestFirst, .left).ids == Self.ids(["[CLS]", "the", "cat", "[SEP]", ",", "'", "[SEP]"]))
  }

  @Test func refusesLimitsWithoutRoom() throws {
    let tokenizer = try Self.tokenizer()
    func reason(_ pair: String?, _ limit: Int, _ truncation: Truncation) -> TokenizationError.Reason? {
      let error = #expect(throws: TokenizationError.self) {
        try tokenizer.encode(
          "the cat the cat", pair: pair, maximumLength: limit, truncation: truncation, side: .right,
          specials: .recognized)
      }
      return error?.reason
    }
    #expect(reason(nil, 1, .longestFirst) == .maximumTooSmall(1, added: 2))
    #expect(reason("cat", 2, .longestFirst) == .maximumTooSmall(2, added: 3))
    #expect(reason("cat", 7, .onlySecond) == .noRoomForSecond(ids: 4, room: 4))
    #expect(reason(nil, 5, .onlySecond) == .noSecondText(ids: 4, room: 3))
  }

  @Test func wordsOfMoreThanTheMaximumAreUnknown() throws {
    let tokenizer = try Self.tokenizer()
    // Each s after the first is one token.
    #expect(tokenizer.encode(String(repeating: "s", count: 100)).count == 100)
    #expect(tokenizer.encode(String(repeating: "s", count: 101)) == [Self.id("[UNK]")])
    // A character that becomes three counts as three.
    #expect(tokenizer.encode(String(repeating: "\u{AC01}", count: 34)) == [Self.id("[UNK]")])
  }

  @Test func takesLinearTime() throws {
    // Tokens that share all of their beginnings, and words that fit none of them at the end.
    let prefixes = (1...99).map { "##" + String(repeating: "a", count: $0) }
    let lines = (["[UNK]", "[CLS]", "[SEP]", "a"] + prefixes).joined(separator: "\n")
    let tokenizer = try WordPieceTokenizer(vocabulary: Array(lines.utf8), path: "vocab.txt")
    let word = String(repeating: "a", count: 99)
    let text = String(repeating: word + "b ", count: 10_000)
    #expect(tokenizer.encode(text).count == 10_000)
    #expect(tokenizer.encode(String(repeating: "a", count: 4_000_000)) == [0])
    // Marks that are sorted by their classes.
    #expect(tokenizer.encode("a" + String(repeating: "\u{302E}\u{1B44}", count: 200_000)) == [0])
  }

  // MARK: Decoding

  @Test func decodesAsTokenizersDoes() throws {
    let tokenizer = try Self.tokenizer()
    let ids = Self.ids(["[CLS]", "the", "cat", "##nip", "##s", ",", "'", "s", ".", "[SEP]"])
    #expect(try tokenizer.decode(ids) == "[CLS] the catnips, ' s. [SEP]")
    #expect(try tokenizer.decode(ids, skippingSpecials: true) == "the catnips, ' s.")
    #expect(try tokenizer.decode([Self.id("##s")]) == "##s")
    #expect(try tokenizer.bytes(of: Self.id("##s"), skippingSpecials: false) == Array("s".utf8))
    #expect(try tokenizer.bytes(of: Self.id("cat"), skippingSpecials: false) == Array(" cat".utf8))
    #expect(try tokenizer.bytes(of: Self.id("[SEP]"), skippingSpecials: true) == nil)
    #expect(throws: TokenizationError(.noSuchToken(20, count: 20), path: "tokenizer.json")) {
      try tokenizer.decode([20])
    }
  }
}
