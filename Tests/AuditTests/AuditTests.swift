import Audit
import AutoGPTQ
import Conversion
import Files
import Foundation
import JSON
import Models
import Safetensors
import Tensors
import TestSupport
import Testing

@Suite struct LintRuleTests {
  /// Each tensor of a module has a rule of its own, whatever the message says.
  @Test(arguments: [
    ("scales", "scales"), ("qzeros", "zero-points"), ("qweight", "shape"),
  ])
  func aMissingTensorBreaksTheRuleOfItsKind(suffix: String, rule: String) throws {
    let folder = try TemporaryFolder()
    let path = try Self.checkpoint(in: folder)
    #expect(try CheckpointLint(path: path).findings.filter { $0.severity == .error }.isEmpty)
    let module = "model.layers.1.mlp.down_proj"
    try Self.rewrite(path) { $0 == "\(module).\(suffix)" ? nil : $1 }
    let errors = try CheckpointLint(path: path).findings.filter { $0.severity == .error }
    #expect(errors.map(\.rule) == [rule])
    #expect(errors.first?.text.contains("\(module).\(suffix)") == true)
  }

  /// Without act-order the groups are in order, and engines do not need `g_idx`.
  @Test func groupNumbersInOrderMayBeLeftOut() throws {
    let folder = try TemporaryFolder()
    let path = try Self.checkpoint(in: folder)
    try Self.rewrite(path) { $0.hasSuffix(".g_idx") ? nil : $1 }
    #expect(try CheckpointLint(path: path).findings.filter { $0.severity == .error }.isEmpty)
  }

  @Test func valuesThatBreakARuleAreNamedByTheirTensor() throws {
    let folder = try TemporaryFolder()
    let path = try Self.checkpoint(in: folder)
    try Self.rewrite(path) { name, bytes in
      guard name == "model.layers.0.self_attn.o_proj.scales" else { return bytes }
      return [0x00, 0x7E] + bytes.dropFirst(2)  // NaN
    }
    let errors = try CheckpointLint(path: path).findings.filter { $0.severity == .error }
    #expect(errors.map(\.rule) == ["scales"])
  }

  /// Two descriptions of one quantization that cannot both be right are the first finding.
  @Test func contradictorySettingsAreTheFirstFinding() throws {
    let folder = try TemporaryFolder()
    let path = try Self.checkpoint(in: folder)
    var own = try JSONValue.parse(file: path + "/quantize_config.json").objectValue ?? JSONObject()
    own["group_size"] = 64
    try AtomicFile.write(JSONValue.object(own).serialized(), to: path + "/quantize_config.json")
    let lint = try CheckpointLint(path: path)
    #expect(lint.findings.first?.rule == "quantization-config" && lint.hasErrors)
    #expect(lint.findings.first?.text.contains("quantize_config.json") == true)
    #expect(lint.engines.allSatisfy { $0.obstacle != nil })
    #expect(throws: QuantizationContradiction.self) { try IntegrityReport.check(path: path) }
  }

