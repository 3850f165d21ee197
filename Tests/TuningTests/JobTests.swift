import Compute
import Files
import Foundation
import JSON
import TestSupport
import Testing
import Training
import Tuning

@Suite struct JobTests {
  private struct Silent: TuningObserver {}

  private static func recipe() -> TuningRecipe {
    var recipe = TuningRecipe()
    recipe.batchSize = 2
    recipe.accumulation = 2
    recipe.epochs = 4
    recipe.learningRate = 0.2
    recipe.optimizer.weightDecay = 0.01
    return recipe
  }

  private static func job(
    _ engine: ToyEngine, _ data: TuningDataset = ToyRows.make(), recipe: TuningRecipe = recipe(),
    in folder: TemporaryFolder,
    interval: Int? = nil, identity: JSONObject = JSONObject([("model", "toy")])
  ) -> TuningJob {
    TuningJob(
      engine: engine, data: data,
      settings: TuningJob.Settings(
        recipe: recipe, identity: identity, checkpointFolder: folder.file("out.partial"),
        checkpointInterval: interval, dataName: "toy.jsonl"))
  }

  private static func bits(_ engine: ToyEngine) -> [UInt32] {
    engine.parameters.flatMap { $0.values.array.map(\.bitPattern) }
  }

  @Test func lossFallsAndEntriesTellIt() throws {
    let folder = try TemporaryFolder()
    let engine = ToyEngine()
    let (result, checkpoints) = try Self.job(engine, in: folder).run(observer: Silent())
    let steps = result.entries.compactMap { if case .step(let entry) = $0 { entry } else { nil } }
    let validations = result.entries.compactMap { if case .validation(let entry) = $0 { entry } else { nil } }
    #expect(result.length.stepsPerEpoch == 3 && steps.map(\.step) == Array(1...12))
    #expect(validations.map(\.step) == [0, 3, 6, 9, 12])
    #expect(steps[11].loss < 0.8 * steps[0].loss)
    #expect(steps[0].tokens == 20 && steps[0].labels == 12 && steps[2].tokens == 10)
    // Rows of a step have places of their own.
    #expect(engine.calls.prefix(5).map(\.item) == [0, 2, 0, 2, 0])
    #expect(engine.calls.prefix(5).map(\.step) == [0, 0, 1, 1, 2])
    let log = try String(contentsOfFile: checkpoints.logPath, encoding: .utf8)
    #expect(log.split(separator: "\n").count == 17)
    #expect(result.state.tokens == 200)
    checkpoints.remove()
    #expect(!FileManager.default.fileExists(atPath: checkpoints.path))
  }

