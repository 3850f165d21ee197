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

@Suite struct StockLayoutTests {
  static let gqa = Fixture.path("tiny-zhinao-gqa")

  static func write(_ contents: ModelContents, to path: String) throws {
    try FolderWriter(contents).write(to: path, replacing: false, toolVersion: "test")
  }

  static func logits(_ model: OpenedModel) throws -> [Float] {
    let ids = [5, 77, 1024, 3000, 8, 300, 12]
    let decoder = try model.decoder()
    return decoder.logits(decoder.hiddenStates(windows: [ids]), rows: 0..<ids.count).array
  }

  /// A model that any engine knows: no fused matrix, no code of its own, and the very same numbers.
  @Test(arguments: [Fixture.tinyZhinao, gqa])
  func computesTheSameAndComesBack(source: String) throws {
    let folder = try TemporaryFolder()
    let original = try OpenedModel(path: source)
    let stock = folder.file("stock")
    try Self.write(ModelContents(original).inLayout(.stock), to: stock)
    let opened = try OpenedModel(path: stock)
    #expect(opened.configuration.family == .qwen2)
    #expect(opened.configuration.json["architectures"] == ["Qwen2ForCausalLM"])
    let names = try TensorTable(path: stock).names
    #expect(!names.contains { $0.contains("qkv_proj") } && names.contains { $0.hasSuffix("k_proj.bias") })
    #expect(try Self.logits(opened) == Self.logits(original))

    // Stop tokens and chat ids are those of the original. (Where white space begins a message, the original's code cuts
    // before it and a template does not.)
    let (a, b) = (try original.tokenizer(), try opened.tokenizer())
    let template = try #require(try ChatTemplate.detected(tokenizer: b, files: opened.files))
    let usual = try #require(try ChatTemplate.detected(tokenizer: a))
    for roles in [["user"], ["system", "user", "assistant", "user"]] {
      let messages = roles.map { ChatMessage(role: $0, content: "Hi {{ \($0) }} <|im_end|>, ok?") }
      for contents in [SpecialTokens.plain, .recognized] {
        #expect(
          try template.encode(messages, tokenizer: b, contents: contents, addingGenerationPrompt: true)
            == usual.encode(messages, tokenizer: a, contents: contents, addingGenerationPrompt: true))
      }
    }
    #expect(
      Set(try opened.files.generationConfiguration().eosTokenIDs)
        == Set(["<eod>", "<|im_end|>", "<|im_start|>"].compactMap { a.specialTokens[$0] }))

    let back = folder.file("back")
    try Self.write(ModelContents(opened).inLayout(.zhinao), to: back)
    #expect(try RoundTripTests.bytes(back) == RoundTripTests.bytes(source))
    #expect(
      try Data(contentsOf: URL(fileURLWithPath: back + "/vocab/360.tiktoken"))
        == Data(contentsOf: URL(fileURLWithPath: source + "/vocab/360.tiktoken")))
    #expect(try Self.logits(OpenedModel(path: back)) == Self.logits(original))
  }

  /// Out of a packed file and into one: panels are rows again.
  @Test func packedFilesGoBothWays() throws {
    let folder = try TemporaryFolder()
    let packed = folder.file("m.zhinao")
    try ModelPacker(ModelContents(OpenedModel(path: Self.gqa))).write(
      to: packed, generator: "test", provenance: JSONObject())
    let stock = folder.file("stock.zhinao")
    try ModelPacker(ModelContents(OpenedModel(path: packed)).inLayout(.stock)).write(
      to: stock, generator: "test", provenance: JSONObject())
    let back = folder.file("back")
    try Self.write(ModelContents(OpenedModel(path: stock)).inLayout(.zhinao), to: back)
    #expect(try RoundTripTests.bytes(back) == RoundTripTests.bytes(Self.gqa))
  }

  @Test(
    arguments: [
      (#""bias": false"#, #""bias": true"#, .outputBias),
      (#""bias": false"#, #""mlp_bias": true"#, .mlpBias),
      (#""bias": false"#, #""logit_scale": 0.5"#, .logitScale(0.5)),
      (#""bias": false"#, #""partial_rotary_factor": 0.5"#, .partialRotaryFactor(0.5)),
    ] as [(String, String, ConversionError.Qwen2Obstacle)])
  func whatQwen2CannotSayIsRefused(old: String, new: String, obstacle: ConversionError.Qwen2Obstacle) throws {
    let folder = try TemporaryFolder()
    let path = try RoundTripTests.changed(folder) { try RoundTripTests.edit($0 + "/config.json", old, new) }
    let contents = try ModelContents(OpenedModel(path: path))
    let error = #expect(throws: ConversionError.self) { try contents.inLayout(.stock) }
    #expect(error?.reason == .notInQwen2(obstacle))
  }
}

@Suite struct LoRATests {
  static let adapter = Fixture.path("lora")

  /// How far two bf16 numbers are apart, in steps.
  static func distance(_ a: Data, _ b: Data) -> Int {
    func ordered(_ data: Data) -> [Int] {
      data.withUnsafeBytes { bytes in
        bytes.bindMemory(to: Int16.self).map { $0 < 0 ? -32768 - Int($0) : Int($0) }
      }
    }
    return zip(ordered(a), ordered(b)).map { abs($0 - $1) }.max() ?? 0
  }

  /// An adapter of q, k, v and o with ranks, alphas and √rank scaling of their own, merged by PEFT 0.21 in bf16.
  @Test func mergesAsPEFT() throws {
    let folder = try TemporaryFolder()
    let merged = folder.file("merged")
    let fused = try ModelContents(OpenedModel(path: StockLayoutTests.gqa)).merging(
      LoRAAdapter(path: Self.adapter))
    try StockLayoutTests.write(fused.inLayout(.stock), to: merged)
    let ours = try RoundTripTests.bytes(merged)
    let golden = try TensorTable(path: Self.adapter + "/merged.safetensors")
    #expect(golden.names.count == 4)
    let before = folder.file("before")
    let stock = try ModelContents(OpenedModel(path: StockLayoutTests.gqa)).inLayout(.stock)
    try StockLayoutTests.write(stock, to: before)
    let unmerged = try RoundTripTests.bytes(before)
    for name in golden.names {
      let expected = Data(try #require(golden[name]).bytes)
      #expect(Self.distance(try #require(ours[name]), expected) <= 1, "\(name)")
      #expect(Self.distance(try #require(unmerged[name]), expected) > 1, "\(name) is not changed at all")
    }
    // The adapter of the split matrices merges into the fused one and into the split ones alike.
    let after = folder.file("after")
    try StockLayoutTests.write(
      try ModelContents(OpenedModel(path: before)).merging(LoRAAdapter(path: Self.adapter)), to: after)
    #expect(try RoundTripTests.bytes(after) == ours)
  }

  /// Writes an adapter of one module.
  static func adapter(
    _ folder: TemporaryFolder, _ name: String, module: String, rank: Int, out: Int, in inFeatures: Int,
    configuration: String = #"{"peft_type": "LORA", "r": 2, "lora_alpha": 2}"#
  ) throws -> String {
    let path = folder.file(name)
    try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    try AtomicFile.write(configuration, to: path + "/adapter_config.json")
    var random = SplitMix64(seed: 360)
    try SafetensorsWriter.write(
      to: path + "/adapter_model.safetensors",
      tensors: [
        TensorPlan("base_model.model.\(module).lora_A.weight", .f32, [rank, inFeatures]),
        TensorPlan("base_model.model.\(module).lora_B.default.weight", .f32, [out, rank]),
      ]
    ) { plan, emit in
      let values = (0..<plan.byteCount / 4).map { _ in Float.random(in: -0.1...0.1, using: &random) }
      try values.withUnsafeBytes { try emit($0) }
    }
    return path
  }

  /// The same for an adapter of the fused matrix, which q, k and v share.
  @Test func fusedAndSplitMatricesAgree() throws {
    let folder = try TemporaryFolder()
    let module = "model.layers.1.self_attn.qkv_proj"
    let adapter = try LoRAAdapter(
      path: try Self.adapter(folder, "a", module: module, rank: 2, out: 256, in: 128))
    let contents = try ModelContents(OpenedModel(path: StockLayoutTests.gqa))
    let (a, b) = (folder.file("x"), folder.file("y"))
    try StockLayoutTests.write(contents.merging(adapter).inLayout(.stock), to: a)
    try StockLayoutTests.write(contents.inLayout(.stock).merging(adapter), to: b)
    #expect(try RoundTripTests.bytes(a) == RoundTripTests.bytes(b))
    let plain = folder.file("z")
    try StockLayoutTests.write(contents.inLayout(.stock), to: plain)
    let changed = try RoundTripTests.bytes(a).filter { try RoundTripTests.bytes(plain)[$0.key] != $0.value }
    #expect(changed.count == 3)
  }

  /// A head that was trained as a whole takes the place of the model's, in the model's type.
  @Test func wholeWeightsReplaceTheModels() throws {
    let folder = try TemporaryFolder()
    let path = try Self.adapter(
      folder, "a", module: "model.layers.0.mlp.up_proj", rank: 2, out: 384, in: 128)
    let values = (0..<3072 * 128).map { Float($0 % 251) / 64 }
    let old = try TensorTable(path: path + "/adapter_model.safetensors")
    let plans = old.inFileOrder.map { TensorPlan($0.name, $0.dtype, $0.shape) }
    let both = path + "/both.safetensors"
    let head = TensorPlan("base_model.model.lm_head.weight", .f32, [3072, 128])
    try SafetensorsWriter.write(to: both, tensors: plans + [head]) { plan, emit in
      guard let tensor = old[plan.name] else { return try values.withUnsafeBytes { try emit($0) } }
      try emit(tensor.bytes)
    }
    try FileManager.default.removeItem(atPath: path + "/adapter_model.safetensors")
    try FileManager.default.moveItem(atPath: both, toPath: path + "/adapter_model.safetensors")
    let merged = folder.file("merged")
    let contents = try ModelContents(OpenedModel(path: StockLayoutTests.gqa))
    try StockLayoutTests.write(contents.merging(LoRAAdapter(path: path)), to: merged)
    let found = try #require(try TensorTable(path: merged)["lm_head.weight"])
    #expect(found.dtype == .bf16)
    // Multiples of 1/64 below 4 fit bf16's eight bits.
    let halves = found.bytes.bindMemory(to: UInt16.self)
    #expect(zip(values, halves).allSatisfy { $0.bitPattern == UInt32($1) << 16 })
  }

  @Test(arguments: [
    ("model.layers.9.mlp.up_proj", 384, "no such module", ""),
    ("model.layers.0.mlp.up_proj", 380, "[380, 128]", ""),
    ("model.layers.0.mlp.up_proj", 384, "rank 2", #""r": 4"#),
    ("model.layers.0.mlp.up_proj", 384, "use_dora", #""r": 2, "use_dora": true"#),
    ("model.layers.0.mlp.up_proj", 384, "lora_bias", #""r": 2, "lora_bias": true"#),
    (
      "model.layers.0.mlp.up_proj", 384, "alora_invocation_tokens", #""r": 2, "alora_invocation_tokens": [5]"#
    ),
    ("model.layers.0.mlp.up_proj", 384, "target_modules", #""r": 2, "target_modules": ["q_proj"]"#),
    ("model.layers.0.mlp.up_proj", 384, "pissa", #""r": 2, "init_lora_weights": "pissa_niter_4""#),
    ("model.layers.0.mlp.up_proj", 384, "rank_pattern", #""r": 2, "rank_pattern": {"(": 3}"#),
    ("model.layers.0.mlp.up_proj", 384, "is LOHA", #""r": 2, "peft_type": "LOHA""#),
  ])
  func whatDoesNotFitIsNamed(module: String, out: Int, part: String, setting: String) throws {
    let folder = try TemporaryFolder()
    let path = try Self.adapter(
      folder, "a", module: module, rank: 2, out: out, in: 128,
      configuration: "{\(setting.isEmpty ? #""r": 2"# : setting), \"lora_alpha\": 2}")
    let contents = try ModelContents(OpenedModel(path: StockLayoutTests.gqa))
    let error = #expect(throws: (any Error).self) { try contents.merging(LoRAAdapter(path: path)) }
    #expect("\(error.map { "\($0)" } ?? "")".contains(part), "\(error.map { "\($0)" } ?? "")")
  }
}
