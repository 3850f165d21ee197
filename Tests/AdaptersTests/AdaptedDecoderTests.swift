import Adapters
import Compute
import Conversion
import Files
import Foundation
import JSON
import Models
import Safetensors
import Tensors
import TestSupport
import Testing
import Transformer

/// Adapters beside a model's weights: what PEFT computes, and what a merge gives.
@Suite struct AdaptedDecoderTests {
  private static let gqa = Fixture.path("tiny-zhinao-gqa")
  private static let trained = Fixture.path("lora-tiny-zhinao-gqa")
  private static let ids = [5, 77, 1024, 3000, 8, 300, 12]

  private static func logits(_ decoder: Decoder, _ ids: [Int] = ids) -> [Float] {
    decoder.logits(decoder.hiddenStates(windows: [ids]), rows: 0..<ids.count).array
  }

  private static func decoder(
    _ base: String = gqa, _ adapters: [AppliedAdapter], pool: WorkerPool = .shared
  ) throws -> Decoder {
    try OpenedModel(path: base).decoder(adapters: adapters, pool: pool)
  }

  private static func worst(_ a: [Float], _ b: [Float]) -> Float {
    a.count == b.count
      ? zip(a, b).reduce(0) { $1.0.isFinite ? max($0, abs($1.0 - $1.1)) : .infinity } : .infinity
  }

