import Architecture
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
import Tokenization
import Transformer

@testable import Retrieval

/// An encoder beside transformers (`golden/bert-tiny.json`, `golden/bert-cross.json`), in every way its weights may be stored.
@Suite struct EncoderTests {
  private static let path = Fixture.path("tiny-bert")
  private static let crossPath = Fixture.path("tiny-bert-cross")

  private struct Golden {
    var texts: [(text: String, pair: String?, ids: [Int], types: [Int])] = []
    let file: SafetensorsFile

    init() throws {
      file = try SafetensorsFile(path: Fixture.path("golden/bert-tiny.safetensors"))
      let json = try JSONValue.parse(file: Fixture.path("golden/bert-tiny.json"))
      for text in json["texts"]?.arrayValue ?? [] {
        texts.append(
          (
            try #require(text["text"]?.stringValue), text["pair"]?.stringValue,
            text["ids"]?.arrayValue?.compactMap(\.intValue) ?? [],
            text["type_ids"]?.arrayValue?.compactMap(\.intValue) ?? []
          ))
      }
    }

    func floats(_ name: String) throws -> [Float] {
      let tensor = try #require(file.tensor(name))
      return file.bytes(of: tensor).bindMemory(to: Float.self).map { $0 }
    }
  }

  private func largest(_ a: some Sequence<Float>, _ b: some Sequence<Float>) -> Float {
    zip(a, b).reduce(0) { max($0, abs($1.0 - $1.1)) }
  }

  /// A packed copy of a model.
  private func packed(_ path: String, _ folder: TemporaryFolder) throws -> String {
    let file = folder.file("model.zhinao")
    try ModelPacker(ModelContents(OpenedModel(path: path, accepting: .all))).write(
      to: file, generator: "test", provenance: JSONObject())
    return file
  }

  @Test func statesAreThoseOfTransformers() throws {
    let golden = try Golden()
    #expect(golden.texts.count >= 10)
    let encoder = try OpenedModel(path: Self.path, accepting: .encoders).encoder()
    let (states, batch) = encoder.hiddenStates(golden.texts.map { ($0.ids, $0.types) })
    let width = encoder.configuration.hiddenSize
    for index in golden.texts.indices {
      let rows = batch.texts[index]
      let found = states.array[rows.lowerBound * width..<rows.upperBound * width]
      #expect(largest(found, try golden.floats("text\(index).last_hidden_state")) < 2e-5)
    }
    #expect(largest(encoder.pooled(states, batch).array, try golden.floats("pooler_output")) < 2e-5)
  }

  @Test func vectorsAreThoseOfTransformers() throws {
    let golden = try Golden()
    let folder = try TemporaryFolder()
    for path in [Self.path, try packed(Self.path, folder)] {
      let embedder = try TextEmbedder(OpenedModel(path: path, accepting: .all))
      let texts = try golden.texts.map { try embedder.encode($0.text, pair: $0.pair) }
      #expect(texts.map(\.ids) == golden.texts.map(\.ids))
      #expect(texts.map(\.typeIDs) == golden.texts.map(\.types))
      #expect(largest(try embedder.vectors(texts).array, try golden.floats("cls_normalized")) < 1e-5)
    }
  }

  @Test func aTextDoesNotDependOnTheOthers() throws {
    let golden = try Golden()
    let embedder = try TextEmbedder(OpenedModel(path: Self.path, accepting: .all))
    let texts = try golden.texts.map { try embedder.encode($0.text, pair: $0.pair) }
    let together = try embedder.vectors(texts + texts.reversed()).array
    let width = embedder.dimensions
    for (index, text) in texts.enumerated() {
      #expect(try embedder.vectors([text]).array == Array(together[index * width..<(index + 1) * width]))
    }
    for threads in [1, 3] {
      let other = try TextEmbedder(
        OpenedModel(path: Self.path, accepting: .all), pool: WorkerPool(threads: threads))
      #expect(try other.vectors(texts).array == Array(together[..<(texts.count * width)]))
    }
  }

  @Test func everyInstructionSetGivesTheSameBits() throws {
    let golden = try Golden()
    let texts = golden.texts.map { EncodedText(ids: $0.ids, typeIDs: $0.types) }
    var expected: [Float]?
    for kernels in InstructionSet.runnable.compactMap({ Kernels(for: $0) }) {
      let embedder = try TextEmbedder(
        OpenedModel(path: Self.path, accepting: .all), pool: WorkerPool(threads: 2, kernels: kernels))
      let found = try embedder.vectors(texts).array
      #expect(found == expected ?? found, "\(kernels.name)")
      expected = found
    }
  }

