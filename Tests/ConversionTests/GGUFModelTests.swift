import Architecture
import Audit
import AutoGPTQ
import Conversion
import Files
import Foundation
import GGUF
import JSON
import Models
import Safetensors
import Tensors
import TestSupport
import Testing
import Tokenization

@Suite struct GGUFInTests {
  /// A file that the `gguf` package wrote, rows of q and k permuted as llama.cpp's converter does
  /// (`Fixtures/gguf_fixtures.py`).
  static let path = Fixture.path("gguf/llama.gguf")

  /// The server's memory plan counts what stays in memory: the mapped file, and what its blocks become.
  @Test func weightsOfAFileCountAsResident() throws {
    let file = try #require(try FileManager.default.attributesOfItem(atPath: Self.path)[.size] as? Int)
    let store = try OpenedModel(path: Self.path, dequantizedType: .f32).store
    // Blocks become floats; rows of queries and keys change places, so that they are copies.
    let copies = try GGUFFile(path: Self.path).tensors.filter {
      $0.type.dtype == nil || $0.name.contains("attn_q.") || $0.name.contains("attn_k.")
    }
    #expect(!copies.isEmpty)
    let copied = copies.reduce(0) { $0 + $1.shape.reduce(($1.type.dtype ?? .f32).byteCount, *) }
    #expect(store.residentBytes == file + copied)
  }

  @Test func tensorsHaveHuggingFaceNamesAndOrder() throws {
    let model = try OpenedModel(path: Self.path, dequantizedType: .f32)
    #expect(model.kind == .gguf)
    let expected = try SafetensorsFile(path: Fixture.path("gguf/llama.safetensors"))
    for tensor in expected.tensors {
      let floats = expected.bytes(of: tensor)
      let id = try #require(TensorIndex(model.configuration).key(named: tensor.name).id)
      let found: [Float]
      if tensor.shape.count == 1 {
        found = try #require(try model.store.vector(id, count: tensor.shape[0])).array
      } else {
        found = try model.store.matrix(id.module, out: tensor.shape[0], in: tensor.shape[1])
          .rowMajorFloats().array
      }
      let wrong = found.indices.filter {
        found[$0].bitPattern != floats.loadUnaligned(fromByteOffset: 4 * $0, as: UInt32.self)
      }
      #expect(wrong.isEmpty && found.count == floats.count / 4, "\(tensor.name) at \(wrong.first ?? -1)")
    }
    #expect(try ModelContents(model).entries.count == expected.tensors.count)
  }

  @Test func metadataBecomesConfigurationAndTokenizer() throws {
    let model = try OpenedModel(path: Self.path)
    let c = model.configuration
    #expect(
      c.family == .llama && c.tieWordEmbeddings && c.kvHeads == 2 && c.headDim == 16 && c.rmsNormEps == 1e-5)
    #expect(c.json["rms_norm_eps"] == .number("1e-05") && c.eosTokenIDs == [262])
    let tokenizer = try model.tokenizer()
    #expect(tokenizer.encode("<|im_start|>a hello1 2   b") == [261, 97, 259, 111, 49, 32, 50, 263, 98])
    #expect(tokenizer.encode("<|im_start|>", specials: .plain, addingAffixes: false).count == 12)
    #expect(try tokenizer.decode([261, 259, 263, 98]) == "<|im_start|> hell   b")
    let template = try #require(try ChatTemplate.detected(tokenizer: tokenizer, files: model.files))
    let prompt = ChatPrompt([ChatMessage(role: "user", content: "Hi")], addingGenerationPrompt: true)
    #expect(
      try template.segments(of: prompt).map(\.text) == ["<|im_start|>system\nBe brief.<|im_end|>"])
    #expect(try model.stopTokens(tokenizer: tokenizer, template: nil) == [262])
  }

  /// The same bits whether a command reads the file or what was made of it.
  @Test func thePackedFileComputesTheSame() throws {
    let folder = try TemporaryFolder()
    let packed = folder.file("m.zhinao")
    try ModelPacker(ModelContents(OpenedModel(path: Self.path))).write(
      to: packed, generator: "t", provenance: JSONObject())
    let hf = folder.file("hf")
    try FolderWriter(ModelContents(OpenedModel(path: Self.path))).write(
      to: hf, replacing: false, toolVersion: "t")
    let outputs = try [Self.path, packed, hf].map { path in
      let decoder = try OpenedModel(path: path, verification: .full).decoder()
      return decoder.logits(decoder.hiddenStates(windows: [[5, 77, 261, 3]]), rows: 0..<4).array
    }
    #expect(outputs[0] == outputs[1] && outputs[0] == outputs[2])
  }

  @Test func damageIsFound() throws {
    let folder = try TemporaryFolder()
    let path = folder.file("m.gguf")
    let file = try GGUFFile(path: Self.path)
    var bytes = Array(file.parts[0].bytes)
    let tensor = try #require(file.tensor("blk.0.attn_v.weight"))
    bytes[tensor.range.lowerBound + 1] = 0x7C  // The scale of a block becomes infinite.
    bytes[tensor.range.lowerBound] = 0
    try AtomicFile.write(bytes, to: path)
    #expect(throws: ModelError.self) { try OpenedModel(path: path, verification: .full) }
    let report = try IntegrityReport.check(path: path)
    #expect(report.problems.contains { $0.contains("blk.0.attn_v.weight") })
  }
}

