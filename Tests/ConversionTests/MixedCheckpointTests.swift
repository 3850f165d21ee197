import Architecture
import AutoGPTQ
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

/// GPTQ checkpoints in which modules differ in bits, group size and symmetry, are in floats, or have negative scales.
@Suite struct MixedCheckpointTests {
  private static let down = "model.layers.1.mlp.down_proj"
  private static let query = "model.layers.0.self_attn.o_proj"
  private static let gate = "model.layers.0.mlp.gate_proj"

  private static func contents() throws -> ModelContents {
    var contents = try ModelContents(OpenedModel(path: Fixture.path("tiny-zhinao-gqa")))
    let index = contents.index
    let modules = index.projections.filter { index.name(of: $0) != gate }
    let tensors = modules.map { module in
      let (name, shape) = (index.name(of: module), index.shape(of: module))
      var matrix = randomMatrix(
        bits: name == down ? 8 : 4, symmetric: name != query, permuted: false, out: shape.out,
        inputs: shape.in,
        group: name == query ? 64 : 32)
      for i in matrix.scales.indices where i % 3 == 0 { matrix.scales[i] |= 0x8000 }
      return (module, IntPanelTensor(packing: matrix))
    }
    contents.quantize(Dictionary(uniqueKeysWithValues: tensors), as: QuantizeConfiguration(groupSize: 32))
    return contents
  }

  private static func folder(_ folder: TemporaryFolder) throws -> String {
    let path = folder.file("gptq")
    try FolderWriter(contents(), zeroPointFormat: .v2).write(to: path, replacing: false, toolVersion: "t")
    return path
  }

  @Test func aFolderSaysWhichModulesDiffer() throws {
    let folder = try TemporaryFolder()
    let path = try Self.folder(folder)
    let json = try JSONValue.parse(file: path + "/quantize_config.json")
    let expected: JSONValue = [
      #"+:^model\.layers\.0\.self_attn\.o_proj$"#: ["group_size": 64, "sym": false],
      #"-:^model\.layers\.0\.mlp\.gate_proj$"#: [:],
      #"+:^model\.layers\.1\.mlp\.down_proj$"#: ["bits": 8],
    ]
    #expect(json["dynamic"] == expected)
    #expect(try JSONValue.parse(file: path + "/config.json")["quantization_config"]?["dynamic"] == expected)
  }

  /// Folder, packed file, other layout and floats have the same weights.
  @Test func everyFormComputesTheSame() throws {
    let folder = try TemporaryFolder()
    let path = try Self.folder(folder)
    let logits = try StockLayoutTests.logits(OpenedModel(path: path))
    let packed = folder.file("m.zhinao")
    try ModelPacker(ModelContents(OpenedModel(path: path))).write(
      to: packed, generator: "t", provenance: JSONObject())
    #expect(try StockLayoutTests.logits(OpenedModel(path: packed)) == logits)
    let back = folder.file("back")
    try FolderWriter(ModelContents(OpenedModel(path: packed)), zeroPointFormat: .v2).write(
      to: back, replacing: false, toolVersion: "t")
    #expect(try RoundTripTests.bytes(back) == RoundTripTests.bytes(path))
    #expect(
      try JSONValue.parse(file: back + "/quantize_config.json")
        == JSONValue.parse(file: path + "/quantize_config.json"))
    let stock = folder.file("stock")
    try FolderWriter(ModelContents(OpenedModel(path: path)).inLayout(.stock)).write(
      to: stock, replacing: false, toolVersion: "t")
    #expect(try StockLayoutTests.logits(OpenedModel(path: stock)) == logits)
    let floats = folder.file("floats")
    try FolderWriter(ModelContents(OpenedModel(path: path)).dequantized(), dtype: .f32).write(
      to: floats, replacing: false, toolVersion: "t")
    let table = try TensorTable(path: floats)
    let wanted = randomMatrix(bits: 8, symmetric: true, permuted: false, out: 128, inputs: 384, group: 32)
    let found = try #require(table[Self.down + ".weight"]).bytes.bindMemory(to: Float.self)
    // Outputs 0 and 1 of the first group: every third scale is negative.
    let scales = [-HalfPrecision.value(of: wanted.scales[0]), HalfPrecision.value(of: wanted.scales[1])]
    for n in 0...1 {
      for k in 0..<32 { #expect(found[n * 384 + k] == scales[n] * (Float(wanted.codes[k * 128 + n]) - 128)) }
    }
    for (a, b) in zip(try StockLayoutTests.logits(OpenedModel(path: floats)), logits) {
      #expect(abs(a - b) <= 1e-3 * max(1, abs(b)))
    }
  }