  @Test func interruptedAnywhereGivesTheSameBits() throws {
    let whole = try TemporaryFolder()
    let engine = ToyEngine()
    let expected = try Self.job(engine, in: whole).run(observer: Silent()).result
    // Micro-batches and validations are asked before: 0 stops before anything is done.
    for stops in [[0], [1], [2, 1, 3, 2], [5, 7], [1, 1, 1, 1, 1, 1, 1, 1], [13]] {
      let folder = try TemporaryFolder()
      for stop in stops {
        var asked = 0
        #expect(throws: TuningError.self) {
          _ = try Self.job(ToyEngine(), in: folder).run(observer: Silent()) {
            asked += 1
            return asked > stop
          }
        }
      }
      let last = ToyEngine()
      let found = try Self.job(last, in: folder).run(observer: Silent()).result
      #expect(Self.bits(last) == Self.bits(engine), "\(stops)")
      #expect(found.keptStep == expected.keptStep)
      func plain(_ entries: [TuningLogEntry]) -> [TuningLogEntry] {
        entries.map { entry in
          guard case .step(var step) = entry else { return entry }
          step.seconds = 0
          return .step(step)
        }
      }
      #expect(plain(found.entries) == plain(expected.entries), "\(stops)")
    }
  }

  /// The log is ahead of the checkpoint, and its last line is cut off.
  @Test func killedAfterACheckpointGivesTheSameBits() throws {
    let whole = try TemporaryFolder()
    let engine = ToyEngine()
    let expected = try Self.job(engine, in: whole).run(observer: Silent()).result
    struct Kill: TuningObserver {
      struct Killed: Error {}
      let folder: String
      let copy: String
      func checkpointSaved(step: Int) {
        guard step == 4 else { return }
        try? FileManager.default.copyItem(atPath: folder, toPath: copy)
      }
    }
    let folder = try TemporaryFolder()
    let other = try TemporaryFolder()
    _ = try Self.job(ToyEngine(), in: folder, interval: 2).run(
      observer: Kill(folder: folder.file("out.partial"), copy: other.file("out.partial")))
    let log = other.file("out.partial/training_log.jsonl")
    try
      (String(contentsOfFile: log, encoding: .utf8)
      + #"{"step":5,"epoch":1.6,"loss":1,"learning_rate":1}"# + "\n" + #"{"step":6,"ep"#)
      .write(toFile: log, atomically: false, encoding: .utf8)
    let last = ToyEngine()
    let found = try Self.job(last, in: other).run(observer: Silent()).result
    #expect(Self.bits(last) == Self.bits(engine))
    #expect(found.entries.count == expected.entries.count)
  }

  @Test func otherSettingsAreRefusedByName() throws {
    let folder = try TemporaryFolder()
    var asked = 0
    #expect(throws: TuningError.self) {
      _ = try Self.job(ToyEngine(), in: folder).run(observer: Silent()) {
        asked += 1
        return asked > 6
      }
    }
    var recipe = Self.recipe()
    recipe.learningRate = 0.06
    #expect(
      throws: TuningError(
        .otherTuning(key: "learning_rate", found: "0.2", expected: "0.06"), path: folder.file("out.partial"))
    ) { _ = try Self.job(ToyEngine(), recipe: recipe, in: folder).run(observer: Silent()) }
    let (rows, other) = (ToyRows.make(), ToyRows.make(seed: 2))
    #expect(
      throws: TuningError(
        .otherTuning(
          key: "rows_sha256", found: "\"\(rows.digest)\"", expected: "\"\(other.digest)\""),
        path: folder.file("out.partial"))
    ) { _ = try Self.job(ToyEngine(), other, in: folder).run(observer: Silent()) }
    // A changed byte of the tensors is noticed.
    let path = folder.file("out.partial/checkpoint.safetensors")
    var bytes = [UInt8](try Data(contentsOf: URL(fileURLWithPath: path)))
    bytes[bytes.count - 5] ^= 1
    try Data(bytes).write(to: URL(fileURLWithPath: path))
    let error = #expect(throws: TuningError.self) {
      _ = try Self.job(ToyEngine(), in: folder).run(observer: Silent())
    }
    guard case .damagedCheckpoint = error?.reason else {
      Issue.record("\(String(describing: error))")
      return
    }
  }

  @Test func patienceEndsTheRunWithTheBestValues() throws {
    let folder = try TemporaryFolder()
    var recipe = Self.recipe()
    recipe.epochs = 50
    recipe.validationInterval = 1
    recipe.patience = 2
    // Learning what the validation rows contradict makes their loss grow.
    let rows = ToyRows.make(changeValidation: {
      TrainingRow(tokens: $0.tokens, labels: [nil] + $0.tokens.dropLast().map { $0 })
    })
    let engine = ToyEngine()
    let start = Self.bits(engine)
    let result = try Self.job(engine, rows, recipe: recipe, in: folder).run(observer: Silent()).result
    #expect(result.state.hasStoppedEarly)
    #expect(result.state.step == result.keptStep + 2 && result.state.step < result.length.totalSteps)
    if result.keptStep == 0 { #expect(Self.bits(engine) == start) }
    recipe.kept = .last
    let other = ToyEngine()
    let second = try TemporaryFolder()
    let last = try Self.job(other, rows, recipe: recipe, in: second).run(observer: Silent()).result
    #expect(last.keptStep == last.state.step && Self.bits(other) != Self.bits(engine))
  }

  @Test func whatIsNotFiniteStopsWithTheRows() throws {
    let folder = try TemporaryFolder()
    let engine = ToyEngine()
    let data = ToyRows.make(validation: 0)
    let batches = data.batches(epoch: 0, size: 2)
    engine.poison = batches[1][0] % ToyEngine.words
    // The first batch does not begin with the same token.
    let isFirst = batches[0].contains { $0 % ToyEngine.words == engine.poison }
    #expect(throws: TuningError(.notFinite(step: 1, rows: batches[isFirst ? 0 : 1]), path: "toy.jsonl")) {
      _ = try Self.job(engine, data, in: folder).run(observer: Silent())
    }
    // Nothing is left of a run that did no step.
    #expect(!FileManager.default.fileExists(atPath: folder.file("out.partial")))
    let rows = ToyRows.make(change: { TrainingRow(tokens: $0.tokens, labels: $0.tokens.map { _ in nil }) })
    let first = Array(batches.prefix(2).joined())
    #expect(throws: TuningError(.nothingCounted(step: 1, rows: first), path: "toy.jsonl")) {
      _ = try Self.job(ToyEngine(), rows, in: folder).run(observer: Silent())
    }
  }

  @Test func patienceNeedsAValidation() throws {
    let folder = try TemporaryFolder()
    var recipe = Self.recipe()
    recipe.patience = 1
    #expect(throws: TuningError(.needsValidation(option: "--patience"), path: "toy.jsonl")) {
      _ = try Self.job(ToyEngine(), ToyRows.make(validation: 0), recipe: recipe, in: folder).run(
        observer: Silent())
    }
  }
}