  /// Models in floats are checked too, and what was chosen of two sources is a warning.
  @Test func disagreementsOfFloatModelsAreFound() throws {
    let folder = try TemporaryFolder()
    let path = folder.file("m")
    try RandomModel.write(
      RandomModel.configuration(
        "llama",
        [
          ("rope_parameters", ["rope_type": "default", "rope_theta": 5e5]), ("dtype", "float32"),
          ("rope_scaling", ["type": "linear", "factor": 2.0]), ("torch_dtype", "bfloat16"),
          ("tie_word_embeddings", true),
        ]), to: path
    ) { $0.append(("lm_head.weight", [80, 64], [Float](repeating: 0.5, count: 80 * 64))) }
    try AtomicFile.write("{\"weight_map\": {}}", to: path + "/model.safetensors.index.json")
    let lint = try CheckpointLint(path: path)
    #expect(Set(lint.findings.map(\.rule)) == ["rope", "dtype", "shards", "tied-head", "tokenizer"])
    #expect(!lint.hasErrors && lint.engines.isEmpty)
    let notes = try IntegrityReport.check(path: path).notes
    for found in lint.findings where found.rule != "tokenizer" { #expect(notes.contains(found.text)) }
  }

  /// Symmetric checkpoints of AutoRound have them, and every engine multiplies with them.
  @Test func negativeScalesAreNoFault() throws {
    let folder = try TemporaryFolder()
    let path = try Self.checkpoint(in: folder)
    try Self.rewrite(path) { name, bytes in
      guard name.hasSuffix(".scales") else { return bytes }
      return bytes.enumerated().map { $0 % 4 == 1 ? $1 | 0x80 : $1 }
    }
    let lint = try CheckpointLint(path: path)
    #expect(lint.findings.filter { $0.severity == .error }.isEmpty)
  }

  @Test func rulesForSingleModulesAreFollowed() throws {
    let folder = try TemporaryFolder()
    let path = try Self.checkpoint(in: folder, bits: ["model.layers.1.mlp.down_proj": 8])
    let lint = try CheckpointLint(path: path)
    #expect(lint.findings.filter { $0.severity == .error }.isEmpty)
    let autoGPTQ = try #require(lint.engines.first { $0.engine == "AutoGPTQ" })
    #expect(autoGPTQ.obstacle?.contains("model.layers.1.mlp.down_proj") == true)
    #expect(lint.engines.first { $0.engine == "GPTQModel" }?.obstacle == nil)
  }

  /// - Parameter bits: of modules that do not have four.
  private static func checkpoint(in folder: TemporaryFolder, bits: [String: Int] = [:]) throws -> String {
    var contents = try ModelContents(OpenedModel(path: Fixture.path("tiny-zhinao-gqa")))
    let index = contents.index
    let tensors = Dictionary(
      uniqueKeysWithValues: index.projections.map { module in
        let shape = index.shape(of: module)
        let matrix = randomMatrix(
          bits: bits[index.name(of: module)] ?? 4, symmetric: true, permuted: false, out: shape.out,
          inputs: shape.in, group: 32)
        return (module, IntPanelTensor(packing: matrix))
      })
    contents.quantize(tensors, as: QuantizeConfiguration(groupSize: 32))
    let path = folder.file("gptq")
    try FolderWriter(contents).write(to: path, replacing: false, toolVersion: "test")
    return path
  }

  /// Writes the checkpoint again with other bytes; nil leaves a tensor out.
  private static func rewrite(_ path: String, _ change: (String, [UInt8]) -> [UInt8]?) throws {
    let file = try SafetensorsFile(path: "\(path)/model.safetensors")
    var contents: [String: [UInt8]] = [:]
    for tensor in file.tensors { contents[tensor.name] = change(tensor.name, Array(file.bytes(of: tensor))) }
    let plans = file.tensors.filter { contents[$0.name] != nil }.map {
      TensorPlan($0.name, $0.dtype, $0.shape)
    }
    try SafetensorsWriter.write(to: "\(path)/model.safetensors", tensors: plans) { plan, emit in
      try (contents[plan.name] ?? []).withUnsafeBytes { try emit($0) }
    }
  }
}

@Suite struct ProvenanceTests {
  @Test func tensorsThatDifferAreCountedByTheirCase() throws {
    let folder = try TemporaryFolder()
    let source = folder.file("source")
    try FileManager.default.copyItem(atPath: Fixture.path("tiny-zhinao-gqa"), toPath: source)
    let packed = folder.file("m.zhinao")
    try ModelPacker(ModelContents(OpenedModel(path: source))).write(
      to: packed, generator: "test", provenance: JSONObject())
    let proof = try ProvenanceCheck(path: packed, source: source)
    #expect(proof.problems.isEmpty && proof.tensorsEqual == proof.tensorsCompared && proof.tensorsEqual > 0)

    let shard = "\(source)/model-00002-of-00002.safetensors"
    var bytes = try Data(contentsOf: URL(fileURLWithPath: shard))
    bytes[bytes.count - 3] ^= 1
    try bytes.write(to: URL(fileURLWithPath: shard))
    let check = try ProvenanceCheck(path: packed, source: source)
    #expect(check.problems.contains(.sourceDiffers(name: "model-00002-of-00002.safetensors")))
    #expect(check.tensorsEqual == check.tensorsCompared - 1)
  }

  @Test func integrityCountsWhatTheStoreHolds() throws {
    for path in [Fixture.path("tiny-zhinao-gqa"), Fixture.path("gguf/llama.gguf")] {
      var last = 0
      let report = try IntegrityReport.check(path: path) { done, _ in last = done }
      #expect(report.problems.isEmpty && report.tensors > 0 && last > 0 && last <= report.bytes)
    }
  }
}