  /// Writes an adapter.
  private static func adapter(
    _ folder: TemporaryFolder, named name: String = "adapter", settings: String = "",
    _ tensors: [(name: String, shape: [Int], values: [Float])]
  ) throws -> LoRAAdapter {
    let path = folder.file(name)
    try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    try AtomicFile.write(
      #"{"peft_type": "LORA", "r": 2, "lora_alpha": 4\#(settings)}"#, to: path + "/adapter_config.json")
    let plans = tensors.map { TensorPlan("base_model.model.\($0.name)", .f32, $0.shape) }
    try SafetensorsWriter.write(to: path + "/adapter_model.safetensors", tensors: plans) { plan, emit in
      let tensor = try #require(tensors.first { "base_model.model.\($0.name)" == plan.name })
      try tensor.values.withUnsafeBytes { try emit($0) }
    }
    return try LoRAAdapter(path: path)
  }

  private static func update(_ module: String, out: Int, in inFeatures: Int = 128, seed: UInt64 = 360) -> [(
    name: String, shape: [Int], values: [Float]
  )] {
    var random = SplitMix64(seed: seed)
    func values(_ count: Int) -> [Float] {
      (0..<count).map { _ in Float.random(in: -0.2...0.2, using: &random) }
    }
    return [
      ("\(module).lora_A.weight", [2, inFeatures], values(2 * inFeatures)),
      ("\(module).lora_B.weight", [out, 2], values(out * 2)),
    ]
  }

  // MARK: PEFT

  /// PEFT on torch in fp32 around a module with the fused matrix.
  @Test func logitsAreThoseOfPEFT() throws {
    let golden = try SafetensorsFile(path: Fixture.path("golden/lora.safetensors"))
    let ids = golden.bytes(of: try #require(golden.tensor("input_ids"))).bindMemory(to: Int32.self).map {
      Int($0)
    }
    let expected = golden.bytes(of: try #require(golden.tensor("logits.adapter"))).bindMemory(to: Float.self)
    let adapter = AppliedAdapter(try LoRAAdapter(path: Self.trained))
    for isa in InstructionSet.runnable {
      for threads in 1...3 {
        let pool = WorkerPool(threads: threads, kernels: try #require(Kernels(for: isa)))
        let found = Self.logits(try Self.decoder(Self.gqa, [adapter], pool: pool), ids)
        #expect(Self.worst(found, Array(expected)) <= 1e-4, "\(isa), \(threads) threads")
      }
    }
    #expect(Self.worst(Self.logits(try Self.decoder(Self.gqa, []), ids), Array(expected)) > 0.1)
  }

  /// The sum of PEFT in fp32, rounded to bf16, is at most a step away.
  @Test func mergesAsPEFTDoes() throws {
    let golden = try SafetensorsFile(path: Fixture.path("golden/lora.safetensors"))
    let expected = golden.bytes(of: try #require(golden.tensor("merged.layer0.qkv_proj.weight")))
      .bindMemory(to: Float.self)
    let folder = try TemporaryFolder()
    let contents = try ModelContents(OpenedModel(path: Self.gqa)).merging(LoRAAdapter(path: Self.trained))
    try FolderWriter(contents).write(to: folder.file("merged"), replacing: false, toolVersion: "test")
    let tensor = try #require(
      try TensorTable(path: folder.file("merged"))["model.layers.0.self_attn.qkv_proj.weight"])
    let found = tensor.bytes.bindMemory(to: Int16.self)
    func ordered(_ bits: Int16) -> Int { bits < 0 ? -32768 - Int(bits) : Int(bits) }
    let worst = zip(found, expected).map { bits, value -> Int in
      let rounded = (value.bitPattern &+ 0x7FFF &+ (value.bitPattern >> 16 & 1)) >> 16
      return abs(ordered(bits) - ordered(Int16(truncatingIfNeeded: rounded)))
    }.max()
    #expect(found.count == expected.count && (worst ?? 2) <= 1)
  }

  // MARK: Layouts, sums

  /// An adapter of q, k and v on the fused matrix, and one of the fused matrix on q, k and v, compute the same as in their own
  /// layout.
  @Test func layoutsOfTheProjectionsAgree() throws {
    let folder = try TemporaryFolder()
    let stock = folder.file("stock")
    try FolderWriter(ModelContents(OpenedModel(path: Self.gqa)).inLayout(.stock)).write(
      to: stock, replacing: false, toolVersion: "test")
    let split =
      Self.update("model.layers.1.self_attn.q_proj", out: 128)
      + Self.update("model.layers.1.self_attn.v_proj", out: 64, seed: 7)
    let fused = Self.update("model.layers.0.self_attn.qkv_proj", out: 256)
    for (name, tensors) in [("split", split), ("fused", fused)] {
      let adapter = AppliedAdapter(try Self.adapter(folder, named: name, tensors))
      let a = Self.logits(try Self.decoder(Self.gqa, [adapter]))
      let b = Self.logits(try Self.decoder(stock, [adapter]))
      #expect(Self.worst(a, b) <= 1e-5)
      #expect(Self.worst(a, Self.logits(try Self.decoder(Self.gqa, []))) > 0.01)
    }
  }

  /// In fp32 the sum beside the weights is the sum in the weights, but for rounding.
  @Test func adaptersAddUpAsTheyMerge() throws {
    let folder = try TemporaryFolder()
    let first = try LoRAAdapter(path: Self.trained)
    let second = try Self.adapter(
      folder,
      Self.update("model.layers.0.mlp.down_proj", out: 128, in: 384) + Self.update("lm_head", out: 3072))
    let merged = folder.file("merged")
    let contents = try ModelContents(OpenedModel(path: Self.gqa)).merging(first, dtype: .f32)
      .merging(second, dtype: .f32)
    try FolderWriter(contents).write(to: merged, replacing: false, toolVersion: "test")
    let beside = Self.logits(try Self.decoder(Self.gqa, [AppliedAdapter(first), AppliedAdapter(second)]))
    #expect(Self.worst(beside, Self.logits(try Self.decoder(merged, []))) <= 1e-4)
    // Half of it twice.
    let half = AppliedAdapter(second, factor: 0.5)
    #expect(
      Self.worst(
        Self.logits(try Self.decoder(Self.gqa, [half, half])),
        Self.logits(try Self.decoder(Self.gqa, [AppliedAdapter(second)]))) <= 1e-5)
  }

  @Test func theFactorIsAfterAColon() throws {
    #expect(try AppliedAdapter(argument: Self.trained).factor == 1)
    #expect(try AppliedAdapter(argument: Self.trained + ":0.25").factor == 0.25)
    for text in ["much", "nan", ""] {
      let error = #expect(throws: AdapterError.self) {
        try AppliedAdapter(argument: "\(Self.trained):\(text)")
      }
      #expect(error?.reason == .badFactor(text) && error?.category == .usage)
    }
    #expect(throws: FileError.self) { try AppliedAdapter(argument: "nowhere:0.5") }
  }

  @Test func aFolderOfNamedAdaptersSaysTheirNames() throws {
    let folder = try TemporaryFolder()
    for name in ["tone", "terms"] {
      try FileManager.default.copyItem(atPath: Self.trained, toPath: folder.file(name))
    }
    let error = #expect(throws: AdapterError.self) { try LoRAAdapter(path: folder.path) }
    #expect(error?.reason == .namedAdapters(["terms", "tone"]))
  }

  /// A packed file has its matrices in panels.
  @Test func aPackedModelComputesTheSame() throws {
    let folder = try TemporaryFolder()
    let path = folder.file("model.zhinao")
    try ModelPacker(ModelContents(OpenedModel(path: Self.gqa))).write(
      to: path, generator: "t", provenance: JSONObject())
    let adapter = AppliedAdapter(try LoRAAdapter(path: Self.trained))
    #expect(
      Self.logits(try Self.decoder(path, [adapter])) == Self.logits(try Self.decoder(Self.gqa, [adapter])))
  }

