import Files
import JSON
import TestSupport
import Testing

@testable import Tokenization

/// Ids and text as transformers gives them (`Tests/External/Tokenizers`).
enum TokenizerGolden {
  static func compare(_ tokenizer: any Tokenizer, _ name: String, skipped: Bool = true) throws {
    let lines = try Fixture.data("tokenizers/\(name).jsonl").split(separator: 10)
    #expect(lines.count == 100)
    for line in lines {
      let item = try JSONValue.parse(Array(line))
      let text = try #require(item["text"]?.stringValue)
      let ids = item["ids"]?.arrayValue?.compactMap(\.intValue)
      let found = tokenizer.encode(text)
      #expect(found == ids, "\(name): \(text.debugDescription)")
      #expect(
        tokenizer.encode(text, specials: .recognized, addingAffixes: true)
          == item["with_affixes"]?.arrayValue?.compactMap(\.intValue))
      #expect(
        try tokenizer.decode(found) == item["decoded"]?.stringValue, "\(name): \(text.debugDescription)")
      if skipped {
        #expect(try tokenizer.decode(found, skippingSpecials: true) == item["skipped"]?.stringValue)
      }
    }
  }
}

@Suite struct SentencePieceTests {
  @Test(arguments: ["llama-legacy", "metaspace-first", "metaspace-split", "bytes-space-before-each"])
  func tokenizersOfCharactersAgree(name: String) throws {
    try TokenizerGolden.compare(TokenizerLoader.load(file: Fixture.path("tokenizers/\(name).json")), name)
  }

  static func files(_ configuration: String, model: [UInt8]? = nil) throws -> EmbeddedFiles {
    EmbeddedFiles(
      location: "m",
      contents: [
        "tokenizer.model": try model ?? [UInt8](Fixture.data("tokenizers/sentencepiece.model")),
        "tokenizer_config.json": Array(configuration.utf8),
      ])
  }

