import Calibration
import Compute
import Conversion
import Foundation
import Models
import Quantization
import Safetensors
import Tensors
import TestSupport
import Testing

@Suite struct PipelineTests {
  static func job(_ recipe: QuantizationRecipe, threads: Int = 2) throws -> ModelQuantizer {
    let model = try OpenedModel(path: Fixture.path("tiny-zhinao-gqa"))
    let calibration = try CalibrationSet.load(
      paths: [Fixture.tinyZhinao + "/calibration.jsonl"], tokenizer: model.tokenizer(), template: nil,
      vocabularySize: 3072, options: CalibrationOptions(sequenceLength: 128, samples: 12))
    return try ModelQuantizer(
      model: model, recipe: recipe, calibration: calibration, pool: WorkerPool(threads: threads))
  }

  static func store(_ quantizer: ModelQuantizer, _ path: String) throws -> LayerStore {
    try LayerStore(path: path, identity: quantizer.identity(), recipe: quantizer.recipe)
  }

  static func weights(_ path: String) throws -> [Data] {
    try (0..<2).flatMap { layer in
      let file = try SafetensorsFile(path: "\(path)/layer-\(layer).safetensors")
      return file.tensors.map { Data(file.bytes(of: $0)) }
    }
  }

  @Test func threadsDoNotChangeABit() throws {
    let folder = try TemporaryFolder()
    var results: [[Data]] = []
    for threads in [1, 2] {
      let quantizer = try Self.job(QuantizationRecipe(groupSize: 32), threads: threads)
      let path = folder.file("t\(threads)")
      try quantizer.run(into: Self.store(quantizer, path))
      results.append(try Self.weights(path))
    }
    #expect(results[0] == results[1])
  }

  @Test(arguments: FloatArithmetic.allCases)
  func aRunThatDiedContinuesToTheSameBits(calibrationArithmetic: FloatArithmetic) throws {
    let folder = try TemporaryFolder()
    let quantizer = try Self.job(
      QuantizationRecipe(groupSize: 32, calibrationArithmetic: calibrationArithmetic))
    let whole = folder.file("whole")
    try quantizer.run(into: Self.store(quantizer, whole))
    for keepsHidden in [true, false] {
      let part = folder.file("part\(keepsHidden)")
      try quantizer.run(
        into: LayerStore(
          path: part, identity: quantizer.identity(), recipe: quantizer.recipe,
          shareForHidden: keepsHidden ? .infinity : 0))
      try FileManager.default.removeItem(atPath: part + "/layer-1.safetensors")
      #expect(FileManager.default.fileExists(atPath: part + "/hidden-1.bin") == keepsHidden)
      let again = try Self.store(quantizer, part)
      #expect(again.finishedLayers == 1)
      try quantizer.run(into: again)
      #expect(try Self.weights(part) == Self.weights(whole))
    }
  }

  @Test func anotherRecipeIsRefusedByName() throws {
    let folder = try TemporaryFolder()
    let quantizer = try Self.job(QuantizationRecipe(groupSize: 32))
    _ = try Self.store(quantizer, folder.file("p"))
    let other = try Self.job(QuantizationRecipe(groupSize: 64))
    let error = #expect(throws: QuantizationError.self) { try Self.store(other, folder.file("p")) }
    #expect(error?.description.contains("recipe") == true)
  }

  @Test func methodsDifferInTheRightDirection() throws {
    let folder = try TemporaryFolder()
    var losses: [String: Double] = [:]
    for (name, recipe) in [
      ("rtn", QuantizationRecipe(method: .rtn, groupSize: 32)), ("gptq", QuantizationRecipe(groupSize: 32)),
      ("merged", QuantizationRecipe(groupSize: 32, trueSequential: false)),
    ] {
      let quantizer = try Self.job(recipe)
      let store = try Self.store(quantizer, folder.file(name))
      try quantizer.run(into: store)
      let outputs = try QuantizedOutputs(quantizer, store: store)
      let path = folder.file("\(name).zhinao")
      try ModelPacker(outputs.contents).write(to: path, generator: "t", provenance: outputs.provenance())
      let (a, b) = (try quantizer.model.decoder(), try OpenedModel(path: path).decoder())
      let ids = Array(quantizer.calibration.windows[0])
      let (x, y) = (a.hiddenStates(windows: [ids]), b.hiddenStates(windows: [ids]))
      losses[name] = zip(x.array, y.array).reduce(0.0) { $0 + Double(($1.0 - $1.1) * ($1.0 - $1.1)) }
    }
    #expect(losses["gptq"]! < 0.8 * losses["rtn"]!)
    #expect(losses["merged"]! < losses["rtn"]!)
  }

  @Test func aModelThatIsQuantizedAlreadyIsRefused() throws {
    let folder = try TemporaryFolder()
    let quantizer = try Self.job(QuantizationRecipe(method: .rtn, groupSize: 32))
    let store = try Self.store(quantizer, folder.file("p"))
    try quantizer.run(into: store)
    let outputs = try QuantizedOutputs(quantizer, store: store)
    try FolderWriter(outputs.contents, zeroPointFormat: .v1).write(
      to: folder.file("g"), replacing: false, toolVersion: "t")
    #expect(throws: QuantizationError.self) {
      try ModelQuantizer(
        model: OpenedModel(path: folder.file("g")), recipe: QuantizationRecipe(groupSize: 32),
        calibration: quantizer.calibration)
    }
  }
}