  // MARK: Whole weights

  @Test func normsAndHeadTakeThePlaceOfTheModels() throws {
    let folder = try TemporaryFolder()
    func values(_ count: Int, _ step: Int) -> [Float] {
      (0..<count).map { Float(($0 * step) % 251 - 125) / 64 }
    }
    let adapter = try Self.adapter(
      folder, settings: #", "modules_to_save": ["input_layernorm", "norm", "lm_head"]"#,
      [
        ("model.layers.1.input_layernorm.weight", [128], values(128, 3)),
        ("model.norm.weight", [128], values(128, 5)), ("lm_head.weight", [3072, 128], values(3072 * 128, 7)),
      ])
    let merged = folder.file("merged")
    try FolderWriter(ModelContents(OpenedModel(path: Self.gqa)).merging(adapter)).write(
      to: merged, replacing: false, toolVersion: "test")
    #expect(
      Self.logits(try Self.decoder(Self.gqa, [AppliedAdapter(adapter)]))
        == Self.logits(try Self.decoder(merged, [])))
    let twice = #expect(throws: AdapterError.self) {
      try Self.decoder(Self.gqa, [AppliedAdapter(adapter), AppliedAdapter(adapter)])
    }
    #expect(twice?.reason == .replacedTwice)
    let scaled = #expect(throws: AdapterError.self) {
      try Self.decoder(Self.gqa, [AppliedAdapter(adapter, factor: 0.5)])
    }
    #expect(scaled?.reason == .replacementWithFactor(0.5))
  }

  /// PEFT saves the base model's embedding beside an update of the head. The same numbers are no change.
  @Test func theModelsOwnEmbeddingIsNoChange() throws {
    let folder = try TemporaryFolder()
    let embedding = try #require(try TensorTable(path: Self.gqa)["model.embed_tokens.weight"])
    let values = embedding.bytes.bindMemory(to: UInt16.self).map { Float(bitPattern: UInt32($0) << 16) }
    func adapter(_ name: String, _ values: [Float]) throws -> AppliedAdapter {
      AppliedAdapter(
        try Self.adapter(
          folder, named: name,
          Self.update("lm_head", out: 3072) + [("model.embed_tokens.weight", [3072, 128], values)]))
    }
    _ = try Self.decoder(Self.gqa, [adapter("same", values)])
    let other = #expect(throws: AdapterError.self) {
      try Self.decoder(Self.gqa, [adapter("other", values.map { $0 + 1 })])
    }
    #expect(other?.reason == .needsMerge(.embedding))
  }

  // MARK: Refusals

  @Test func whatOnlyAMergeCanChangeIsRefused() throws {
    let folder = try TemporaryFolder()
    let values = [Float](repeating: 0.5, count: 3080 * 128)
    let cases: [(String, [(name: String, shape: [Int], values: [Float])], AdapterError.Reason)] = [
      (
        #", "modules_to_save": ["embed_tokens"]"#,
        [("model.embed_tokens.weight", [3072, 128], Array(values[..<(3072 * 128)]))], .needsMerge(.embedding)
      ),
      (
        #", "modules_to_save": ["lm_head"]"#, [("lm_head.weight", [3080, 128], values)],
        .needsMerge(.vocabulary)
      ),
      (
        #", "trainable_token_indices": [7]"#,
        [("model.embed_tokens.token_adapter.trainable_tokens_delta", [1, 128], Array(values[..<128]))],
        .needsMerge(.tokenRows)
      ),
      (
        "",
        [
          ("model.embed_tokens.lora_embedding_A", [2, 3072], Array(values[..<6144])),
          ("model.embed_tokens.lora_embedding_B", [128, 2], Array(values[..<256])),
        ], .needsMerge(.embedding)
      ),
      (
        "", Self.update("model.layers.0.mlp.up_proj", out: 380),
        .updateDoesNotFit(
          update: [380, 128], matrix: "model.layers.0.mlp.up_proj.weight", shape: [384, 128])
      ),
      ("", Self.update("model.layers.2.mlp.up_proj", out: 384), .noModuleInBase(base: Self.gqa)),
      (
        "",
        Self.update("model.layers.0.mlp.up_proj", out: 384).map {
          ($0.name, $0.shape, $0.values.enumerated().map { $0.offset == 3 ? .nan : $0.element })
        }, .notFinite(index: 3)
      ),
    ]
    for (index, (settings, tensors, reason)) in cases.enumerated() {
      let adapter = try Self.adapter(folder, named: "a\(index)", settings: settings, tensors)
      let error = #expect(throws: AdapterError.self) { try Self.decoder(Self.gqa, [AppliedAdapter(adapter)]) }
      #expect(error?.reason == reason)
      if case .needsMerge = reason { #expect("\(try #require(error))".contains("--merge-lora")) }
    }
  }

  @Test func encodersHaveNoAdapters() throws {
    let model = try OpenedModel(path: Fixture.path("tiny-bert"), accepting: .all)
    let adapter = AppliedAdapter(try LoRAAdapter(path: Self.trained))
    let error = #expect(throws: AdapterError.self) { try model.decoder(adapters: [adapter]) }
    #expect(error?.reason == .baseIsNoDecoder(model.configuration.family.name))
  }

  // MARK: Several adapters in one pass

  /// Sequences of different adapters in one batch compute the very bits they compute alone, prompt and answer.
  @Test(arguments: [Int4Arithmetic.exact, .fast])
  func sequencesOfDifferentAdaptersDoNotMix(arithmetic: Int4Arithmetic) throws {
    let folder = try TemporaryFolder()
    let model = try OpenedModel(path: Self.gqa)
    let base = try model.decoder(arithmetic: arithmetic)
    var values = [Float](repeating: 1, count: 128)
    values[5] = 3
    let normed = try Self.adapter(
      folder, settings: #", "modules_to_save": ["norm", "post_attention_layernorm"]"#,
      [
        ("model.layers.0.post_attention_layernorm.weight", [128], values),
        ("model.norm.weight", [128], values),
      ] + Self.update("lm_head", out: 3072))
    let variants = try [LoRAAdapter(path: Self.trained), normed].map {
      try model.weights(of: base, adaptedBy: [AppliedAdapter($0)])
    }
    let shared = base.replacing(variants: variants)
    let alone = [base] + variants.map { base.replacing($0) }
    let order = [1, 0, 2, 2, 1]
    func prompt(_ place: Int) -> [Int] { [3, 50 + place, 900, 14 * place + 1] }
    let caches = order.map { variant in
      let cache = shared.makeCache(capacity: 16)
      cache.variant = variant
      return cache
    }
    let first = shared.hiddenStates(batch: zip(order.indices, caches).map { (prompt($0), $1) })
    let next = shared.hiddenStates(batch: caches.map { ([77], $0) })
    let logits = shared.logits(next, rows: 0..<order.count, variants: order)
    for (place, variant) in order.enumerated() {
      let cache = alone[variant].makeCache(capacity: 16)
      let states = alone[variant].hiddenStates(prompt(place), cache: cache)
      #expect(states.array == Array(first.array[place * 4 * 128..<(place + 1) * 4 * 128]))
      let after = alone[variant].hiddenStates([77], cache: cache)
      let expected = alone[variant].logits(after, rows: 0..<1).array
      #expect(expected == Array(logits.array[place * 3072..<(place + 1) * 3072]), "sequence \(place)")
    }
  }
}
