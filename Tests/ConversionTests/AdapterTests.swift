import Adapters
import Conversion
import Files
import Foundation
import JSON
import Models
import Safetensors
import TestSupport
import Testing
import Tokenization

/// Adapters beside the plain sum: tied matrices, whole weights, rows, patterns, enlarged vocabularies.
@Suite struct AdapterTests {
  private static let (rows, width) = (3072, 128)
  private static let embedding = "model.embed_tokens"

  /// The small model with tied embeddings.
  private static func tied(_ folder: TemporaryFolder) throws -> String {
    let path = try HostileModelTests.model(folder) { $0.removeAll { $0.name == "lm_head.weight" } }
    try RoundTripTests.edit(
      path + "/config.json", #""tie_word_embeddings": false"#, #""tie_word_embeddings": true"#)
    return path
  }

  /// Numbers that bf16 holds exactly.
  private static func values(_ count: Int, _ step: Int) -> [Float] {
    (0..<count).map { Float(($0 * step) % 251 - 125) / 64 }
  }

  private static func adapter(
    _ folder: TemporaryFolder, _ settings: String, _ tensors: [(name: String, shape: [Int], values: [Float])]
  ) throws -> LoRAAdapter {
    let path = folder.file("adapter")
    try? FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    try AtomicFile.write(
      #"{"peft_type": "LORA", "r": 2, "lora_alpha": 4\#(settings)}"#, to: path + "/adapter_config.json")
    let plans = tensors.map { TensorPlan("base_model.model.\($0.name)", .f32, $0.shape) }
    try SafetensorsWriter.write(to: path + "/adapter_model.safetensors", tensors: plans) { plan, emit in
      let tensor = try #require(tensors.first { "base_model.model.\($0.name)" == plan.name })
      try tensor.values.withUnsafeBytes { try emit($0) }
    }
    return try LoRAAdapter(path: path)
  }

  private static func whole(_ name: String, rows: Int = rows, step: Int) -> (
    name: String, shape: [Int], values: [Float]
  ) { ("\(name).weight", [rows, width], values(rows * width, step)) }

  private struct Merged {
    var folder: String
    var notes: [String]
    var tensors: [String: Data]
    var config: JSONValue

    func floats(_ name: String) -> [Float] {
      (tensors[name] ?? Data()).withUnsafeBytes {
        $0.bindMemory(to: UInt16.self).map { Float(bitPattern: UInt32($0) << 16) }
      }
    }
  }

  private static func merged(_ folder: TemporaryFolder, _ base: String, _ adapter: LoRAAdapter) throws
    -> Merged
  {
    var notes: [String] = []
    let contents = try ModelContents(OpenedModel(path: base)).merging(adapter) { notes.append($0) }
    let path = folder.file("merged-\(UUID().uuidString)")
    try StockLayoutTests.write(contents, to: path)
    // It opens and computes.
    _ = try StockLayoutTests.logits(OpenedModel(path: path))
    return Merged(
      folder: path, notes: notes, tensors: try RoundTripTests.bytes(path),
      config: try JSONValue.parse(file: path + "/config.json"))
  }

  @Test func bothTiedMatricesSavedApartAreUntied() throws {
    let folder = try TemporaryFolder()
    let base = try Self.tied(folder)
    let adapter = try Self.adapter(
      folder, #", "modules_to_save": ["lm_head", "embed_tokens"]"#,
      [Self.whole(Self.embedding, step: 3), Self.whole("lm_head", step: 7)])
    for source in [base, try Self.packed(folder, base)] {
      let merged = try Self.merged(folder, source, adapter)
      #expect(merged.floats("model.embed_tokens.weight") == Self.values(Self.rows * Self.width, 3))
      #expect(merged.floats("lm_head.weight") == Self.values(Self.rows * Self.width, 7))
      #expect(merged.config["tie_word_embeddings"] == false)
      #expect(merged.notes.count == 1 && merged.notes[0].contains("tie_word_embeddings"))
    }
  }

  private static func packed(_ folder: TemporaryFolder, _ base: String) throws -> String {
    let path = folder.file("base.zhinao")
    try ModelPacker(ModelContents(OpenedModel(path: base))).write(
      to: path, generator: "t", provenance: JSONObject())
    return path
  }

  @Test func theOtherOfTwoTiedMatricesStaysTheOldOne() throws {
    let folder = try TemporaryFolder()
    let base = try Self.tied(folder)
    let old = try #require(try RoundTripTests.bytes(base)["model.embed_tokens.weight"])
    for source in [base, try Self.packed(folder, base)] {
      for (saved, other) in [(Self.embedding, "lm_head"), ("lm_head", Self.embedding)] {
        let adapter = try Self.adapter(
          folder, #", "modules_to_save": ["\#(saved)"]"#, [Self.whole(saved, step: 3)])
        let merged = try Self.merged(folder, source, adapter)
        #expect(merged.floats("\(saved).weight") == Self.values(Self.rows * Self.width, 3))
        #expect(merged.tensors["\(other).weight"] == old)
        #expect(merged.config["tie_word_embeddings"] == false && merged.notes.count == 1)
      }
    }
  }

  @Test func matricesThatWereKeptTiedStayTied() throws {
    let folder = try TemporaryFolder()
    let base = try Self.tied(folder)
    for adapter in [
      try Self.adapter(
        folder, #", "ensure_weight_tying": true, "modules_to_save": ["embed_tokens"]"#,
        [Self.whole(Self.embedding, step: 3)]),
      try Self.adapter(
        folder, #", "modules_to_save": ["embed_tokens", "lm_head"]"#,
        [Self.whole(Self.embedding, step: 3), Self.whole("lm_head", step: 3)]),
    ] {
      let merged = try Self.merged(folder, base, adapter)
      #expect(merged.floats("model.embed_tokens.weight") == Self.values(Self.rows * Self.width, 3))
      #expect(merged.tensors["lm_head.weight"] == nil)
      #expect(merged.config["tie_word_embeddings"] == true && merged.notes.isEmpty)
    }
  }

  /// `scale · B · A` on one of two tied matrices; an embedding's A and B are transposed.
  @Test func updatesOfTiedMatricesUntieThem() throws {
    let folder = try TemporaryFolder()
    let base = try Self.tied(folder)
    let old = try #require(try RoundTripTests.bytes(base)["model.embed_tokens.weight"])
    func expected(row: Int, column: Int, a: (Int) -> Float, b: (Int) -> Float) -> Float {
      let weight = old.withUnsafeBytes {
        Float(bitPattern: UInt32($0.bindMemory(to: UInt16.self)[row * Self.width + column]) << 16)
      }
      return weight + 2 * (b(0) * a(0) + b(1) * a(1))
    }
    let (wide, tall) = (Self.values(2 * Self.width, 5), Self.values(Self.rows * 2, 11))
    let ofHead = try Self.adapter(
      folder, "",
      [("lm_head.lora_A.weight", [2, Self.width], wide), ("lm_head.lora_B.weight", [Self.rows, 2], tall)])
    let head = try Self.merged(folder, base, ofHead)
    #expect(head.tensors["model.embed_tokens.weight"] == old && head.config["tie_word_embeddings"] == false)
    let ofEmbedding = try Self.adapter(
      folder, "",
      [
        ("\(Self.embedding).lora_embedding_A", [2, Self.rows], Self.values(Self.rows * 2, 11)),
        ("\(Self.embedding).lora_embedding_B", [Self.width, 2], Self.values(2 * Self.width, 5)),
      ])
    let embedding = try Self.merged(folder, base, ofEmbedding)
    #expect(embedding.tensors["lm_head.weight"] == old && embedding.config["tie_word_embeddings"] == false)
    for (row, column) in [(0, 0), (1, 5), (3071, 127), (1500, 64)] {
      let at = row * Self.width + column
      let x = expected(
        row: row, column: column, a: { wide[$0 * Self.width + column] }, b: { tall[row * 2 + $0] })
      #expect(abs(head.floats("lm_head.weight")[at] - x) <= abs(x) / 128)
      let y = expected(
        row: row, column: column, a: { tall[$0 * Self.rows + row] }, b: { wide[column * 2 + $0] })
      #expect(abs(embedding.floats("model.embed_tokens.weight")[at] - y) <= abs(y) / 128)
    }
  }

  @Test func rowsOfTokensAreReplaced() throws {
    let folder = try TemporaryFolder()
    let base = try Self.tied(folder)
    let old = try Self.merged(
      folder, base,
      Self.adapter(
        folder, #", "modules_to_save": ["norm"]"#, [("model.norm.weight", [128], Self.values(128, 3))]))
    let adapter = try Self.adapter(
      folder, #", "trainable_token_indices": [3001, 7]"#,
      [("\(Self.embedding).token_adapter.trainable_tokens_delta", [2, Self.width], Self.values(256, 3))])
    let merged = try Self.merged(folder, base, adapter)
    var wanted = old.floats("model.embed_tokens.weight")
    wanted.replaceSubrange(3001 * 128..<3002 * 128, with: Self.values(256, 3)[..<128])
    wanted.replaceSubrange(7 * 128..<8 * 128, with: Self.values(256, 3)[128...])
    #expect(merged.floats("model.embed_tokens.weight") == wanted)
    #expect(merged.config["tie_word_embeddings"] == true && merged.notes.isEmpty)
    let wrong = #expect(throws: AdapterError.self) {
      try Self.adapter(
        folder, #", "trainable_token_indices": [3001]"#,
        [("\(Self.embedding).token_adapter.trainable_tokens_delta", [2, Self.width], Self.values(256, 3))])
    }
    #expect(wrong?.reason == .rowsUnknown([2, 128]))
    let vector = try Self.adapter(
      folder, #", "trainable_token_indices": {"norm": [0]}"#,
      [("model.norm.token_adapter.trainable_tokens_delta", [1, Self.width], Self.values(128, 3))])
    #expect(throws: AdapterError.self) { try Self.merged(folder, base, vector) }
  }

  // MARK: Vocabulary

  @Test func anEnlargedVocabularyBringsItsTokenizer() throws {
    let folder = try TemporaryFolder()
    let adapter = try Self.adapter(
      folder, #", "modules_to_save": ["lm_head", "embed_tokens"]"#,
      [Self.whole(Self.embedding, rows: 3080, step: 3), Self.whole("lm_head", rows: 3080, step: 7)])
    let base = Fixture.path("tiny-zhinao-gqa")
    let without = try Self.merged(folder, base, adapter)
    #expect(without.config["vocab_size"] == 3080 && without.notes.count == 1)
    #expect(without.notes[0].contains("the adapter has no tokenizer"))
    #expect(without.floats("lm_head.weight") == Self.values(3080 * Self.width, 7))
    try FileManager.default.createDirectory(
      atPath: adapter.path + "/vocab", withIntermediateDirectories: true)
    let vocabulary = try String(contentsOfFile: base + "/vocab/360.tiktoken", encoding: .utf8)
    try AtomicFile.write(vocabulary, to: adapter.path + "/vocab/360.tiktoken")
    try AtomicFile.write(
      #"{"tokenizer_class": "ZhinaoTokenizer", "new": 1}"#, to: adapter.path + "/tokenizer_config.json")
    let with = try Self.merged(folder, base, LoRAAdapter(path: adapter.path))
    #expect(with.notes[0].contains("the adapter's tokenizer is written"))
    #expect(try JSONValue.parse(file: with.folder + "/tokenizer_config.json")["new"] == 1)
    #expect(FileManager.default.fileExists(atPath: with.folder + "/vocab/360.tiktoken"))
  }

  @Test func embeddingAndHeadHaveTheSameRows() throws {
    let folder = try TemporaryFolder()
    let tied = try Self.tied(folder)
    let adapter = try Self.adapter(
      folder, #", "modules_to_save": ["embed_tokens"]"#, [Self.whole(Self.embedding, rows: 3080, step: 3)])
    for base in [tied, Fixture.path("tiny-zhinao-gqa")] {
      let error = #expect(throws: ConversionError.self) { try Self.merged(folder, base, adapter) }
      #expect(error?.reason == .vocabulariesDiffer(embedding: 3080, head: 3072))
    }
    // The embedding that it was trained on is there as well: it was the head.
    let whole = try Self.adapter(
      folder, #", "modules_to_save": ["embed_tokens"]"#,
      [
        Self.whole("\(Self.embedding).modules_to_save", rows: 3080, step: 3),
        Self.whole("\(Self.embedding).original_module", rows: 3080, step: 7),
      ])
    let merged = try Self.merged(folder, tied, whole)
    #expect(merged.floats("model.embed_tokens.weight") == Self.values(3080 * Self.width, 3))
    #expect(merged.floats("lm_head.weight") == Self.values(3080 * Self.width, 7))
    #expect(merged.config["vocab_size"] == 3080)
  }

  /// An embedding that was only enlarged, not trained apart, is saved under both names.
  @Test func anEnlargedTiedEmbeddingStaysTied() throws {
    let folder = try TemporaryFolder()
    let tied = try Self.tied(folder)
    let adapter = try Self.adapter(
      folder, "",
      [Self.whole(Self.embedding, rows: 3080, step: 3), Self.whole("lm_head", rows: 3080, step: 3)])
    let merged = try Self.merged(folder, tied, adapter)
    #expect(merged.config["vocab_size"] == 3080 && merged.config["tie_word_embeddings"] == true)
    #expect(merged.tensors["lm_head.weight"] == nil)
  }

  // MARK: Patterns and targets

  private static func update(_ module: String, rank: Int) -> [(name: String, shape: [Int], values: [Float])] {
    [
      ("\(module).lora_A.weight", [rank, 128], values(rank * 128, 3)),
      ("\(module).lora_B.weight", [384, rank], values(384 * rank, 5)),
    ]
  }

  @Test(arguments: [
    (#"{".*\\.layers\\.0\\..*(gate_proj|up_proj)$": 4}"#, 4), (#"{"up_proj": 4, ".*": 3}"#, 4),
    (#"{"^model.layers.0.mlp.up_proj": 4}"#, 4), (#"{"mlp\\.u[a-z]_proj": 4}"#, 4), (#"{"p_proj": 4}"#, 2),
    (#"{"layers.0": 4}"#, 2), (#"{"^layers.0.mlp.up_proj": 4}"#, 2),
  ])
  func keysOfRankPatternAreExpressions(pattern: String, rank: Int) throws {
    let folder = try TemporaryFolder()
    let module = "model.layers.0.mlp.up_proj"
    let settings =
      #", "rank_pattern": \#(pattern), "alpha_pattern": \#(pattern.replacing("4}", with: "8}").replacing("4,", with: "8,"))"#
    let adapter = try Self.adapter(folder, settings, Self.update(module, rank: rank))
    #expect(adapter.updates[module.bytes]?.scale == 2)
    #expect(throws: AdapterError.self) {
      try Self.adapter(folder, settings, Self.update(module, rank: rank + 1))
    }
  }

  @Test(arguments: [
    (#""target_modules": ".*layers\\.0.*_proj""#, true), (#""target_modules": "layers\\.0.*_proj""#, false),
    (#""target_modules": ["up_proj"]"#, true), (#""target_modules": ["mlp"]"#, false),
    (#""target_modules": "all-linear""#, true), (#""target_modules": null"#, true),
    (#""target_modules": ["up_proj"], "exclude_modules": ["mlp.up_proj"]"#, false),
    (#""target_modules": ["up_proj"], "exclude_modules": ".*layers.1.*""#, true),
    (#""target_modules": ["up_proj"], "layers_to_transform": [0, 3]"#, true),
    (#""target_modules": ["up_proj"], "layers_to_transform": 1"#, false),
    (#""target_modules": ["up_proj"], "layers_to_transform": [0], "layers_pattern": "layers""#, true),
    (#""target_modules": ["up_proj"], "layers_to_transform": [0], "layers_pattern": ["h"]"#, false),
  ])
  func modulesThatTheSettingsLeaveOutAreLeftOutAndNamed(settings: String, isTarget: Bool) throws {
    let folder = try TemporaryFolder()
    let module = "model.layers.0.mlp.up_proj"
    let norm: (name: String, shape: [Int], values: [Float]) = (
      "model.norm.weight", [128], Self.values(128, 3)
    )
    let adapter = try Self.adapter(folder, ", " + settings, Self.update(module, rank: 2) + [norm])
    #expect((adapter.updates[module.bytes] != nil) == isTarget)
    let merged = try Self.merged(folder, Fixture.path("tiny-zhinao-gqa"), adapter)
    #expect(merged.notes.contains { $0.contains(module) } != isTarget)
  }

  @Test func biasesThatWereTrainedReplaceTheModels() throws {
    let folder = try TemporaryFolder()
    let adapter = try Self.adapter(
      folder, #", "bias": "lora_only", "fan_in_fan_out": true"#,
      [("model.layers.0.self_attn.qkv_proj.base_layer.bias", [256], Self.values(256, 3))])
    let merged = try Self.merged(folder, Fixture.path("tiny-zhinao-gqa"), adapter)
    #expect(merged.floats("model.layers.0.self_attn.qkv_proj.bias") == Self.values(256, 3))
  }
}
