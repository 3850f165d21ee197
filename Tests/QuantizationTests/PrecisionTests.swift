import Architecture
import Calibration
import Compute
import Conversion
import Files
import Foundation
import JSON
import Models
import PackedModel
import TestSupport
import Testing

@testable import Quantization

@Suite struct PrecisionTests {
  private static func job(
    _ target: PrecisionTarget, packed: String, folder: String? = nil, samples: Int = 12
  ) -> QuantizationJob {
    var recipe = QuantizationRecipe(groupSize: 32)
    recipe.apply(.balanced)
    return QuantizationJob(
      modelPath: Fixture.path("tiny-zhinao-gqa"), recipe: recipe, precision: target,
      calibrationFiles: [CalibrationFile(Fixture.tinyZhinao + "/calibration.jsonl")],
      calibrationOptions: CalibrationOptions(sequenceLength: 64, samples: samples),
      outputs: QuantizationJob.Outputs(packed: packed, folder: folder),
      tool: QuantizationJob.ToolIdentity(generator: "t", version: "1"))
  }

  private static let choices = [2, 3, 4, 8].map { ModuleSettings(bits: $0, groupSize: 32) }

  @Test func settingsOfModulesAreInTheRecipeOnlyWhenThereAreAny() {
    let recipe = QuantizationRecipe()
    #expect(recipe.json["modules"] == nil)
    let down = ModuleID(.down, layer: 1)
    let mixed = recipe.with([
      ModuleID(.gate, layer: 0): ModuleSettings(bits: 4, groupSize: 128),
      ModuleID(.up, layer: 0): ModuleSettings(bits: 4, groupSize: 128),
      down: ModuleSettings(bits: 8, groupSize: 64),
    ])
    #expect(mixed.bits == 4 && mixed.modules.count == 1)
    #expect(mixed.json["modules"] == ["1.down": ["bits": 8, "group_size": 64]])
    #expect(mixed.of(down).bits == 8 && mixed.of(down).groupSize == 64 && mixed.of(down).modules.isEmpty)
    #expect(mixed.of(ModuleID(.up, layer: 0)).bits == 4)
    // vLLM chooses kernels by the settings of most modules; those for 4 bits refuse a module of 3.
    let few = recipe.with([
      ModuleID(.gate, layer: 0): ModuleSettings(bits: 4, groupSize: 128),
      ModuleID(.up, layer: 0): ModuleSettings(bits: 4, groupSize: 128),
      down: ModuleSettings(bits: 3, groupSize: 128),
    ])
    #expect(few.bits == 3 && few.modules.count == 2)
  }

