import Architecture
import Compute
import Distribution
import Files
import Foundation
import JSON
import Models
import Tensors
import Training

/// Trains a LoRA adapter for a model on files of conversations or text, and writes it as PEFT does.
package struct AdapterTuning {
  package struct Output: Sendable {
    /// The folder to write.
    package var path: String
    /// Makes the adapter a folder of this name in `path`, as PEFT keeps several; nil: `path` itself is the adapter.
    package var adapterName: String?
    package var type: AdapterFolder.StoredType
    /// What `base_model_name_or_path` says; nil: the path of the model.
    package var baseModel: String?
    package var overwrites: Bool

    package init(
      path: String, adapterName: String? = nil, type: AdapterFolder.StoredType = .f32,
      baseModel: String? = nil, overwrites: Bool = false
    ) {
      self.path = path.withoutTrailingSlashes
      self.adapterName = adapterName
      self.type = type
      self.baseModel = baseModel
      self.overwrites = overwrites
    }

    /// The adapter's folder.
    package var folder: String { adapterName.map { "\(path)/\($0)" } ?? path }
    /// Where checkpoints are kept until the adapter is complete.
    package var checkpointFolder: String { folder + ".partial" }

    /// Locks the output, and finds out before hours of work whether it can be written.
    package func claimed() throws -> OutputLock {
      let manager = FileManager.default
      if adapterName != nil {
        do { try manager.createDirectory(atPath: path, withIntermediateDirectories: true) } catch {
          throw FileError(.cannotWrite, path: path, reason: .cannotCreate(error.localizedDescription))
        }
      }
      let parent = PathParts(folder).folder
      guard manager.isWritableFile(atPath: parent) else {
        throw FileError(
          .cannotWrite, path: folder, detail: "cannot be created: \(parent) is not a writable folder")
      }
      let lock = try OutputLock(output: folder)
      var isFolder: ObjCBool = false
      if manager.fileExists(atPath: folder, isDirectory: &isFolder) {
        guard isFolder.boolValue else { throw FileError(.cannotWrite, path: folder, reason: .notAFolder) }
        let entries = (try? manager.contentsOfDirectory(atPath: folder)) ?? []
        guard entries.isEmpty || overwrites || isFinished else {
          throw FileError(.cannotWrite, path: folder, reason: .folderNotEmpty)
        }
      }
      return lock
    }

    /// Whether the folder holds the adapter of the tuning whose checkpoints still exist: the process died after it wrote the adapter
    /// and before it deleted them. The same command then writes the same adapter again.
    fileprivate var isFinished: Bool {
      guard CheckpointFolder.isOfUse(at: checkpointFolder) else { return false }
      return CheckpointFolder.identity(at: checkpointFolder).map { identity in
        (try? JSONValue.parse(file: "\(folder)/tuning.json"))?["settings"]?.objectValue == identity
      } ?? false
    }
  }

  package var files: [TuningFile]
  package var validationFiles: [TuningFile]
  package var dataOptions: TuningDataOptions
  package var options: LoRAOptions
  /// A folder with an adapter whose values the training begins with; its options are `options`.
  package var initialAdapter: String?
  package var recipe: TuningRecipe
  package var settings: TrainingSettings
  package var output: Output
  package var checkpointInterval: Int?
  /// A folder for TensorBoard's files.
  package var tensorBoard: String?
  /// The program, for the model card.
  package var generator: String

  package init(
    files: [TuningFile], validationFiles: [TuningFile] = [], dataOptions: TuningDataOptions,
    options: LoRAOptions, initialAdapter: String? = nil, recipe: TuningRecipe, settings: TrainingSettings,
    output: Output, checkpointInterval: Int? = nil, tensorBoard: String? = nil, generator: String
  ) {
    self.files = files
    self.validationFiles = validationFiles
    self.dataOptions = dataOptions
    self.options = options
    self.initialAdapter = initialAdapter
    self.recipe = recipe
    self.settings = settings
    self.output = output
    self.checkpointInterval = checkpointInterval
    self.tensorBoard = tensorBoard
    self.generator = generator
  }

  /// What calls the training data in messages.
  package var dataName: String { files.map(\.path).joined(separator: ", ") }

  // MARK: Before the run

  package func dataset(_ model: OpenedModel) throws -> TuningDataset {
    try TuningDataset.load(
      files: files, validationFiles: validationFiles, model: TuningModel(model), options: dataOptions)
  }

  /// Everything that is needed to begin: the parameters, the pass over the model, and what it will take.
  package struct Prepared {
    package let model: OpenedModel
    package let data: TuningDataset
    package let adapter: TrainedAdapter
    package let pass: TrainingPass
    package let length: TuningLength
    package var plan: TrainingPlan { pass.plan }
  }

  /// - Throws: ``TuningError``, `AdapterError`, errors of weights and of memory.
  package func prepared(_ model: OpenedModel, _ data: TuningDataset, pool: WorkerPool = .shared) throws
    -> Prepared
  {
    let batches = data.batchesPerEpoch(size: recipe.batchSize)
    guard batches > 0 else { throw TuningError(.noRows, path: dataName) }
    let builder = model.builder()
    let adapter = try TrainedAdapter(builder: builder, options: options)
    if let initialAdapter {
      try AdapterFolder.load(initialAdapter, into: adapter.parameters, pool: pool)
    }
    let held = (0..<data.validationRows.count).map(data.validationRows.length)
      .sorted(by: >).prefix(recipe.batchSize)
    let lengths = data.longestRows(recipe.batchSize)
    let tokens = max(lengths.reduce(0, +), held.reduce(0, +))
    let longest = max(lengths.first ?? 0, held.first ?? 0)
    func plan(_ settings: TrainingSettings) -> TrainingPlan {
      TrainingPlan(
        builder: builder, adapter: adapter, settings: settings, tokens: tokens, longest: longest,
        residentBytes: model.store.residentBytes, pool: pool)
    }
    if let limit = settings.memoryLimit, plan(settings).memoryBytes > limit {
      var other = settings
      other.scratch = "."
      throw TuningError(
        .memoryLimit(
          needed: plan(settings).memoryBytes, limit: limit,
          withScratch: settings.scratch == nil ? plan(other).memoryBytes : nil), path: model.path)
    }
    let pass = try TrainingPass(
      builder: builder, adapter: adapter, settings: settings, tokens: tokens, longest: longest,
      residentBytes: model.store.residentBytes, pool: pool)
    return Prepared(
      model: model, data: data, adapter: adapter, pass: pass,
      length: TuningLength(recipe, batchesPerEpoch: batches))
  }

  /// What the values depend on beside the rows and the recipe.
  private func identity(_ prepared: Prepared) throws -> JSONObject {
    var members: [(String, JSONValue)] = [
      ("model", .string(try ModelFingerprint.of(prepared.model))),
      ("arithmetic", .string(settings.arithmetic.rawValue)),
    ]
    members += options.identity.members.map { ($0.key, $0.value) }
    var initial: JSONValue = nil
    if let initialAdapter {
      initial = .string(
        try Checksum.sha256(ofFile: "\(initialAdapter)/\(AdapterFolder.weightsName)"))
    }
    members.append(("init_from", initial))
    return JSONObject(members)
  }

  // MARK: The run

  package struct Outcome {
    package var result: TuningJob.Result
    package var folder: String
    package var eventFile: String?
  }

  /// Trains, or continues to, and writes the adapter.
  /// - Parameters:
  ///   - lock: of the output, from ``Output/claimed()``.
  ///   - shouldStop: asked often; when it says true, the state is saved and the run ends.
  /// - Throws: ``TuningError``, also when it was told to stop; `FileError`.
  package func run(
    _ prepared: Prepared, lock: OutputLock, observer: some TuningObserver,
    communicator: any Communicator = SingleProcess(), pool: WorkerPool = .shared,
    shouldStop: @escaping () -> Bool = { false }
  ) throws -> Outcome {
    defer { withExtendedLifetime(lock) {} }
    // Several ranks stop together, between rounds.
    let pass = PassEngine(prepared.pass, shouldStop: communicator.isAlone ? shouldStop : { false })
    let ranked = communicator.isAlone ? nil : RankedEngine(pass, communicator)
    let engine: any TrainingEngine = ranked ?? pass
    if !communicator.isAlone {
      guard recipe.shards >= communicator.count else {
        throw DistributionError.tooFewShards(
          option: "--shards", shards: recipe.shards, ranks: communicator.count)
      }
      _ = try communicator.broadcast([prepared.plan.tokens, prepared.plan.longest])
    }
    let job = TuningJob(
      engine: engine, data: prepared.data,
      settings: TuningJob.Settings(
        recipe: recipe, identity: try identity(prepared), checkpointFolder: output.checkpointFolder,
        checkpointInterval: checkpointInterval, dataName: dataName), pool: pool)
    let events = EventObserver(observer, folder: tensorBoard)
    let (result, checkpoints) = try job.run(observer: events, shouldStop: shouldStop)
    try ranked?.finish()
    try write(prepared, result)
    checkpoints.remove()
    return Outcome(result: result, folder: output.folder, eventFile: try events.finish())
  }

  /// The part of another rank than 0, which needs the model and no data.
  package func help(_ model: OpenedModel, _ communicator: any Communicator, pool: WorkerPool = .shared) throws
  {
    let sizes = try communicator.broadcast(nil as [Int]?)
    let builder = model.builder()
    let pass = try TrainingPass(
      builder: builder, adapter: TrainedAdapter(builder: builder, options: options), settings: settings,
      tokens: sizes[0], longest: sizes[1], residentBytes: model.store.residentBytes, pool: pool)
    try RankedEngine(PassEngine(pass, shouldStop: { false }), communicator).serve()
  }

  private func write(_ prepared: Prepared, _ result: TuningJob.Result) throws {
    let staged = try AtomicFolder(path: output.folder, replacing: output.overwrites || output.isFinished)
    try AdapterFolder(
      options: options, parameters: prepared.adapter.parameters,
      baseModel: output.baseModel ?? prepared.model.path, type: output.type
    ).write(into: staged.stagingPath)
    try AtomicFile.write(
      result.entries.map { $0.json.serialized() + "\n" }.joined(),
      to: staged.stagedPath(CheckpointFolder.logName))
    try AtomicFile.write(
      record(prepared, result).serialized(indent: 2) + "\n", to: staged.stagedPath("tuning.json"))
    try AtomicFile.write(
      ModelCard(self, prepared, result).text, to: staged.stagedPath("README.md"))
    try staged.commit()
  }

  /// How the adapter came about.
  private func record(_ prepared: Prepared, _ result: TuningJob.Result) throws -> JSONValue {
    var settings = try identity(prepared)
    settings["rows_sha256"] = .string(prepared.data.digest)
    for (key, value) in recipe.identity.members { settings[key] = value }
    return [
      "generator": .string(generator), "settings": .object(settings), "data": prepared.data.report.json,
      "steps": .init(result.state.step), "kept_step": .init(result.keptStep),
      "best_validation_loss": result.state.best.map { .init($0.loss) } ?? nil,
      "stopped_early": .bool(result.state.hasStoppedEarly), "tokens": .init(result.state.tokens),
      "seconds": .init(result.state.seconds),
    ]
  }
}

