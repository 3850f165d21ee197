import Compute
import Files
import Foundation
import JSON
import Training

/// Trains the parameters of an engine on rows, step by step, with checkpoints. The same recipe, rows and engine always give the same
/// values, however often the run is interrupted.
package final class TuningJob {
  package struct Settings: Sendable {
    package var recipe: TuningRecipe
    /// What the values depend on beside the recipe and the rows: the model, the options of the adapter, the arithmetic.
    package var identity: JSONObject
    /// Where checkpoints are kept until the output is complete.
    package var checkpointFolder: String
    /// Optimizer steps between checkpoints; nil: as often as costs little.
    package var checkpointInterval: Int?
    /// What messages call the training data.
    package var dataName: String

    package init(
      recipe: TuningRecipe, identity: JSONObject, checkpointFolder: String, checkpointInterval: Int? = nil,
      dataName: String
    ) {
      self.recipe = recipe
      self.identity = identity
      self.checkpointFolder = checkpointFolder
      self.checkpointInterval = checkpointInterval
      self.dataName = dataName
    }
  }

  package struct Result {
    package var state: TuningState
    package var length: TuningLength
    /// All steps and validations, those of earlier processes included.
    package var entries: [TuningLogEntry]
    /// The step whose values the parameters have: the best one, or the last.
    package var keptStep: Int
  }

  private let engine: any TrainingEngine
  private let data: TuningDataset
  private let digest: String
  private let settings: Settings
  private let pool: WorkerPool
  private let optimizer: AdamW
  private var state = TuningState()
  private var best: [AlignedBuffer<Float>]?
  /// When this process began to compute, and when it last saved a checkpoint and how long that took.
  private var start = Date()
  private var saved: (at: Date, seconds: Double?) = (Date(), nil)

  /// The part of the time that checkpoints may take when no interval is given, and the seconds between them at least.
  private static let shareForCheckpoints = 0.02
  private static let secondsBetweenCheckpoints = 30.0

  package init(
    engine: any TrainingEngine, data: TuningDataset, settings: Settings, pool: WorkerPool = .shared
  ) {
    self.engine = engine
    self.data = data
    digest = data.digest
    self.settings = settings
    self.pool = pool
    optimizer = AdamW(engine.parameters, settings: settings.recipe.optimizer, pool: pool)
  }

  private var recipe: TuningRecipe { settings.recipe }

  /// Everything that the values depend on.
  private var identity: JSONObject {
    var members = settings.identity.members.map { ($0.key, $0.value) }
    members.append(("rows_sha256", .string(digest)))
    members += recipe.identity.members.map { ($0.key, $0.value) }
    return JSONObject(members)
  }

  /// - Parameter shouldStop: asked between micro-batches; when it says true, the state is saved and the run ends.
  /// - Throws: ``TuningError``; ``TuningError/Reason/interrupted(step:steps:folder:)`` when it was told to stop.
  package func run(
    observer: some TuningObserver, shouldStop: () -> Bool = { false }
  ) throws -> (result: Result, folder: CheckpointFolder) {
    let hasValidation = !data.validationRows.isEmpty
    guard hasValidation || (recipe.patience == nil && recipe.validationInterval == nil) else {
      throw TuningError(
        .needsValidation(option: recipe.patience != nil ? "--patience" : "--validate-every"),
        path: settings.dataName)
    }
    let batchesPerEpoch = data.batchesPerEpoch(size: recipe.batchSize)
    guard batchesPerEpoch > 0 else { throw TuningError(.noRows, path: settings.dataName) }
    let length = TuningLength(recipe, batchesPerEpoch: batchesPerEpoch)
    let schedule = LearningRateSchedule(
      shape: recipe.schedule, peak: recipe.learningRate, warmUpSteps: length.warmUpSteps,
      totalSteps: length.totalSteps)
    let folder = try CheckpointFolder(path: settings.checkpointFolder, identity: identity)
    let found = try folder.load(into: optimizer)
    if let found { (state, best) = found }
    let log = try TuningLog(
      path: folder.logPath, finishedSteps: found == nil ? -1 : state.step, validatedStep: state.validatedStep)
    observer.tuningStarted(length, finishedSteps: state.step, checkpoint: folder.path)
    start = Date()
    saved.at = start
    let secondsBefore = state.seconds

    var epoch = -1
    var batches: [[Int]] = []
    do {
      while true {
        if hasValidation, isValidationDue(length), state.validatedStep != state.step {
          try validate(length, log, observer, shouldStop)
        }
        if state.hasStoppedEarly || state.step >= length.totalSteps { break }
        if isCheckpointDue { try save(folder, log, secondsBefore, observer) }
        let place = length.place(ofStep: state.step)
        if place.epoch != epoch {
          epoch = place.epoch
          batches = data.batches(epoch: epoch, size: recipe.batchSize)
          precondition(batches.count == batchesPerEpoch, "every epoch has as many micro-batches")
        }
        let first = place.step * recipe.accumulation
        let group = batches[first..<min(batches.count, first + recipe.accumulation)]
        try trainStep(
          Array(group), rate: schedule.rate(ofStep: state.step), length, log, observer, shouldStop)
      }
    } catch is TuningStopped {
      try save(folder, log, secondsBefore, observer)
      throw TuningError(
        .interrupted(step: state.step, steps: length.totalSteps, folder: folder.path),
        path: settings.dataName)
    } catch {
      if !CheckpointFolder.isOfUse(at: folder.path) { folder.remove() }
      throw error
    }
    try save(folder, log, secondsBefore, observer)
    var kept = state.step
    if recipe.kept == .best, let best, let place = state.best {
      for (parameter, values) in zip(engine.parameters, best) {
        parameter.values.pointer.update(from: values.pointer, count: values.count)
      }
      kept = place.step
    }
    return (Result(state: state, length: length, entries: log.entries, keptStep: kept), folder)
  }

  // MARK: Steps

  private func trainStep(
    _ batches: [[Int]], rate: Double, _ length: TuningLength, _ log: TuningLog,
    _ observer: some TuningObserver, _ shouldStop: () -> Bool
  ) throws {
    let begun = Date()
    let micro = batches.map { $0.map { data.rows[$0] } }
    let labels = micro.joined().reduce(0) { $0 + $1.countedLabels }
    let tokens = micro.joined().reduce(0) { $0 + $1.tokens.count }
    guard labels > 0 else {
      throw TuningError(
        .nothingCounted(step: state.step + 1, rows: Array(batches.joined())), path: settings.dataName)
    }
    var (loss, done) = (0.0, 0)
    let losses = try engine.accumulate(
      batches: micro, shards: recipe.shards, divisor: Double(labels), step: state.step
    ) { _ in
      if shouldStop() { throw TuningStopped() }
    } didRun: { index in
      done += micro[index].reduce(0) { $0 + $1.tokens.count }
      observer.batchFinished(step: state.step + 1, batch: index + 1, of: micro.count, tokens: done)
    }
    for (index, found) in losses.enumerated() {
      guard found.sum.isFinite else {
        throw TuningError(.notFinite(step: state.step + 1, rows: batches[index]), path: settings.dataName)
      }
      precondition(
        found.count == micro[index].reduce(0) { $0 + $1.countedLabels }, "the engine counts other tokens")
      loss += found.sum
    }
    let norm = GradientNorm.of(engine.parameters, pool: pool)
    guard norm.isFinite else {
      throw TuningError(
        .notFinite(step: state.step + 1, rows: Array(batches.joined())), path: settings.dataName)
    }
    optimizer.step(
      learningRate: rate, gradientScale: GradientNorm.scale(norm: norm, limit: recipe.maximumGradientNorm))
    state.step += 1
    state.tokens += tokens
    let entry = TuningLogEntry.Step(
      step: state.step, epoch: Double(state.step) / Double(length.stepsPerEpoch), loss: loss / Double(labels),
      learningRate: rate, gradientNorm: norm, tokens: tokens, labels: labels,
      seconds: -begun.timeIntervalSinceNow, rows: Array(batches.joined()))
    try log.append(.step(entry))
    observer.stepFinished(entry, of: length.totalSteps)
  }

  // MARK: Validation

  /// Before the first step, after every interval or epoch, and after the last step.
  private func isValidationDue(_ length: TuningLength) -> Bool {
    state.step % (recipe.validationInterval ?? length.stepsPerEpoch) == 0 || state.step == length.totalSteps
  }

  private func validate(
    _ length: TuningLength, _ log: TuningLog, _ observer: some TuningObserver, _ shouldStop: () -> Bool
  ) throws {
    var (sum, count) = (0.0, 0)
    let validation = data.validationRows
    let batches = stride(from: 0, to: validation.count, by: recipe.batchSize).map {
      Array(validation[$0..<min(validation.count, $0 + recipe.batchSize)])
    }
    let losses = try engine.losses(batches: batches) { _ in if shouldStop() { throw TuningStopped() } }
    for found in losses {
      sum += found.sum
      count += found.count
    }
    let loss = sum / Double(max(1, count))
    guard loss.isFinite else {
      throw TuningError(.validationNotFinite(step: state.step), path: settings.dataName)
    }
    let isBest = state.best.map { loss < $0.loss } ?? true
    state.validatedStep = state.step
    if isBest {
      state.best = TuningState.Best(step: state.step, loss: loss)
      state.staleValidations = 0
      best = engine.parameters.map { parameter in
        let copy = AlignedBuffer<Float>(count: parameter.count)
        copy.pointer.update(from: parameter.values.pointer, count: parameter.count)
        return copy
      }
    } else {
      state.staleValidations += 1
    }
    let entry = TuningLogEntry.Validation(
      step: state.step, epoch: Double(state.step) / Double(length.stepsPerEpoch), loss: loss, labels: count,
      isBest: isBest)
    try log.append(.validation(entry))
    observer.validated(entry)
    if let patience = recipe.patience, state.staleValidations >= patience, state.step < length.totalSteps {
      state.hasStoppedEarly = true
      observer.stoppedEarly(step: state.step, validations: state.staleValidations)
    }
  }

  // MARK: Checkpoints

  private var isCheckpointDue: Bool {
    guard state.step > 0 else { return false }
    if let interval = settings.checkpointInterval { return state.step % interval == 0 }
    let since = -saved.at.timeIntervalSinceNow
    return since > TuningJob.secondsBetweenCheckpoints
      && since * TuningJob.shareForCheckpoints > saved.seconds ?? 0
  }

  private func save(
    _ folder: CheckpointFolder, _ log: TuningLog, _ secondsBefore: Double, _ observer: some TuningObserver
  ) throws {
    let begun = Date()
    state.seconds = secondsBefore - start.timeIntervalSinceNow
    try log.sync()
    try folder.save(state, optimizer, best: best)
    saved = (Date(), -begun.timeIntervalSinceNow)
    observer.checkpointSaved(step: state.step)
  }
}

/// Told to stop between two micro-batches, or in one.
struct TuningStopped: Error {}
