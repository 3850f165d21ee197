import Architecture
import Conversion
import Files
import GGUF
import JSON
import Models
import TestSupport
import Testing
import Tokenization

/// Tokenizers in the metadata of GGUF files.
@Suite struct GGUFTokenizerTests {
  private static func files(_ configuration: String) throws -> EmbeddedFiles {
    EmbeddedFiles(
      location: "m",
      contents: [
        "tokenizer.model": try [UInt8](Fixture.data("tokenizers/sentencepiece.model")),
        "tokenizer_config.json": Array(configuration.utf8),
      ])
  }

  private static func configuration(rows: Int) throws -> ModelConfiguration {
    try ModelConfiguration(
      [
        "model_type": "llama", "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1,
        "num_attention_heads": 1, "vocab_size": .init(rows), "hidden_act": "silu", "rms_norm_eps": 1e-5,
        "max_position_embeddings": 64, "bos_token_id": 1, "eos_token_id": 2,
      ], label: "config.json")
  }

  private static func fields(_ files: EmbeddedFiles, rows: Int) throws -> GGUFVocabulary {
    try GGUFVocabulary(
      TokenizerLoader.load(files), files: files, configuration: configuration(rows: rows))
  }

  /// What is written says kinds and scores as SentencePiece's file has them, and reads back as the same tokenizer.
  @Test func sentencePieceGoesThroughAFile() throws {
    let folder = try TemporaryFolder()
    let files = try Self.files(
      #"{"tokenizer_class": "LlamaTokenizer", "legacy": true, "add_bos_token": true}"#)
    let original = try TokenizerLoader.load(files)
    let rows = original.tokenCount + 2
    let vocabulary = try Self.fields(files, rows: rows)
    let fields = Dictionary(uniqueKeysWithValues: vocabulary.fields.map { ($0.0, $0.1) })
    #expect(fields["tokenizer.ggml.model"] == .string("llama"))
    #expect(fields["tokenizer.ggml.add_space_prefix"] == .bool(true))
    #expect(fields["tokenizer.ggml.add_bos_token"] == .bool(true))
    #expect(fields["tokenizer.ggml.bos_token_id"] == .uint32(1))
    #expect(fields["tokenizer.ggml.unknown_token_id"] == .uint32(0))
    guard case .int32s(let kinds)? = fields["tokenizer.ggml.token_type"],
      case .float32s(let scores)? = fields["tokenizer.ggml.scores"]
    else {
      Issue.record("kinds and scores are missing")
      return
    }
    #expect(Array(kinds[..<5]) == [2, 3, 3, 4, 6] && Array(kinds[(rows - 3)...]) == [1, 5, 5])
    #expect(scores.count == rows && scores[rows - 1] == -10000 && scores[260] == 0 && scores[261] == -1)

    let path = folder.file("m.gguf")
    try TinyGGUF.write(vocabulary.fields, rows: rows, to: path)
    let tokenizer = try OpenedModel(path: path).tokenizer()
    #expect(tokenizer.tokenCount == original.tokenCount)
    for line in try Fixture.data("tokenizers/sentencepiece-llama-legacy.jsonl").split(separator: 10) {
      let item = try JSONValue.parse(Array(line))
      let text = try #require(item["text"]?.stringValue)
      // llama.cpp, unlike transformers, puts a space before text that begins with one.
      if text.contains(" ") || text.contains("\u{2581}") || text.contains("(a|b)") { continue }
      #expect(
        tokenizer.encode(text, specials: .recognized, addingAffixes: true)
          == item["with_affixes"]?.arrayValue?.compactMap(\.intValue), "\(text.debugDescription)")
    }
    #expect(tokenizer.encode(" model").count == tokenizer.encode("model").count + 1)
    #expect(try tokenizer.decode(tokenizer.encode(" model\u{1F600}")) == " model\u{1F600}")
    // Once more: the same fields.
    let second = try GGUFVocabulary(
      tokenizer, files: OpenedModel(path: path).files, configuration: Self.configuration(rows: rows))
    #expect(
      Dictionary(uniqueKeysWithValues: second.fields.map { ($0.0, $0.1) }).filter {
        $0.key != "tokenizer.ggml.eos_token_id"
      }
        == fields.filter { $0.key != "tokenizer.ggml.eos_token_id" })
    #expect(second.notes.isEmpty, "\(second.notes)")
  }

  @Test func whatLlamaCppDoesOtherwiseIsSaid() throws {
    let notes = try Self.fields(Self.files(#"{"tokenizer_class": "LlamaTokenizer"}"#), rows: 1000).notes
    #expect(notes.contains { $0.contains("after a special token") })
    let fewer = try Self.fields(
      Self.files(
        #"{"tokenizer_class": "LlamaTokenizer", "pad_token": "[PAD]", "added_tokens_decoder": {"700": {"content": "[PAD]"}}}"#
      ),
      rows: 700)
    #expect(fewer.notes.contains { $0.contains("[PAD]") && $0.contains("700") })
    guard case .strings(let tokens)? = fewer.fields.first(where: { $0.0 == "tokenizer.ggml.tokens" })?.1
    else {
      Issue.record("tokens are missing")
      return
    }
    #expect(tokens.count == 700)
  }

  @Test func scoresThatAreMissingAreNamed() throws {
    let folder = try TemporaryFolder()
    let path = folder.file("m.gguf")
    try TinyGGUF.write(
      [("tokenizer.ggml.model", .string("llama")), ("tokenizer.ggml.tokens", .strings(["a", "b"]))], rows: 2,
      to: path)
    let model = try OpenedModel(path: path)
    let error = #expect(throws: TokenizationError.self) { try model.tokenizer() }
    #expect(error?.description.contains("tokenizer.ggml.scores") == true)
  }

  // MARK: How text is cut

  private static func byteLevel(_ preTokenizer: String?) throws -> [(String, GGUFField)] {
    let tables = try BytePairTables(
      JSONValue.parse(file: Fixture.path("tokenizers/llama3.json")), path: "llama3.json")
    return [("tokenizer.ggml.model", .string("gpt2"))]
      + (preTokenizer.map { [("tokenizer.ggml.pre", .string($0))] } ?? [])
      + [
        ("tokenizer.ggml.tokens", .strings(tables.tokens.map { $0?.text ?? "" })),
        ("tokenizer.ggml.token_type", .int32s(tables.tokens.map { $0?.kind == .normal ? 1 : 3 })),
        ("tokenizer.ggml.merges", .strings(tables.merges.map { "\($0.left) \($0.right)" })),
      ]
  }

  @Test(arguments: [nil, "default", "made-up"])
  func theCallerCanSayHowTextIsCut(stored: String?) throws {
    let folder = try TemporaryFolder()
    let path = folder.file("m.gguf")
    let fields = try Self.byteLevel(stored)
    guard case .strings(let tokens) = fields.first(where: { $0.0 == "tokenizer.ggml.tokens" })?.1 else {
      return
    }
    try TinyGGUF.write(fields, rows: tokens.count, to: path)
    let model = try OpenedModel(path: path)
    let refusal = #expect(throws: TokenizationError.self) { try model.tokenizer() }
    #expect(refusal?.description.contains("--pre-tokenizer NAME") == true)
    let tokenizer = try OpenedModel(path: path, preTokenizer: "llama3").tokenizer()
    let expected = try TokenizerLoader.load(file: Fixture.path("tokenizers/llama3.json"))
    for text in ["Hello there 12345", "it's\n\n  x"] {
      #expect(tokenizer.encode(text) == expected.encode(text))
    }
    let unknown = try OpenedModel(path: path, preTokenizer: "lama3")
    let error = #expect(throws: TokenizationError.self) { try unknown.tokenizer() }
    #expect(error?.description.contains("\"lama3\" is not known") == true)
  }
}