  /// A rule that only leaves modules out says what the tensors say anyway.
  @Test func exclusionsOfModulesThatAreNotThereAreFine() throws {
    let folder = try TemporaryFolder()
    let path = try Self.folder(folder)
    for name in ["quantize_config.json", "config.json"] {
      try RoundTripTests.edit(
        path + "/" + name, #""dynamic": {"#, #""dynamic": {"-:.*layers\\.(?:1[0-9])\\..*": {},"#)
    }
    #expect(throws: Never.self) { try ModelContents(OpenedModel(path: path)) }
    for name in ["quantize_config.json", "config.json"] {
      try RoundTripTests.edit(
        path + "/" + name, #""-:.*layers"#, #""-:.*layers\\.1\\.mlp.*": {}, "-:.*layers"#)
    }
    let error = #expect(throws: JSONFieldError.self) { try ModelContents(OpenedModel(path: path)) }
    #expect(error?.description.contains("layers.1.mlp.gate_proj in floats") == true)
  }

  /// Without its rule a module's tensors have another shape than the checkpoint's settings need.
  @Test func aLostRuleIsFound() throws {
    let folder = try TemporaryFolder()
    let path = try Self.folder(folder)
    try RoundTripTests.edit(path + "/quantize_config.json", #"down_proj$""#, #"other_proj$""#)
    // Two files with different rules cannot both be right.
    #expect(throws: QuantizationContradiction.self) { try OpenedModel(path: path) }
    try RoundTripTests.edit(path + "/config.json", #"down_proj$""#, #"other_proj$""#)
    let error = #expect(throws: CheckpointError.self) { try ModelContents(OpenedModel(path: path)) }
    #expect(error?.tensor?.contains(Self.down) == true)
  }

  /// A head in integers (`lm_head: true`) counts even where the configuration ties it.
  @Test(arguments: [false, true])
  func aHeadInIntegersIsTheHead(isTied: Bool) throws {
    let folder = try TemporaryFolder()
    let path = try Self.folder(folder)
    let head = randomMatrix(bits: 4, symmetric: true, permuted: false, out: 3072, inputs: 128, group: 32)
    let table = try TensorTable(path: path)
    let own = table.inFileOrder.filter { $0.name != "lm_head.weight" }.map {
      TensorPlan($0.name, $0.dtype, $0.shape)
    }
    let plans = AutoGPTQModule.plans("lm_head", bits: 4, groupCount: 4, out: 3072, in: 128)
    let merged = folder.file("merged.safetensors")
    try SafetensorsWriter.write(to: merged, tensors: own + plans) { plan, emit in
      if let tensor = table[plan.name] { return try emit(tensor.bytes) }
      let suffix = plan.name.bytes.dropping(prefix: "lm_head.") ?? ""
      try AutoGPTQModule.bytes(of: suffix, IntPanelTensor(packing: head), format: .v2).withUnsafeBytes {
        try emit($0)
      }
    }
    for file in table.files { try FileManager.default.removeItem(atPath: file.path) }
    try FileManager.default.moveItem(atPath: merged, toPath: path + "/model.safetensors")
    if isTied {
      try RoundTripTests.edit(
        path + "/config.json", #""tie_word_embeddings": false"#, #""tie_word_embeddings": true"#)
    }
    let packed = folder.file("m.zhinao")
    try ModelPacker(ModelContents(OpenedModel(path: path))).write(
      to: packed, generator: "t", provenance: JSONObject())
    let logits = try StockLayoutTests.logits(OpenedModel(path: path))
    #expect(try StockLayoutTests.logits(OpenedModel(path: packed)) == logits)
    // A head of random codes is no embedding.
    let decoder = try OpenedModel(path: path).decoder()
    let hidden = decoder.hiddenStates(windows: [[5, 77, 1024, 3000, 8, 300, 12]])
    let floats = WeightMatrix.intPanels(IntPanels.inMemory(head)).rowMajorFloats()
    let first = (0..<128).reduce(Float(0)) { $0 + hidden[$1] * floats[$1] }
    #expect(abs(first - logits[0]) <= 1e-3 * max(1, abs(first)))
  }

  /// Beside its embedding, a tied model may have a head in integers; in floats the two are not tied any more.
  @Test func aDequantizedHeadIsNotTheEmbedding() throws {
    let folder = try TemporaryFolder()
    let tied = folder.file("tied")
    try RandomModel.write(
      RandomModel.configuration("llama", [("tie_word_embeddings", true)]), to: tied)
    var contents = try ModelContents(OpenedModel(path: tied))
    let head = randomMatrix(bits: 8, symmetric: true, permuted: false, out: 80, inputs: 64, group: 32)
    let layout = IntPanelLayout(
      bits: 8, groupSize: 32, outFeatures: 80, inFeatures: 64, isSymmetric: true, isPermuted: false)
    contents.entries.append(
      ModelEntry(key: .known(TensorID(.head)), shape: [80, 64], form: .quantized(layout) { head }))
    let floats = folder.file("floats")
    try FolderWriter(contents.dequantized(), dtype: .f32).write(
      to: floats, replacing: false, toolVersion: "t")
    let model = try OpenedModel(path: floats)
    #expect(!model.configuration.tieWordEmbeddings && model.store.discrepancies.isEmpty)
  }
}