  @Test(arguments: [
    ("llama", #"{"tokenizer_class": "LlamaTokenizer"}"#),
    ("llama-legacy", #"{"tokenizer_class": "LlamaTokenizerFast", "legacy": true, "add_bos_token": true}"#),
    ("llama-bare", #"{"tokenizer_class": "LlamaTokenizer", "add_prefix_space": false}"#), ("trained", "{}"),
  ])
  func theFileIsReadAsTransformersReadsIt(name: String, configuration: String) throws {
    try TokenizerGolden.compare(TokenizerLoader.load(Self.files(configuration)), "sentencepiece-\(name)")
  }

  /// Byte tokens become characters as soon as they can, and a space at the start of a piece stays: text came before it.
  @Test func streamsBytesAndSpaces() throws {
    let tokenizer = try TokenizerLoader.load(Self.files(#"{"tokenizer_class": "LlamaTokenizer"}"#))
    let ids = tokenizer.encode("the \u{1F600}好")
    var stream = StreamingDetokenizer(tokenizer)
    var pieces: [String] = []
    for id in ids { pieces.append(try stream.push(id)) }
    #expect(pieces.joined() + stream.finish() == " the \u{1F600}好")
    #expect(pieces.filter(\.isEmpty).count >= 3, "bytes are held back until the character is complete")
    #expect(try tokenizer.bytes(of: try #require(ids.last), skippingSpecials: false) != nil)
    #expect(try tokenizer.decode(ids) == "the \u{1F600}好")
    // Bytes in a row that are no text: one mark for each, as the tokenizers library has it.
    let bytes = try ["<0xE4>", "<0x41>"].map { name in
      try #require(
        (0..<tokenizer.tokenCount).first { id in
          (try? tokenizer.bytes(of: id, skippingSpecials: false)) == [name == "<0xE4>" ? 0xE4 : 0x41]
            && id < 260
        })
    }
    #expect(try tokenizer.decode(bytes) == "\u{FFFD}\u{FFFD}")
  }

  /// `prepend_scheme` first: a text behind a special token of a template begins nothing.
  @Test func aContinuationGetsNoSpace() throws {
    let tokenizer = try TokenizerLoader.load(file: Fixture.path("tokenizers/metaspace-first.json"))
    #expect(tokenizer.marksTextStart)
    let whole = tokenizer.encode("<s>the model")
    #expect(Array(whole.dropFirst()) == tokenizer.encodeContinuation("the model", specials: .plain))
    #expect(Array(whole.dropFirst()) != tokenizer.encode("the model", specials: .plain, addingAffixes: false))
    let template = ChatTemplate.own(
      ModelTemplate(source: "<s>{{ messages[0].content }}</s>{{ messages[0].content }}", label: "t"))
    let ids = try template.encode(
      [ChatMessage(role: "user", content: "the model")], tokenizer: tokenizer, contents: .plain,
      addingGenerationPrompt: false)
    #expect(ids == tokenizer.encode("<s>the model</s>the model"))
  }

  /// The pieces of a default template are one text for a tokenizer that marks where texts begin.
  @Test func aDefaultTemplateIsOneText() throws {
    var json =
      try JSONValue.parse(file: Fixture.path("tokenizers/llama-legacy.json")).objectValue ?? JSONObject()
    json["post_processor"] = .null
    let tokenizer = try BytePairTokenizer(.object(json), path: "t")
    let template = try #require(try ChatTemplate.detected(tokenizer: tokenizer))
    let ids = try template.encode(
      [ChatMessage(role: "user", content: "the model")], tokenizer: tokenizer, contents: .plain,
      addingGenerationPrompt: true)
    #expect(
      ids == tokenizer.encode("<|im_start|>user\nthe model<|im_end|>\n<|im_start|>assistant\n"))
  }

  @Test func classesWithRulesOfTheirOwnAreRefused() throws {
    let error = #expect(throws: TokenizationError.self) {
      try TokenizerLoader.load(Self.files(#"{"tokenizer_class": "CodeLlamaTokenizerFast"}"#))
    }
    #expect(error?.description.contains("CodeLlamaTokenizer") == true)
  }

  @Test func scoresAreTheOrderOfMerging() throws {
    let model = try SentencePieceModel([UInt8](Fixture.data("tokenizers/sentencepiece.model")), path: "m")
    let document = try #require(
      try TokenizerLoader.document(Self.files(#"{"tokenizer_class": "LlamaTokenizer", "legacy": true}"#)))
    let tables = try #require(try SentencePieceTables(document.json, path: document.path))
    #expect(tables.putsSpaceBefore && tables.unknown == 0 && tables.tokens.count == model.pieces.count)
    for (piece, token) in zip(model.pieces, tables.tokens) {
      let token = try #require(token)
      #expect(token.text == piece.text)
      #expect(token.score == piece.score, "\(piece.text)")
      let kind: SentencePieceTables.Kind =
        switch piece.kind {
        case .unknown: .unknown
        case .control: .special
        case .userDefined: .added
        case .byte: .byte
        default: .normal
        }
      #expect(token.kind == kind, "\(piece.text)")
    }
    #expect(
      try SentencePieceTables(JSONValue.parse(file: Fixture.path("tokenizers/gpt2.json")), path: "g") == nil)
  }

  @Test func damagedFilesAndOtherModelsAreNamed() throws {
    let bytes = [UInt8](try Fixture.data("tokenizers/sentencepiece.model"))
    func reason(_ bytes: [UInt8], _ configuration: String = "{}") throws -> TokenizationError.Reason? {
      #expect(throws: TokenizationError.self) {
        try TokenizerLoader.load(Self.files(configuration, model: bytes))
      }?.reason
    }
    guard case .notSentencePiece = try reason(Array(bytes.dropLast(3))) else {
      Issue.record("a file that ends inside a value is damaged")
      return
    }
    #expect(try reason([]) == .noTokens)
    // One piece, and a model type of 1: Unigram, which is also what a file without a type is.
    for tail in [[0x12, 0x02, 0x18, 0x01], []] as [[UInt8]] {
      let error = try reason([0x0A, 0x03, 0x0A, 0x01, 0x61] + tail)
      #expect(error?.description.contains("Unigram") == true)
    }
    // The least whole number there is.
    let strange = try reason(
      [0x0A, 0x03, 0x0A, 0x01, 0x61, 0x12, 0x0B, 0x18] + [UInt8](repeating: 0x80, count: 9) + [0x01])
    #expect(strange?.description.contains("SentencePiece") == true)
    // A map of characters counts where the file's own normalization does.
    let mapped = bytes + [0x1A, 0x03, 0x12, 0x01, 0x61]
    #expect(try reason(mapped)?.description.contains("precompiled_charsmap") == true)
    _ = try TokenizerLoader.load(Self.files(#"{"tokenizer_class": "LlamaTokenizer"}"#, model: mapped))
    for (text, part) in [
      ("version https://git-lfs.github.com/spec/v1\noid sha256:aa\n", "git lfs pull"),
      ("IQ== 0\nIg== 1\n", "tiktoken"),
    ] {
      #expect(try reason(Array(text.utf8))?.description.contains(part) == true)
    }
    for cut in stride(from: 0, to: bytes.count, by: 97) {
      _ = try? TokenizerLoader.load(Self.files("{}", model: Array(bytes.prefix(cut))))
    }
  }

  // MARK: Files of slow tokenizers

  @Test func vocabularyAndMergesAreReadAsTransformersReadsThem() throws {
    let folder = FolderFiles(Fixture.path("tokenizers/slow-qwen2"))
    let tokenizer = try TokenizerLoader.load(folder)
    // transformers takes <|im_start|>, which nothing names, for text; here no message can hold it.
    try TokenizerGolden.compare(tokenizer, "slow-qwen2", skipped: false)
    #expect(tokenizer.specialTokens["<|im_start|>"] != nil)
  }

  @Test func aClassThatIsNotKnownIsNamed() throws {
    let source = FolderFiles(Fixture.path("tokenizers/slow-qwen2"))
    func files(_ configuration: String?, modelType: String = "llama", merges: String? = nil) throws
      -> EmbeddedFiles
    {
      var contents: [ByteText: [UInt8]] = ["config.json": Array(#"{"model_type": "\#(modelType)"}"#.utf8)]
      for name in ["vocab.json", "merges.txt"] { contents[name.bytes] = try source.bytes(named: name) }
      if let merges { contents["merges.txt"] = Array(merges.utf8) }
      if let configuration { contents["tokenizer_config.json"] = Array(configuration.utf8) }
      return EmbeddedFiles(location: "m", contents: contents)
    }
    for configuration in [nil, #"{"tokenizer_class": "MyTokenizer"}"#] {
      let error = #expect(throws: TokenizationError.self) {
        try TokenizerLoader.load(try files(configuration))
      }
      #expect(error?.description.contains("Qwen2Tokenizer") == true)
    }
    let error = #expect(throws: TokenizationError.self) {
      try TokenizerLoader.load(try files(nil, modelType: "qwen2", merges: "#version: 0.2\na b c\n"))
    }
    #expect(error?.reason == .badMergeLine(2))
    // Qwen2 needs no name; GPT-2 cuts numbers and words in another way.
    let qwen = try TokenizerLoader.load(try files(nil, modelType: "qwen2"))
    let gpt2 = try TokenizerLoader.load(try files(#"{"tokenizer_class": "GPT2Tokenizer"}"#))
    #expect(
      qwen.encode("e\u{301}") == qwen.encode("\u{E9}") && gpt2.encode("e\u{301}") != gpt2.encode("\u{E9}"))
    #expect(gpt2.specialTokens["<|endoftext|>"] == gpt2.ordinaryTokenCount)
  }

  // MARK: Added tokens

  /// As the tokenizers library cuts: matches come from the text as it is, and one that does not count hides those in it.
  @Test func addedTokensAreFoundAsTheLibraryFindsThem() throws {
    func pieces(_ text: String, _ tokens: [AddedToken]) -> [String] {
      var result: [String] = []
      Array(text.utf8).withUnsafeBufferPointer { bytes in
        SpecialTokenSplitter(tokens).forEachSegment(of: bytes) { segment in
          switch segment {
          case .text(let range): result.append(String(decoding: bytes[range], as: UTF8.self))
          case .token(let id, _): result.append("#\(id)")
          }
        }
      }
      return result
    }
    let word = AddedToken(id: 1, bytes: Array("[x]".utf8), isWholeWord: true)
    #expect(pieces("[x]", [word]) == ["#1"])
    for mark in ["\u{301}", "a", "_", "7", "\u{200D}", "\u{20DD}", "\u{903}", "Ⅷ", "Ⓐ"] {
      #expect(pieces("[x]\(mark)", [word]) == ["[x]\(mark)"], "\(mark.unicodeScalars.first!.value)")
      #expect(pieces("\(mark)[x]", [word]) == ["\(mark)[x]"])
    }
    for mark in ["²", "-", " ", "€"] {
      #expect(pieces("[x]\(mark)", [word]) == ["#1", mark])
    }
    let inner = AddedToken(id: 2, bytes: Array("x".utf8))
    #expect(pieces("a[x] x", [word, inner]) == ["a[x] ", "#2"])
    let right = AddedToken(id: 3, bytes: Array("<r>".utf8), stripsRight: true)
    let space = AddedToken(id: 4, bytes: Array("  ".utf8))
    let left = AddedToken(id: 5, bytes: Array("<l>".utf8), stripsLeft: true)
    #expect(pieces("<r>   a", [right]) == ["#3", "a"])
    #expect(pieces("<r>   a", [right, space]) == ["#3", "#4", " a"])
    #expect(pieces("a  <l>", [left, space]) == ["a", "#4", "#5"])
    #expect(pieces("<r>  <l>", [left, right]) == ["#3", "#5"])
  }

  /// Characters without tokens, of which only some have all of their bytes: ids as the library gives them, out of order as they are.
  @Test(arguments: [
    (true, [[2, 3, 0, 5], [0, 5], [2, 3, 0, 4], [2, 3, 0]]),
    (false, [[2, 3, 0, 5], [0, 0, 5], [2, 3, 0, 0, 4], [2, 3, 0]]),
  ])
  func someBytesAreMissing(fuses: Bool, expected: [[Int]]) throws {
    let tokenizer = try BytePairTokenizer(
      [
        "decoder": ["type": "Fuse"],
        "model": [
          "type": "BPE", "unk_token": "<unk>", "fuse_unk": .bool(fuses), "byte_fallback": true,
          "merges": ["a b"],
          "vocab": ["<unk>": 0, "a": 1, "<0xC3>": 2, "<0xA9>": 3, "b": 4, "ab": 5],
        ],
      ], path: "t")
    for (text, ids) in zip(["好éab", "好好ab", "好é好b", "é好"], expected) {
      #expect(tokenizer.encode(text) == ids, "\(text)")
    }
  }

  // MARK: Ids

  @Test func idsWithoutATokenHaveNoText() throws {
    var json = try JSONValue.parse(file: Fixture.path("tokenizers/gpt2.json")).objectValue ?? JSONObject()
    let base = try BytePairTokenizer(.object(json), path: "t")
    var added = json["added_tokens"]?.arrayValue ?? []
    let id = base.tokenCount + 3
    added.append(["id": .init(id), "content": "[PAD]", "special": true])
    json["added_tokens"] = .array(added)
    let tokenizer = try BytePairTokenizer(.object(json), path: "t")
    #expect(tokenizer.unusedIDs.last == id - 3..<id)
    #expect(tokenizer.ordinaryTokenCount < tokenizer.tokenCount)
    #expect(try tokenizer.decode([id - 1, id]) == "[PAD]")
    #expect(try tokenizer.bytes(of: id - 1, skippingSpecials: false) == nil)
    #expect(throws: TokenizationError.self) { try tokenizer.decode([id + 1]) }
  }
}