  @Test func aMatrixTakesItsCodesAndScales() {
    let settings = ModuleSettings(bits: 4, groupSize: 128)
    #expect(settings.bitCount(out: 64, in: 256, isSymmetric: true) == 64 * (256 * 4 + 2 * 16))
    #expect(settings.bitCount(out: 64, in: 256, isSymmetric: false) == 64 * (256 * 4 + 2 * 20))
    #expect(
      ModuleSettings(bits: 3, groupSize: -1).bitCount(out: 1, in: 96, isSymmetric: true) == 96 * 3 + 16)
  }

  @Test func heldOutWindowsAreSpreadAndFew() {
    #expect(PrecisionTarget.heldOut(of: 3) == nil)
    #expect(PrecisionTarget.heldOut(of: 4) == [2])
    #expect(PrecisionTarget.heldOut(of: 32) == [2, 6, 10, 14, 18, 22, 26, 30])
    #expect(PrecisionTarget.heldOut(of: 128)?.count == 16)
    for count in 4..<300 {
      let held = PrecisionTarget.heldOut(of: count) ?? []
      #expect(Set(held).count == held.count && held.allSatisfy { (0..<count).contains($0) })
    }
  }

  /// Items of which each bit more halves the loss.
  private static func items(_ count: Int) -> [PrecisionItem] {
    (0..<count).map { number in
      PrecisionItem(
        layer: number, stage: .attentionOutput, weightCount: 1000,
        choices: [2, 3, 4, 8].map {
          Knapsack.Choice(cost: 1000 * $0, loss: Double(1 + number % 7) / 10 * exp2(-2 * Double($0)))
        })
    }
  }

  /// What is measured is not what was predicted: the search finds its scale.
  @Test(arguments: [(0.02, 1.0, 1.0), (0.02, 3.0, 1.0), (0.05, 0.4, 1.2), (0.03, 5.0, 0.8)])
  func aDivergenceIsFound(target: Double, factor: Double, exponent: Double) throws {
    let search = PrecisionSearch(goal: .divergence(target), items: Self.items(60))
    var rounds: [PrecisionRound] = []
    while var round = search.next(after: rounds) {
      round.measured = factor * pow(round.predicted, exponent)
      rounds.append(round)
    }
    let best = rounds[try #require(search.best(of: rounds))]
    #expect(rounds.count <= PrecisionTarget.mostRounds)
    #expect(abs(best.measured / target - 1) <= PrecisionTarget.tolerance, "\(rounds.map(\.measured))")
  }

  @Test func aTargetOutOfReachEndsTheSearch() throws {
    for target in [1e-9, 50.0] {
      let search = PrecisionSearch(goal: .divergence(target), items: Self.items(10))
      var rounds: [PrecisionRound] = []
      while var round = search.next(after: rounds) {
        round.measured = round.predicted
        rounds.append(round)
      }
      let best = rounds[try #require(search.best(of: rounds))]
      #expect(best.bitsPerWeight == (target > 1 ? 2 : 8))
    }
  }

  @Test func badTargetsAreRefused() throws {
    let recipe = QuantizationRecipe()
    func refusal(_ goal: PrecisionTarget.Goal, _ candidates: [ModuleSettings]) -> String {
      do { try PrecisionTarget(goal: goal, candidates: candidates).validate(recipe) } catch {
        return "\(error)"
      }
      return ""
    }
    #expect(refusal(.bits(4), Self.choices).isEmpty)
    #expect(refusal(.bits(.nan), Self.choices).contains("--target-bits"))
    #expect(refusal(.divergence(0), Self.choices).contains("--target-kl"))
    #expect(refusal(.divergence(.infinity), Self.choices).contains("--target-kl"))
    #expect(refusal(.bits(4), []).contains("--bit-choices"))
    #expect(refusal(.bits(4), [ModuleSettings(bits: 5, groupSize: 32)]).contains("--bit-choices 5:32"))
    #expect(refusal(.bits(4), [ModuleSettings(bits: 4, groupSize: 3)]).contains("--bit-choices 4:3"))
    let folder = try TemporaryFolder()
    let job = Self.job(
      PrecisionTarget(goal: .bits(2), candidates: Self.choices), packed: folder.file("x.zhinao"))
    let error = #expect(throws: QuantizationError.self) { try job.run() }
    #expect(error?.description.contains("at least 2.5") == true)
    #expect(!FileManager.default.fileExists(atPath: job.outputs.storePath))
    let few = Self.job(
      PrecisionTarget(goal: .bits(4), candidates: Self.choices), packed: folder.file("x.zhinao"), samples: 3)
    #expect(throws: QuantizationError.tooFewWindows(count: 3)) { try few.run() }
  }

  /// The average keeps to the target, every output says the same, and predictions are of the right order.
  @Test func bitsAreMixedAndEveryOutputHasThem() throws {
    let folder = try TemporaryFolder()
    let (packed, path) = (folder.file("x.zhinao"), folder.file("g"))
    let result = try Self.job(
      PrecisionTarget(goal: .bits(4), candidates: Self.choices), packed: packed, folder: path
    ).run()
    let precision = try #require(result.report.precision)
    #expect(precision.rounds.count == 1 && precision.best.gap == 0 && precision.isReached)
    #expect(precision.best.bitsPerWeight <= 4 && precision.best.bitsPerWeight > 3.5)
    #expect(precision.itemCounts.reduce(0, +) == 8 && precision.itemCounts.count { $0 > 0 } > 1)
    let ratio = precision.best.measured / precision.best.predicted
    #expect(ratio > 0.1 && ratio < 20, "\(precision.best)")
    #expect(!FileManager.default.fileExists(atPath: packed + ".partial"))

    let (a, b) = (try ModelContents(OpenedModel(path: packed)), try ModelContents(OpenedModel(path: path)))
    func layouts(_ contents: ModelContents) -> [String] {
      contents.entries.compactMap { entry in
        switch entry.form {
        case .intPanels(let layout, _), .quantized(let layout, _):
          "\(contents.index.name(of: entry.key)) \(layout.bits) \(layout.groupSize)"
        default: nil
        }
      }
    }
    #expect(layouts(a) == layouts(b) && layouts(a).count == 10)
    let ids = [5, 77, 1024, 3000, 8, 300, 12]
    let hidden = try [packed, path].map {
      try OpenedModel(path: $0).decoder().hiddenStates(windows: [ids]).array
    }
    #expect(hidden[0] == hidden[1])
    let report = try JSONValue.parse(file: packed + ".report.json")
    #expect(report["precision"]?["rounds"]?.arrayValue?.count == 1)
    #expect(report["recipe"]?["modules"] != nil)
    // What shares an input has the same settings.
    let bits = Dictionary(
      uniqueKeysWithValues: a.entries.compactMap { entry -> (ModuleID, Int)? in
        guard let id = entry.key.id, case .intPanels(let layout, _) = entry.form else { return nil }
        return (id.module, layout.bits)
      })
    for layer in 0..<2 { #expect(bits[ModuleID(.gate, layer: layer)] == bits[ModuleID(.up, layer: layer)]) }
  }

  private static func bytes(_ path: String) throws -> Data {
    try Data(contentsOf: URL(fileURLWithPath: path))
  }

  /// Whatever is left when a process dies, the same command continues to the same bytes.
  @Test func aRunThatDiedContinuesToTheSameBytes() throws {
    let folder = try TemporaryFolder()
    let target = PrecisionTarget(goal: .divergence(0.0005), candidates: Self.choices)
    let whole = folder.file("whole.zhinao")
    _ = try Self.job(target, packed: whole).run()
    struct Stop: Error {}
    /// Copies the store as it is at a moment.
    final class Copier: QuantizationObserver {
      let store: String
      let copies: String
      nonisolated(unsafe) var count = 0
      init(_ store: String, _ copies: String) { (self.store, self.copies) = (store, copies) }
      func copy() {
        try? FileManager.default.copyItem(atPath: store, toPath: "\(copies)-\(count).zhinao.partial")
        count += 1
      }
      func sensitivitiesFound(_ done: Int, of total: Int) { copy() }
      func precisionRoundStarted(_ number: Int, _ round: PrecisionRound) { copy() }
      func layerFinished(_ layer: Int, of count: Int) { copy() }
      func precisionRoundMeasured(_ number: Int, _ round: PrecisionRound) { copy() }
    }
    let again = folder.file("again.zhinao")
    let copier = Copier(again + ".partial", folder.file("copy"))
    _ = try Self.job(target, packed: again).run(observer: copier)
    #expect(try Self.bytes(again) == Self.bytes(whole))
    #expect(copier.count >= 6)
    for number in 0..<copier.count {
      let path = folder.file("copy-\(number).zhinao")
      _ = try Self.job(target, packed: path).run()
      #expect(try Self.bytes(path) == Self.bytes(whole), "moment \(number)")
    }
  }

  @Test func anotherTargetIsRefusedByName() throws {
    let folder = try TemporaryFolder()
    let model = try OpenedModel(path: Fixture.path("tiny-zhinao-gqa"))
    let calibration = CalibrationSet(windows: [[1, 2, 3]], report: CalibrationReport(sources: []))
    let quantizer = try ModelQuantizer(
      model: model, contents: ModelContents(model), recipe: QuantizationRecipe(groupSize: 32),
      calibration: calibration)
    func store(_ bits: Double) throws {
      let target = PrecisionTarget(goal: .bits(bits), candidates: Self.choices)
      let mixed = try MixedPrecision(target: target, quantizer: quantizer, heldOut: [[4, 5]])
      _ = try AllocationStore(path: folder.file("p"), identity: mixed.identity())
    }
    try store(4)
    try store(4)
    let error = #expect(throws: QuantizationError.self) { try store(5) }
    guard case .otherQuantization(_, "precision", _, _)? = error else {
      Issue.record("\(String(describing: error))")
      return
    }
  }

  @Test func threadsDoNotChangeASensitivity() throws {
    let folder = try TemporaryFolder()
    let model = try OpenedModel(path: Fixture.path("tiny-zhinao-gqa"))
    let calibration = try CalibrationSet.load(
      files: [CalibrationFile(Fixture.tinyZhinao + "/calibration.jsonl")], tokenizer: model.tokenizer(),
      template: nil,
      vocabularySize: 3072, options: CalibrationOptions(sequenceLength: 64, samples: 8))
    var recipe = QuantizationRecipe(groupSize: 32)
    recipe.apply(.balanced)
    let found = try [1, 2, 3].map { threads in
      let quantizer = try ModelQuantizer(
        model: model, contents: ModelContents(model), recipe: recipe, calibration: calibration,
        pool: WorkerPool(threads: threads))
      let store = try AllocationStore(path: folder.file("t\(threads)"), identity: quantizer.identity())
      try SensitivityPass(quantizer: quantizer, candidates: Self.choices).run(
        into: store, observer: NoObserver())
      return store.layers
    }
    #expect(found[0] == found[1] && found[0] == found[2])
    #expect(found[0].count == 2 && found[0].allSatisfy { $0.count == 4 })
    for item in found[0].joined() {
      // More bits, less loss.
      #expect(zip(item.choices, item.choices.dropFirst()).allSatisfy { $0.loss > $1.loss && $1.loss > 0 })
    }
  }
}