@Suite struct GGUFOutTests {
  static let gqa = Fixture.path("tiny-zhinao-gqa")

  static func export(_ source: String, _ path: String, type: GGUFTensorType? = nil) throws {
    let model = try OpenedModel(path: source)
    let exporter = GGUFExporter(try ModelContents(model), floatType: type)
    try exporter.write(exporter.plan(tokenizer: model.tokenizer()), to: path)
  }

  static func logits(_ path: String, _ ids: [Int]) throws -> [Float] {
    let decoder = try OpenedModel(path: path).decoder()
    return decoder.logits(decoder.hiddenStates(windows: [ids]), rows: 0..<ids.count).array
  }

  /// Fused rows are taken apart, everything else stays: the same bits come out.
  @Test func aZhinaoModelComputesTheSameAsQwen2() throws {
    let folder = try TemporaryFolder()
    let path = folder.file("m.gguf")
    try Self.export(Self.gqa, path)
    let model = try OpenedModel(path: path)
    #expect(model.configuration.family == .qwen2 && model.configuration.ropeTheta == 5e7)
    let ids = [5, 77, 1024, 3000, 8]
    #expect(try Self.logits(path, ids) == Self.logits(Self.gqa, ids))
  }

  @Test func thereAndBackIsTheSameFile() throws {
    let folder = try TemporaryFolder()
    let sources = [Self.gqa, GGUFInTests.path]
    for (index, source) in sources.enumerated() {
      let (first, packed, second) = (
        folder.file("\(index).gguf"), folder.file("\(index).zhinao"), folder.file("\(index)b.gguf")
      )
      try Self.export(source, first, type: .f16)
      try ModelPacker(ModelContents(OpenedModel(path: first))).write(
        to: packed, generator: "t", provenance: JSONObject())
      try Self.export(packed, second)
      let (a, b) = (try GGUFFile(path: first), try GGUFFile(path: second))
      #expect(a.tensors.map(\.name) == b.tensors.map(\.name))
      for (x, y) in zip(a.tensors, b.tensors) {
        #expect(x.type == y.type && a.bytes(of: x).elementsEqual(b.bytes(of: y)), "\(x.name)")
      }
      for key in ["tokens", "merges", "token_type", "pre"].map({ "tokenizer.ggml.\($0)" }) {
        if key.hasSuffix("token_type") {
          #expect(try a.integers(key) == b.integers(key))
        } else if key.hasSuffix("pre") {
          #expect(try a.string(key) == b.string(key))
        } else {
          #expect(try a.strings(key) == b.strings(key))
        }
      }
    }
  }

  /// The matrices of one module replaced by random codes, in every form that GGUF carries exactly.
  @Test(arguments: [(4, true, 64), (8, true, 32), (3, true, 128)])
  func integerCodesAreCarried(bits: Int, symmetric: Bool, group: Int) throws {
    let folder = try TemporaryFolder()
    let contents = try Self.quantized(bits: bits, symmetric: symmetric, group: group, permuted: false)
    let path = folder.file("m.gguf")
    let exporter = GGUFExporter(contents)
    try exporter.write(exporter.plan(tokenizer: nil), to: path)
    let packed = folder.file("m.zhinao")
    try ModelPacker(contents.dequantized(), dtype: .f32).write(
      to: packed, generator: "t", provenance: JSONObject())
    let ids = [5, 77, 1024, 3000, 8]
    let decoder = try OpenedModel(path: path, dequantizedType: .f32).decoder()
    let found = decoder.logits(decoder.hiddenStates(windows: [ids]), rows: 0..<5).array
    #expect(try found == Self.logits(packed, ids))
  }

  @Test func actOrderIsRefused() throws {
    let contents = try Self.quantized(bits: 4, symmetric: true, group: 32, permuted: true)
    let error = #expect(throws: ConversionError.self) { try GGUFExporter(contents).plan(tokenizer: nil) }
    #expect(error?.description.contains("--static-groups") == true)
    #expect(error?.tensor?.contains("model.layers.0") == true)
  }

  static func quantized(bits: Int, symmetric: Bool, group: Int, permuted: Bool) throws -> ModelContents {
    let model = try OpenedModel(path: gqa)
    var contents = try ModelContents(model)
    let index = contents.index
    var tensors: [ModuleID: IntPanelTensor] = [:]
    for module in index.projections {
      let shape = index.shape(of: module)
      tensors[module] = IntPanelTensor(
        packing: randomMatrix(
          bits: bits, symmetric: symmetric, permuted: permuted, out: shape.out, inputs: shape.in,
          group: group))
    }
    contents.quantize(
      tensors, as: QuantizeConfiguration(bits: bits, groupSize: group, isSymmetric: symmetric))
    return contents
  }
}

