import Calibration
import Compute
import Conversion
import Files
import Foundation
import JSON
import Models
import PackedModel
import Quantization
import TestSupport
import Testing
import Tokenization
import Transformer

@Suite struct EncoderQuantizationTests {
  private static let path = Fixture.path("tiny-bert")

  private static func quantizer(_ recipe: QuantizationRecipe, threads: Int = 2, samples: Int = 200) throws
    -> ModelQuantizer
  {
    let model = try OpenedModel(path: path, accepting: .all)
    let calibration = try CalibrationSet.load(
      files: [CalibrationFile(Fixture.tinyZhinao + "/eval.zh.txt")], tokenizer: model.tokenizer(),
      template: nil, vocabularySize: model.configuration.vocabularySize,
      options: CalibrationOptions(sequenceLength: 128, encoderSamples: samples))
    return try ModelQuantizer(
      model: model, contents: ModelContents(model), recipe: recipe, calibration: calibration,
      pool: WorkerPool(threads: threads))
  }

  /// Vectors of the first tokens of some texts.
  private static func vectors(_ path: String) throws -> [[Float]] {
    let encoder = try OpenedModel(path: path, accepting: .all).encoder()
    let json = try JSONValue.parse(file: Fixture.path("golden/bert-tiny.json"))
    let texts: [Encoder.Input] = (json["texts"]?.arrayValue ?? []).map {
      (
        $0["ids"]?.arrayValue?.compactMap(\.intValue) ?? [],
        $0["type_ids"]?.arrayValue?.compactMap(\.intValue) ?? []
      )
    }
    let (states, batch) = encoder.hiddenStates(texts)
    let first = encoder.firstStates(states, batch).array
    let width = encoder.configuration.hiddenSize
    return texts.indices.map { Array(first[$0 * width..<($0 + 1) * width]) }
  }

  private static func meanCosine(_ a: [[Float]], _ b: [[Float]]) -> Double {
    let cosines = zip(a, b).map { a, b in
      func dot(_ x: [Float], _ y: [Float]) -> Double {
        zip(x, y).reduce(0) { $0 + Double($1.0) * Double($1.1) }
      }
      return dot(a, b) / (dot(a, a) * dot(b, b)).squareRoot()
    }
    return cosines.reduce(0, +) / Double(cosines.count)
  }

  private static func recipe(bits: Int, _ method: QuantizationRecipe.Method = .gptq) -> QuantizationRecipe {
    var recipe = QuantizationRecipe(method: method, bits: bits, groupSize: 32)
    if method == .gptq { recipe.apply(.balanced) }
    return recipe.forEncoder()
  }

  @Test func vectorsStayCloseInEightAndFourBits() throws {
    let folder = try TemporaryFolder()
    let reference = try Self.vectors(Self.path)
    for (bits, method, least) in [
      (8, QuantizationRecipe.Method.gptq, 0.9995), (4, .gptq, 0.99), (8, .rtn, 0.9995), (4, .rtn, 0.97),
    ] {
      let quantizer = try Self.quantizer(Self.recipe(bits: bits, method))
      let store = try LayerStore(path: folder.file("s\(bits)\(method)"), identity: quantizer.identity())
      try quantizer.run(into: store)
      let outputs = try QuantizedOutputs(quantizer, store: store)
      let file = folder.file("\(bits)\(method).zhinao")
      try ModelPacker(outputs.contents).write(to: file, generator: "test", provenance: outputs.provenance())
      #expect(Self.meanCosine(reference, try Self.vectors(file)) > least, "\(bits) bits, \(method)")
      #expect(try OpenedModel(path: file, accepting: .all).selfCheck().allSatisfy { $0.firstFailure == nil })
      // As AutoGPTQ writes it, and back.
      let gptq = folder.file("gptq\(bits)\(method)")
      try FolderWriter(outputs.contents).write(to: gptq, replacing: false, toolVersion: "test")
      #expect(try Self.vectors(gptq) == Self.vectors(file))
    }
  }

  @Test func aRunThatDiedContinuesToTheSameBits() throws {
    let folder = try TemporaryFolder()
    var results: [[Data]] = []
    for threads in [1, 2] {
      let quantizer = try Self.quantizer(Self.recipe(bits: 4), threads: threads, samples: 40)
      let path = folder.file("t\(threads)")
      try quantizer.run(into: LayerStore(path: path, identity: quantizer.identity()))
      if threads == 2 {
        // The last two layers are lost.
        for layer in 1...2 { try FileManager.default.removeItem(atPath: "\(path)/layer-\(layer).zhinao") }
        try quantizer.run(into: LayerStore(path: path, identity: quantizer.identity()))
      }
      results.append(
        try (0..<3).flatMap { layer in
          let file = try PackedModelFile(path: "\(path)/layer-\(layer).zhinao")
          return file.header.tensors.map { Data(file.bytes(of: $0)) }
        })
    }
    #expect(results[0] == results[1])
  }

  @Test func textsArePairsAndLines() throws {
    let folder = try TemporaryFolder()
    let model = try OpenedModel(path: Self.path, accepting: .all)
    func windows(_ name: String, _ content: String) throws -> [[Int]] {
      let path = folder.file(name)
      try AtomicFile.write(content, to: path)
      return try CalibrationSet.load(
        files: [CalibrationFile(path)], tokenizer: model.tokenizer(), template: nil, vocabularySize: 3000,
        options: CalibrationOptions(sequenceLength: 64)
      ).windows
    }
    let tokenizer = try #require(try model.tokenizer() as? any PairTokenizer)
    func ids(_ text: String, _ pair: String? = nil) throws -> [Int] {
      try tokenizer.encode(
        text, pair: pair, maximumLength: 64, truncation: .longestFirst, side: .right, specials: .recognized
      ).ids
    }
    #expect(try windows("lines.txt", "白龙马\n\n孙悟空\n") == [ids("白龙马"), ids("孙悟空")])
    #expect(
      try windows(
        "pairs.jsonl",
        "{\"query\": \"白龙马\", \"passage\": \"孙悟空\"}\n{\"text\": \"八戒\", \"pair\": \"马\"}\n{\"text\": \"八戒\"}\n"
      )
        == [ids("白龙马", "孙悟空"), ids("八戒", "马"), ids("八戒")])
  }

  @Test func whatOnlyDecodersHaveIsRefused() throws {
    var recipe = QuantizationRecipe(groupSize: 32)
    recipe.apply(.best)
    #expect(throws: QuantizationError.self) { try Self.quantizer(recipe.forEncoder()) }
    recipe = QuantizationRecipe(groupSize: 32, propagatesErrors: true)
    #expect(throws: QuantizationError.self) { try Self.quantizer(recipe) }
  }
}
