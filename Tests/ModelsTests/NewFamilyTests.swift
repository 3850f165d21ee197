import Architecture
import Conversion
import Files
import Foundation
import JSON
import Models
import Safetensors
import TestSupport
import Testing

/// A family that nobody published: another name, other tensor names, the block of Llama. This is all that it takes.
extension ModelFamily {
  fileprivate static let madeUp = ModelFamily(
    name: "heron", modelClass: "HeronForCausalLM", qkvLayout: .separate,
    defaults: Defaults(contextLength: 4096, qkvBias: .never, outputBias: .never),
    gguf: GGUFDialect(architecture: "heron"), layerPrefix: "transformer.h.",
    tensors: [
      .embedding("transformer.wte", otherNames: ["wte"], gguf: "token_embd"),
      .norm(.inputNorm, "ln_1", gguf: "attn_norm"),
      .projection(.query, [.queries, .hidden], .attentionInput, "attn.wq", gguf: "attn_q"),
      .projection(.key, [.keys, .hidden], .attentionInput, "attn.wk", gguf: "attn_k"),
      .projection(.value, [.keys, .hidden], .attentionInput, "attn.wv", gguf: "attn_v"),
      .projection(.attentionOutput, [.hidden, .queries], .attentionOutput, "attn.wo", gguf: "attn_output"),
      .norm(.postAttentionNorm, "ln_2", gguf: "ffn_norm"),
      .projection(.gate, [.intermediate, .hidden], .feedForwardInput, "mlp.w1", gguf: "ffn_gate"),
      .projection(.up, [.intermediate, .hidden], .feedForwardInput, "mlp.w3", gguf: "ffn_up"),
      .projection(.down, [.hidden, .intermediate], .feedForwardOutput, "mlp.w2", gguf: "ffn_down"),
      .norm(.finalNorm, "transformer.ln_f", gguf: "output_norm"),
      .head("output", gguf: "output"),
    ])
}

@Suite struct NewFamilyTests {
  private static let families = ModelFamily.builtIn + [.madeUp]

  /// The same weights under Llama's names and under the new family's give the same logits, from a folder, a packed file and a
  /// GGUF file.
  @Test func runsLikeTheFamilyWhoseBlockItHas() throws {
    let folder = try TemporaryFolder()
    let llama = folder.file("llama")
    let heron = folder.file("heron")
    try Self.write(.llama, to: llama)
    try Self.write(.madeUp, to: heron)
    let expected = try Self.logits(OpenedModel(path: llama))
    let opened = try OpenedModel(path: heron, families: Self.families)
    #expect(opened.configuration.family == .madeUp)
    #expect(try Self.logits(opened) == expected)

    let contents = try ModelContents(opened)
    let packed = folder.file("heron.zhinao")
    try ModelPacker(contents).write(to: packed, generator: "test", provenance: JSONObject())
    #expect(try Self.logits(OpenedModel(path: packed, families: Self.families)) == expected)

    let gguf = folder.file("heron.gguf")
    let exporter = GGUFExporter(contents)
    try exporter.write(exporter.plan(tokenizer: nil), to: gguf)
    let back = try OpenedModel(path: gguf, families: Self.families)
    #expect(try Self.logits(back) == expected)

    // Written back, every tensor has the name it came under.
    try FolderWriter(ModelContents(OpenedModel(path: packed, families: Self.families))).write(
      to: folder.file("back"), replacing: false, toolVersion: "test")
    #expect(try TensorTable(path: folder.file("back")).names == TensorTable(path: heron).names)
  }

  @Test func unknownFamiliesAreRefusedByName() throws {
    let folder = try TemporaryFolder()
    let heron = folder.file("heron")
    try Self.write(.madeUp, to: heron)
    let error = #expect(throws: JSONFieldError.self) { try OpenedModel(path: heron) }
    #expect(error?.field == "model_type")
  }

  /// A random model of two layers under the names of `family`.
  private static func write(_ family: ModelFamily, to path: String) throws {
    try RandomModel.write(RandomModel.configuration(family.name), families: families, to: path)
  }

  private static func logits(_ model: OpenedModel) throws -> [Float] {
    let decoder = try model.decoder()
    let ids = [5, 77, 1, 30, 8, 79]
    return decoder.logits(decoder.hiddenStates(windows: [ids]), rows: 0..<ids.count).array
  }
}