/// A training pass as the engine of a job.
private final class PassEngine: TrainingEngine {
  private let pass: TrainingPass

  init(_ pass: TrainingPass, shouldStop: @escaping () -> Bool) {
    self.pass = pass
    // In a large model, a pass takes minutes.
    pass.progress = { _ in if shouldStop() { throw TuningStopped() } }
  }

  var parameters: [Parameter] { pass.adapter.parameters }

  func accumulate(_ rows: [TrainingRow], divisor: Double, step: Int, item: Int) throws -> (
    sum: Double, count: Int
  ) {
    let found = try pass.accumulate(rows, divisor: divisor, step: step, item: item)
    return (found.sum, found.count)
  }

  func loss(_ rows: [TrainingRow]) throws -> (sum: Double, count: Int) {
    let found = try pass.loss(rows)
    return (found.sum, found.count)
  }
}

/// Writes TensorBoard's file beside what another observer does.
private final class EventObserver<Other: TuningObserver>: TuningObserver {
  private let other: Other
  private let folder: String?
  private var file: EventFile?
  /// The first failure; the training goes on without the file, and ends with it.
  private var failure: (any Error)?

  init(_ other: Other, folder: String?) {
    self.other = other
    self.folder = folder
  }

  func tuningStarted(_ length: TuningLength, finishedSteps: Int, checkpoint: String) {
    attempt {
      guard let folder else { return }
      file = try EventFile(folder: folder, firstStep: finishedSteps > 0 ? finishedSteps + 1 : 0)
    }
    other.tuningStarted(length, finishedSteps: finishedSteps, checkpoint: checkpoint)
  }

  func batchFinished(step: Int, batch: Int, of batches: Int, tokens: Int) {
    other.batchFinished(step: step, batch: batch, of: batches, tokens: tokens)
  }

  func stepFinished(_ entry: TuningLogEntry.Step, of totalSteps: Int) {
    attempt { try file?.append(.step(entry)) }
    other.stepFinished(entry, of: totalSteps)
  }

  func validated(_ entry: TuningLogEntry.Validation) {
    attempt { try file?.append(.validation(entry)) }
    other.validated(entry)
  }

  func stoppedEarly(step: Int, validations: Int) { other.stoppedEarly(step: step, validations: validations) }
  func checkpointSaved(step: Int) { other.checkpointSaved(step: step) }

  private func attempt(_ body: () throws -> Void) {
    guard failure == nil else { return }
    do { try body() } catch { failure = error }
  }

  /// - Returns: the file's path, if there is one.
  /// - Throws: what kept it from being written.
  func finish() throws -> String? {
    if let failure { throw failure }
    return file?.path
  }
}
