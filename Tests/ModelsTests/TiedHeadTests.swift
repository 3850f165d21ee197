import Architecture
import AutoGPTQ
import Conversion
import Files
import Foundation
import JSON
import Models
import Safetensors
import TestSupport
import Testing

/// `tie_word_embeddings` beside what is stored, read as transformers 5 does.
@Suite struct TiedHeadTests {
  private static let (embedding, head) = ("model.embed_tokens.weight", "lm_head.weight")

  private static func logits(_ model: OpenedModel) throws -> [Float] {
    let decoder = try model.decoder()
    let ids = [5, 77, 1, 30]
    return decoder.logits(decoder.hiddenStates(windows: [ids]), rows: 0..<ids.count).array
  }

  /// A model that says it is tied and has other tensors than that.
  private static func model(
    _ path: String, tied: Bool, change: (inout [(name: String, shape: [Int], values: [Float])]) -> Void
  ) throws -> OpenedModel {
    try RandomModel.write(
      RandomModel.configuration("llama", [("tie_word_embeddings", .bool(tied))]), to: path, change: change)
    return try OpenedModel(path: path)
  }

  @Test func aHeadThatDiffersIsUsedAndNamed() throws {
    let folder = try TemporaryFolder()
    let other = (0..<80 * 64).map { Float($0 % 13) / 40 - 0.15 }
    let head = (name: Self.head, shape: [80, 64], values: other)
    let found = try Self.model(folder.file("a"), tied: true) { $0.append(head) }
    #expect(!found.configuration.tieWordEmbeddings && found.store.discrepancies.map(\.fact) == [.head])
    let untied = try Self.model(folder.file("b"), tied: false) { tensors in
      tensors.removeAll { $0.name == Self.head }
      tensors.append(head)
    }
    let expected = try Self.logits(untied)
    #expect(try Self.logits(found) == expected)

    // What is made of it says what it is.
    let (packed, back) = (folder.file("a.zhinao"), folder.file("back"))
    try ModelPacker(ModelContents(found)).write(to: packed, generator: "t", provenance: JSONObject())
    try FolderWriter(ModelContents(found)).write(to: back, replacing: false, toolVersion: "t")
    for path in [packed, back] {
      let opened = try OpenedModel(path: path)
      #expect(!opened.configuration.tieWordEmbeddings && opened.store.discrepancies.isEmpty)
      #expect(try Self.logits(opened) == expected)
    }
  }

  @Test func acopyOfTheEmbeddingIsNoContradiction() throws {
    let folder = try TemporaryFolder()
    let found = try Self.model(folder.file("a"), tied: true) { tensors in
      let embedding = tensors[0]
      tensors.append((Self.head, embedding.shape, embedding.values))
    }
    #expect(found.configuration.tieWordEmbeddings && found.store.discrepancies.isEmpty)
  }

  /// `safetensors.torch.save_model` keeps the first name of two tied tensors.
  @Test func theHeadMayBeTheOneThatIsStored() throws {
    let folder = try TemporaryFolder()
    let tied = try Self.model(folder.file("a"), tied: true) { _ in }
    let renamed = try Self.model(folder.file("b"), tied: true) { $0[0].name = Self.head }
    #expect(try Self.logits(renamed) == Self.logits(tied))
    let packed = folder.file("b.zhinao")
    try ModelPacker(ModelContents(renamed)).write(to: packed, generator: "t", provenance: JSONObject())
    #expect(try Self.logits(OpenedModel(path: packed)) == Self.logits(tied))
  }

  @Test func anUntiedModelWithoutAHeadIsRefused() throws {
    let folder = try TemporaryFolder()
    let error = #expect(throws: ModelError.self) {
      try Self.model(folder.file("a"), tied: false) { tensors in tensors.removeAll { $0.name == Self.head } }
    }
    #expect(error?.reason == .noHead && error?.tensor == Self.head)
  }

  /// Settings of a quantization beside floats, and codes without settings.
  @Test func quantizationIsWhatIsStored() throws {
    let folder = try TemporaryFolder()
    let path = folder.file("a")
    _ = try Self.model(path, tied: true) { _ in }
    try AtomicFile.write(
      QuantizeConfiguration().json(toolVersion: "t").serialized(), to: "\(path)/quantize_config.json")
    let found = try OpenedModel(path: path)
    #expect(found.quantization == nil && found.kind == .checkpoint)
    #expect(found.store.discrepancies.map(\.fact) == [.quantization])
    let error = #expect(throws: ModelError.self) {
      try Self.model(folder.file("b"), tied: true) { $0[1].name = "model.layers.0.mlp.up_proj.qweight" }
    }
    #expect(error?.reason == .codesWithoutSettings)
  }
}
