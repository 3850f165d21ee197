import Calibration
import Compute
import Conversion
import Files
import Foundation
import JSON
import Models
import PackedModel
import Quantization
import Synchronization
import Tensors
import TestSupport
import Testing

@Suite struct PipelineTests {
  static func job(_ recipe: QuantizationRecipe, threads: Int = 2) throws -> ModelQuantizer {
    let model = try OpenedModel(path: Fixture.path("tiny-zhinao-gqa"))
    let calibration = try CalibrationSet.load(
      files: [CalibrationFile(Fixture.tinyZhinao + "/calibration.jsonl")], tokenizer: model.tokenizer(),
      template: nil,
      vocabularySize: 3072, options: CalibrationOptions(sequenceLength: 128, samples: 12))
    return try ModelQuantizer(
      model: model, contents: ModelContents(model), recipe: recipe, calibration: calibration,
      pool: WorkerPool(threads: threads))
  }

  static func store(_ quantizer: ModelQuantizer, _ path: String) throws -> LayerStore {
    try LayerStore(path: path, identity: quantizer.identity())
  }

  static func weights(_ path: String) throws -> [Data] {
    try (0..<2).flatMap { layer in
      let file = try PackedModelFile(path: "\(path)/layer-\(layer).zhinao")
      return file.header.tensors.map { Data(file.bytes(of: $0)) }
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
          path: part, identity: quantizer.identity(),
          shareForHidden: keepsHidden ? .infinity : 0))
      try FileManager.default.removeItem(atPath: part + "/layer-1.zhinao")
      #expect(FileManager.default.fileExists(atPath: part + "/hidden-1.bin") == keepsHidden)
      let again = try Self.store(quantizer, part)
      #expect(again.finishedLayers == 1)
      try quantizer.run(into: again)
      #expect(try Self.weights(part) == Self.weights(whole))
    }
  }

  private static var best: QuantizationRecipe {
    var recipe = QuantizationRecipe(groupSize: 32)
    recipe.apply(.best)
    return recipe
  }

  /// Copies the store when the backward pass has done a layer, as a process that is killed then leaves it.
  private final class Snapshot: QuantizationObserver {
    let (from, to): (String, String)
    init(from: String, to: String) { (self.from, self.to) = (from, to) }

    func statisticsMade(_ done: Int, of total: Int) {
      if done == 1 { try? FileManager.default.copyItem(atPath: from, toPath: to) }
    }
  }

  @Test func aBackwardPassThatDiedContinuesToTheSameBits() throws {
    let folder = try TemporaryFolder()
    let (whole, killed) = (folder.file("whole"), folder.file("killed"))
    let quantizer = try Self.job(Self.best)
    try quantizer.run(
      into: Self.store(quantizer, whole), observer: Snapshot(from: whole, to: killed))
    #expect(FileManager.default.fileExists(atPath: killed + "/statistics-1.bin"))
    #expect(FileManager.default.fileExists(atPath: killed + "/gradient-1.bin"))
    #expect(!FileManager.default.fileExists(atPath: killed + "/statistics-0.bin"))
    #expect(LayerStore.isOfUse(at: killed))
    let other = try Self.job(Self.best, threads: 3)
    try other.run(into: Self.store(other, killed))
    #expect(try Self.weights(killed) == Self.weights(whole))
    // What only unfinished layers need is gone.
    let left = try FileManager.default.contentsOfDirectory(atPath: killed)
    #expect(left.allSatisfy { !$0.hasPrefix("statistics-") && !$0.hasPrefix("gradient-") })
    // A layer without statistics has them made again.
    try FileManager.default.removeItem(atPath: whole + "/layer-1.zhinao")
    try quantizer.run(into: Self.store(quantizer, whole))
    #expect(try Self.weights(killed) == Self.weights(whole))
  }

  @Test func anotherRecipeIsRefusedByName() throws {
    let folder = try TemporaryFolder()
    let quantizer = try Self.job(QuantizationRecipe(groupSize: 32))
    _ = try Self.store(quantizer, folder.file("p"))
    let other = try Self.job(QuantizationRecipe(groupSize: 64))
    let error = #expect(throws: QuantizationError.self) { try Self.store(other, folder.file("p")) }
    guard case .otherQuantization(_, "recipe", _, _)? = error else {
      Issue.record("\(String(describing: error))")
      return
    }
  }

  /// What a version before formats had numbers left behind holds layers in another form.
  @Test(arguments: [nil, 1, LayerStore.version + 1])
  func anotherFormatOfTheStoreIsRefusedByName(version: Int?) throws {
    let folder = try TemporaryFolder()
    let quantizer = try Self.job(QuantizationRecipe(groupSize: 32))
    let path = folder.file("p")
    try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    var manifest = try quantizer.identity()
    manifest["format_version"] = version.map { .init($0) }
    try AtomicFile.write(JSONValue.object(manifest).serialized(), to: path + "/recipe.json")
    let error = #expect(throws: QuantizationError.self) { try Self.store(quantizer, path) }
    #expect(
      error == .otherStoreVersion(folder: path, found: version ?? 1, expected: LayerStore.version))
    #expect(error?.description.contains("remove the folder") == true)
    #expect(error?.category == .cannotWrite)
  }

  /// Nobody knows what they were computed from.
  @Test func layersWithoutAManifestAreNotContinued() throws {
    let folder = try TemporaryFolder()
    let quantizer = try Self.job(QuantizationRecipe(method: .rtn, groupSize: 32))
    let store = try Self.store(quantizer, folder.file("p"))
    try quantizer.run(into: store)
    #expect(store.finishedLayers == 2)
    try FileManager.default.removeItem(atPath: store.path + "/recipe.json")
    #expect(try Self.store(quantizer, store.path).finishedLayers == 0)
  }

  @Test func aLayersFileThatIsNotWhatItShouldBeIsNamed() throws {
    let folder = try TemporaryFolder()
    let quantizer = try Self.job(QuantizationRecipe(method: .rtn, groupSize: 32))
    let store = try Self.store(quantizer, folder.file("p"))
    try quantizer.run(into: store)
    // As if layer 1 were layer 0.
    try FileManager.default.removeItem(atPath: store.path + "/layer-1.zhinao")
    try FileManager.default.copyItem(
      atPath: store.path + "/layer-0.zhinao", toPath: store.path + "/layer-1.zhinao")
    let error = #expect(throws: QuantizationError.self) {
      try QuantizedOutputs(quantizer, store: Self.store(quantizer, store.path))
    }
    #expect(error?.description.contains("layer-1.zhinao") == true, "\(String(describing: error))")
  }

  @Test func reportsComeBackAsTheyWere() throws {
    let folder = try TemporaryFolder()
    let quantizer = try Self.job(QuantizationRecipe(groupSize: 32, descendingActivation: true))
    let store = try Self.store(quantizer, folder.file("p"))
    let observer = Recorder()
    try quantizer.run(into: store, observer: observer)
    let solved = observer.events.withLock(\.reports)
    let reopened = try Self.store(quantizer, store.path)
    let kept = try (0..<2).flatMap { try reopened.reports(layer: $0) }
    #expect(kept.map(\.json) == solved.map(\.json))
    #expect(kept.count == 10 && kept.allSatisfy { $0.inputs != nil })
  }

  @Test func observersAreToldWhatHappensInOrder() throws {
    let folder = try TemporaryFolder()
    let observer = Recorder()
    let path = folder.file("x.zhinao")
    var job = QuantizationJob(
      modelPath: Fixture.path("tiny-zhinao-gqa"), recipe: QuantizationRecipe(groupSize: 32),
      calibrationFiles: [CalibrationFile(Fixture.tinyZhinao + "/calibration.jsonl")],
      calibrationOptions: CalibrationOptions(sequenceLength: 128, samples: 4),
      outputs: QuantizationJob.Outputs(packed: path, folder: folder.file("g")),
      tool: QuantizationJob.ToolIdentity(generator: "t", version: "1"))
    let result = try job.run(observer: observer)
    let layer = [
      "solved qkv_proj", "solved o_proj", "solved gate_proj", "solved up_proj", "solved down_proj",
    ]
    #expect(
      observer.events.withLock(\.names)
        == ["calibration", "plan", "store 0", "layer 0"] + layer + ["layer 0 done", "layer 1"] + layer
        + ["layer 1 done", "wrote gptq_output", "wrote output", "wrote report"])
    #expect(result.report.modules.count == 10 && result.resumedLayers == 0)
    #expect(result.written.map(\.path) == [folder.file("g"), path, path + ".report.json"])
    #expect(
      try FileManager.default.contentsOfDirectory(atPath: folder.path).sorted()
        == ["g", "x.zhinao", "x.zhinao.report.json"])
    // It exists now.
    #expect(throws: FileError.self) { try job.run() }
    job.outputs.overwrites = true
    job.memoryLimit = 1_000_000
    let refusal = #expect(throws: QuantizationError.self) { try job.run() }
    #expect(refusal?.category == .usage && refusal?.description.contains("--scratch") == false)
  }

  final class Recorder: QuantizationObserver, Sendable {
    struct Events: Sendable {
      var names: [String] = []
      var reports: [ModuleReport] = []
    }
    let events = Mutex(Events())

    private func add(_ name: String) { events.withLock { $0.names.append(name) } }

    func calibrationRead(_ report: CalibrationReport) { add("calibration") }
    func planMade(_ plan: QuantizationPlan) { add("plan") }
    func storeOpened(at path: String, finishedLayers: Int) { add("store \(finishedLayers)") }
    func layerStarted(_ layer: Int, of count: Int) { add("layer \(layer)") }
    func moduleSolved(_ report: ModuleReport) {
      events.withLock { $0.reports.append(report) }
      add("solved \(report.module.split(separator: ".").last ?? "")")
    }
    func layerFinished(_ layer: Int, of count: Int) { add("layer \(layer) done") }
    func outputWritten(_ output: QuantizationOutput, path: String) { add("wrote \(output.rawValue)") }
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
      let model = try OpenedModel(path: folder.file("g"))
      return try ModelQuantizer(
        model: model, contents: ModelContents(model), recipe: QuantizationRecipe(groupSize: 32),
        calibration: quantizer.calibration)
    }
  }
}