  @Test func scoresAreThoseOfTransformers() throws {
    let json = try JSONValue.parse(file: Fixture.path("golden/bert-cross.json"))
    let folder = try TemporaryFolder()
    for path in [Self.crossPath, try packed(Self.crossPath, folder)] {
      let reranker = try CrossEncoder(OpenedModel(path: path, accepting: .all))
      for pair in json["pairs"]?.arrayValue ?? [] {
        let score = try reranker.scores(
          query: try #require(pair["query"]?.stringValue),
          passages: [try #require(pair["passage"]?.stringValue)])[0]
        #expect(abs(Double(score.raw) - (pair["logit"]?.doubleValue ?? .nan)) < 1e-4)
        #expect(abs(Double(score.relevance) - (pair["score"]?.doubleValue ?? .nan)) < 1e-4)
      }
    }
  }

  /// The prefix of classes with a head, the older names of norms, and tensors that say nothing here.
  @Test func olderNamesMeanTheSame() throws {
    let folder = try TemporaryFolder()
    let path = folder.file("legacy")
    try FileManager.default.copyItem(atPath: Self.path, toPath: path)
    let table = try TensorTable(path: Self.path)
    func legacy(_ name: String) -> String {
      var name = "bert." + name
      for (new, old) in [("LayerNorm.weight", "LayerNorm.gamma"), ("LayerNorm.bias", "LayerNorm.beta")] {
        name = name.bytes.replacing(new, with: old)
      }
      return name
    }
    let originals = Dictionary(uniqueKeysWithValues: table.names.map { (legacy($0), $0) })
    let plans =
      table.inFileOrder.map { TensorPlan(legacy($0.name), $0.dtype, $0.shape) }
      + [TensorPlan("bert.embeddings.position_ids", .i64, [1, 512])]
    try FileManager.default.removeItem(atPath: path + "/model.safetensors")
    try SafetensorsWriter.write(to: path + "/model.safetensors", tensors: plans) { plan, emit in
      if let name = originals[plan.name], let tensor = table[name] { return try emit(tensor.bytes) }
      try [UInt8](repeating: 0, count: plan.byteCount).withUnsafeBytes { try emit($0) }
    }
    let golden = try Golden()
    let texts = golden.texts.map { EncodedText(ids: $0.ids, typeIDs: $0.types) }
    func vectors(_ path: String) throws -> [Float] {
      try TextEmbedder(OpenedModel(path: path, accepting: .all)).vectors(texts).array
    }
    #expect(try vectors(path) == vectors(Self.path))
    // Names go into the packed file and out of it as they are.
    let file = try packed(path, folder)
    #expect(try vectors(file) == vectors(Self.path))
    let back = folder.file("back")
    try FolderWriter(ModelContents(OpenedModel(path: file, accepting: .all))).write(
      to: back, replacing: false, toolVersion: "test")
    let (before, after) = (try TensorTable(path: path), try TensorTable(path: back))
    #expect(Set(before.names) == Set(after.names))
    for name in before.names {
      #expect(before[name].map { Array($0.bytes) } == after[name].map { Array($0.bytes) })
    }
    for name in ["modules.json", "1_Pooling/config.json", "vocab.txt", "tokenizer.json"] {
      #expect(
        try Data(contentsOf: URL(fileURLWithPath: "\(path)/\(name)"))
          == Data(contentsOf: URL(fileURLWithPath: "\(back)/\(name)")))
    }
  }

  @Test func packedFilesCheckThemselves() throws {
    let folder = try TemporaryFolder()
    for path in [Self.path, Self.crossPath] {
      let file = try packed(path, folder)
      let outcomes = try OpenedModel(path: file, accepting: .all).selfCheck()
      #expect(outcomes.allSatisfy { $0.firstFailure == nil })
      try FileManager.default.removeItem(atPath: file)
    }
  }

  @Test func whatNeedsADecoderRefusesAnEncoder() throws {
    #expect(throws: ModelError(.isEncoder("bert"), path: Self.path)) { try OpenedModel(path: Self.path) }
    #expect(throws: ModelError(.isDecoder("zhinao"), path: Fixture.tinyZhinao)) {
      try OpenedModel(path: Fixture.tinyZhinao, accepting: .encoders)
    }
    #expect(throws: RetrievalError.self) {
      try CrossEncoder(OpenedModel(path: Self.path, accepting: .all))
    }
  }

  // MARK: Configurations

  /// The folder with other settings in one of its files.
  private func changed(_ file: String, _ folder: TemporaryFolder, _ change: (inout JSONObject) -> Void) throws
    -> String
  {
    let path = folder.file("changed-\(UUID().uuidString)")
    try FileManager.default.copyItem(atPath: Self.path, toPath: path)
    var object = try #require(try JSONValue.parse(file: "\(path)/\(file)").objectValue)
    change(&object)
    try FileManager.default.removeItem(atPath: "\(path)/\(file)")
    try AtomicFile.write(JSONValue.object(object).serialized(), to: "\(path)/\(file)")
    return path
  }

  @Test func whatIsNotComputedIsRefusedByName() throws {
    let folder = try TemporaryFolder()
    for (key, value) in [
      ("model_type", "roberta"), ("model_type", "xlm-roberta"), ("position_embedding_type", "relative_key"),
      ("hidden_act", "swish"),
    ] {
      let path = try changed("config.json", folder) { $0[key] = .string(value) }
      let error = #expect(throws: JSONFieldError.self) { try OpenedModel(path: path, accepting: .all) }
      #expect(error?.field == key)
    }
    for key in ["is_decoder", "add_cross_attention"] {
      let path = try changed("config.json", folder) { $0[key] = true }
      #expect(throws: JSONFieldError.self) { try OpenedModel(path: path, accepting: .all) }
    }
    for key in ["pooling_mode_max_tokens", "pooling_mode_lasttoken"] {
      let path = try changed("1_Pooling/config.json", folder) { $0[key] = true }
      #expect(throws: JSONFieldError.self) { try TextEmbedder(OpenedModel(path: path, accepting: .all)) }
    }
  }

  @Test func bothSpellingsOfPoolingAreRead() throws {
    let folder = try TemporaryFolder()
    let path = try changed("1_Pooling/config.json", folder) {
      $0 = JSONObject([("embedding_dimension", 96), ("pooling_mode", "mean")])
    }
    let embedder = try TextEmbedder(OpenedModel(path: path, accepting: .all))
    #expect(embedder.settings.pooling == .mean)
    let golden = try Golden()
    let texts = golden.texts.map { EncodedText(ids: $0.ids, typeIDs: $0.types) }
    #expect(largest(try embedder.vectors(texts).array, try golden.floats("mean_normalized")) < 1e-5)
  }

  @Test func lengthsAndPromptsComeFromTheFolder() throws {
    let folder = try TemporaryFolder()
    let path = try changed("sentence_bert_config.json", folder) { $0["max_seq_length"] = 8 }
    let embedder = try TextEmbedder(OpenedModel(path: path, accepting: .all))
    let long = try embedder.encode("one two three four five six seven eight nine ten")
    #expect(long.ids.count == 8 && long.isTruncated)
    #expect(throws: RetrievalError.self) {
      try embedder.encode("one two three four five six seven eight nine ten", truncates: false)
    }
    #expect(try embedder.prompt(named: "query").bytes.hasPrefix("为这个句子"))
    #expect(throws: RetrievalError.self) { try embedder.prompt(named: "nothing") }
    try FileManager.default.removeItem(atPath: path + "/modules.json")
    let bare = try TextEmbedder(OpenedModel(path: path, accepting: .all))
    #expect(bare.settings.isAssumed && !bare.remarks.isEmpty)
  }

  @Test func vectorsAreCutAndNormalizedAgain() throws {
    let embedder = try TextEmbedder(OpenedModel(path: Self.path, accepting: .all))
    let text = try embedder.encode("白龙马")
    let whole = try embedder.vectors([text], normalizes: false).array
    let cut = try embedder.vectors([text], size: 16).array
    let length = whole[..<16].reduce(0) { $0 + $1 * $1 }.squareRoot()
    #expect(largest(cut, whole[..<16].map { $0 / length }) < 1e-6)
    #expect(throws: RetrievalError.self) { try embedder.vectors([text], size: 97) }
    #expect(throws: RetrievalError.self) { try embedder.vectors([EncodedText(ids: [5000], typeIDs: [0])]) }
    #expect(throws: RetrievalError.self) { try embedder.vectors([EncodedText(ids: [], typeIDs: [])]) }
  }
}