@Suite struct GGUFVocabularyTests {
  /// Where a text has none of the marks that only Zhinao's own tokenizer replaces, the tables give its ids.
  @Test(arguments: ["tiny", "cl100k"])
  func tablesGiveTheIdsOfTiktoken(name: String) throws {
    let vocabulary =
      name == "tiny" ? Fixture.tinyZhinao + "/vocab/360.tiktoken" : Fixture.path("cl100k_base.tiktoken")
    let zhinao = try #require(try TokenizerLoader.load(file: vocabulary) as? ZhinaoTokenizer)
    let tables = try BytePairTables(zhinao)
    #expect(!tables.ignoresMerges, "every token is the result of merging")
    #expect(tables.merges.count == zhinao.rankCount - 256)
    let file = try GGUFVocabularyTests.file(tables)
    let tokenizer = try file.model.tokenizer()
    let marks = ["[br]", "<br>", "[space2]", "[space3]", "[space4]", "[space8]"]
    var compared = 0
    for line in try Fixture.data("golden/tokenizer-\(name).jsonl").split(separator: 10) {
      let item = try JSONValue.parse(Array(line))
      let text = try #require(item["text"]?.stringValue)
      if marks.contains(where: text.contains) { continue }
      compared += 1
      let ids = try #require(item["ids"]?.arrayValue).compactMap(\.intValue)
      #expect(tokenizer.encode(text) == ids, "\(text.debugDescription)")
      #expect(try tokenizer.decode(ids) == item["decoded"]?.stringValue)
    }
    #expect(compared > 590)
  }

  /// A model of hardly any weights around the tables, written and read back.
  private static func file(_ tables: BytePairTables) throws -> (model: OpenedModel, folder: TemporaryFolder) {
    let folder = try TemporaryFolder()
    let path = folder.file("m.gguf")
    let kinds: [Int32] = tables.tokens.map { $0?.kind == .special ? 3 : $0?.kind == .added ? 4 : 1 }
    try TinyGGUF.write(
      [
        ("tokenizer.ggml.model", .string("gpt2")), ("tokenizer.ggml.pre", .string("qwen2")),
        ("tokenizer.ggml.tokens", .strings(tables.tokens.map { $0?.text ?? "" })),
        ("tokenizer.ggml.token_type", .int32s(kinds)),
        ("tokenizer.ggml.merges", .strings(tables.merges.map { "\($0.left) \($0.right)" })),
      ], rows: tables.tokens.count, to: path)
    return (try OpenedModel(path: path), folder)
  }
}

@Suite struct GGUFKeptCodesTests {
  /// Out to GGUF and back: the same codes, scales, zero points and groups.
  @Test(arguments: [(4, true, 128), (4, true, 32), (8, true, 64), (4, false, 64)])
  func codesComeBack(bits: Int, symmetric: Bool, group: Int) throws {
    let folder = try TemporaryFolder()
    let contents = try GGUFOutTests.quantized(bits: bits, symmetric: symmetric, group: group, permuted: false)
    let path = folder.file("m.gguf")
    let exporter = GGUFExporter(contents)
    try exporter.write(exporter.plan(tokenizer: nil), to: path)
    let model = try OpenedModel(path: path, keepsCodes: true)
    let q = try #require(model.quantization)
    #expect(q.bits == bits && q.groupSize == group && q.isSymmetric == symmetric)
    let back = try ModelContents(model)
    for kind in [ModuleKind.attentionOutput, .down] {
      let key = TensorKey.known(TensorID(kind, layer: 1))
      func matrix(_ contents: ModelContents) throws -> QuantizedMatrix? {
        try contents.entries.first { $0.key == key }?.quantizedMatrix()
      }
      #expect(try matrix(back) != nil && matrix(back) == matrix(contents))
    }
    // And through a .zhinao file the GGUF file is the same again.
    let packed = folder.file("m.zhinao")
    try ModelPacker(back).write(to: packed, generator: "t", provenance: JSONObject())
    let again = folder.file("again.gguf")
    let second = GGUFExporter(try ModelContents(OpenedModel(path: packed)))
    try second.write(second.plan(tokenizer: nil), to: again)
    let (a, b) = (try GGUFFile(path: path), try GGUFFile(path: again))
    // Their headers differ by the models' names.
    #expect(a.tensors.map(\.name) == b.tensors.map(\.name))
    for (x, y) in zip(a.tensors, b.tensors) {
      #expect(x.type == y.type)
      #expect(a.bytes(of: x).elementsEqual(b.bytes(of: y)), "\(x.name)")
    }
  }
}
