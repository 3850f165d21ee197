import AutoGPTQ
import Calibration
import Conversion
import Distribution
import Files
import Foundation
import Models
import Tokenization

/// A quantization from a model on disk to its outputs: read, calibrate, plan, quantize, write, report. A run that died
/// continues when the same job is run again.
package struct QuantizationJob: Sendable {
  /// What is written.
  package struct Outputs: Sendable {
    /// `.zhinao` file.
    package var packed: String?
    /// Folder as AutoGPTQ writes it.
    package var folder: String?
    /// Of the folder's zero points; nil: v1 for symmetric quantization, v2 otherwise.
    package var format: ZeroPointFormat?
    package var shardByteLimit: Int
    /// Of the packed file's output head; 16: as it is.
    package var headBits: Int
    /// Whether outputs that exist are replaced.
    package var overwrites: Bool

    package init(
      packed: String? = nil, folder: String? = nil, format: ZeroPointFormat? = nil,
      shardByteLimit: Int = FolderWriter.defaultShardByteLimit, headBits: Int = 16, overwrites: Bool = false
    ) {
      self.packed = packed
      self.folder = folder
      self.format = format
      self.shardByteLimit = shardByteLimit
      self.headBits = headBits
      self.overwrites = overwrites
    }
  }

  package var modelPath: String
  package var verification: OpenedModel.Verification
  /// See ``OpenedModel``.
  package var preTokenizer: String?
  package var recipe: QuantizationRecipe
  /// What bits of single modules are chosen for; nil: all get the recipe's.
  package var precision: PrecisionTarget?
  package var calibrationFiles: [CalibrationFile]
  package var calibrationOptions: CalibrationOptions
  package var outputs: Outputs
  /// A run that would need more is refused; nil: no limit.
  package var memoryLimit: Int?
  /// Folder whose disk holds the activations; nil: memory.
  package var scratch: String?
  /// What outputs say made them.
  package var tool: ToolIdentity
  /// The ranks that share the work. Only rank 0 reads calibration text and writes.
  package var communicator: any Communicator

  /// Name and version of the program, as outputs have them.
  package struct ToolIdentity: Sendable {
    package var generator: String
    package var version: String

    package init(generator: String, version: String) {
      self.generator = generator
      self.version = version
    }
  }

  package init(
    modelPath: String, verification: OpenedModel.Verification = .header, preTokenizer: String? = nil,
    recipe: QuantizationRecipe, precision: PrecisionTarget? = nil,
    calibrationFiles: [CalibrationFile] = [], calibrationOptions: CalibrationOptions = CalibrationOptions(),
    outputs: Outputs, memoryLimit: Int? = nil, scratch: String? = nil, tool: ToolIdentity,
    communicator: any Communicator = SingleProcess()
  ) {
    self.modelPath = modelPath
    self.verification = verification
    self.preTokenizer = preTokenizer
    self.recipe = recipe
    self.precision = precision
    self.calibrationFiles = calibrationFiles
    self.calibrationOptions = calibrationOptions
    self.outputs = outputs
    self.memoryLimit = memoryLimit
    self.scratch = scratch
    self.tool = tool
    self.communicator = communicator
  }

  /// What a run made.
  package struct Result: Sendable {
    /// In the order in which they were written.
    package var written: [(output: QuantizationOutput, path: String)]
    package var report: QuantizationReport
    /// Layers that were finished when the run began.
    package var resumedLayers: Int
    /// Of the run, its outputs included.
    package var seconds: Double
  }

  /// Runs the job, or the rest of it, in this process.
  /// - Throws: as ``runOnRanks(observer:)``.
  package func run(observer: any QuantizationObserver = NoObserver()) throws -> Result {
    guard let result = try runOnRanks(observer: observer) else {
      preconditionFailure("a result is asked of another rank than 0")
    }
    return result
  }

  /// Runs the job, or the rest of it, together with the other ranks.
  /// - Returns: what was made; nil on other ranks than 0.
  /// - Throws: among others ``FileError/Reason/cannotWrite`` at once when another process is writing one of the outputs, and
  ///   ``QuantizationError``.
  package func runOnRanks(observer: any QuantizationObserver = NoObserver()) throws -> Result? {
    let start = Date()
    try recipe.validate()
    try precision?.validate(recipe)
    guard communicator.isRoot else {
      try helpRankZero()
      return nil
    }
    let locks = try outputs.claimed()
    return try withExtendedLifetime(locks) {
      if let precision { return try run(for: precision, start: start, observer: observer) }
      let quantizer = try makeQuantizer(observer)
      try announce(quantizer.plan(), to: observer)
      let store = try LayerStore(
        path: outputs.storePath, identity: quantizer.identity(),
        shareForHidden: Self.shareForHidden(communicator))
      let resumed = store.finishedLayers
      observer.storeOpened(at: store.path, finishedLayers: resumed)
      do {
        try quantizer.run(into: store, observer: observer)
        var result = try write(quantizer, store: store, start: start, observer: observer)
        store.remove()
        result.resumedLayers = resumed
        result.seconds = Date().timeIntervalSince(start)
        return result
      } catch {
        store.removeIfEmpty()
        throw error
      }
    }
  }

  /// How much of the time may go into keeping activations: those of other ranks come over the network, while all ranks wait.
  static func shareForHidden(_ communicator: any Communicator) -> Double {
    communicator.isAlone ? .infinity : 0.03
  }

  /// The part of another rank than 0.
  private func helpRankZero() throws {
    if let precision {
      _ = try run(for: precision, start: Date(), observer: NoObserver())
      return
    }
    let quantizer = try makeQuantizer(NoObserver())
    _ = try quantizer.plan()
    try quantizer.run(into: nil)
  }

  func makeQuantizer(_ observer: any QuantizationObserver) throws -> ModelQuantizer {
    let model = try OpenedModel(
      path: modelPath, verification: verification, preTokenizer: preTokenizer, accepting: .all)
    let isEncoder = model.configuration.encoder != nil
    if isEncoder {
      if precision != nil {
        throw QuantizationError.notForEncoders(option: "--target-bits and --target-kl", path: modelPath)
      }
      if outputs.headBits != 16 {
        throw QuantizationError.notForEncoders(option: "--head-bits", path: modelPath)
      }
    }
    observer.filesDisagree(model.store.discrepancies)
    let contents = try ModelContents(model)
    // What the outputs will hold besides is read once before hours of work: a link may lead nowhere.
    for name in contents.files.names where ModelFileNames.belongsToModel(name) {
      _ = try contents.files.bytes(named: name)
    }
    let quantizer = try ModelQuantizer(
      model: model, contents: contents, recipe: isEncoder ? recipe.forEncoder() : recipe,
      calibration: try calibrationOfRankZero(model, observer), scratch: scratch, communicator: communicator)
    if !communicator.isAlone { try quantizer.checkRanks(target: precision) }
    return quantizer
  }

  /// Rank 0 reads the text; others need not have its files.
  private func calibrationOfRankZero(_ model: OpenedModel, _ observer: any QuantizationObserver) throws
    -> CalibrationSet
  {
    try windowsOfRankZero { try calibration(model, observer) }
  }

  /// What rank 0 reads, on all ranks; on others without what the report says of the files.
  func windowsOfRankZero(_ read: () throws -> CalibrationSet) throws -> CalibrationSet {
    guard !communicator.isAlone else { return try read() }
    let own = communicator.isRoot ? try read() : nil
    let lengths = try communicator.broadcast(own?.windows.map(\.count))
    let ids = try communicator.broadcast(own?.windows.flatMap { $0 })
    if let own { return own }
    var start = 0
    let windows = lengths.map { length in
      defer { start += length }
      return Array(ids[start..<start + length])
    }
    return CalibrationSet(windows: windows, report: CalibrationReport(sources: []))
  }

  private func calibration(_ model: OpenedModel, _ observer: any QuantizationObserver) throws
    -> CalibrationSet
  {
    guard recipe.method == .gptq else {
      return CalibrationSet(windows: [], report: CalibrationReport(sources: []))
    }
    let tokenizer = try model.tokenizer()
    if let positions = model.configuration.encoder?.positionCount,
      calibrationOptions.sequenceLength > positions
    {
      throw QuantizationError.setting(
        option: "--sequence-length", value: "\(calibrationOptions.sequenceLength)",
        expected: "at most \(positions), the positions that the encoder has")
    }
    observer.filesDisagree(tokenizer.discrepancies)
    let template =
      model.configuration.encoder == nil
      ? try ChatTemplate.detected(tokenizer: tokenizer, files: model.files) : nil
    let calibration = try CalibrationSet.load(
      files: calibrationFiles, tokenizer: tokenizer, template: template,
      vocabularySize: model.configuration.vocabularySize, options: calibrationOptions)
    if let note = template?.note,
      calibration.report.sources.contains(where: { $0.kind.bytes.contains("conversation") })
    {
      observer.templateChosen(note)
    }
    observer.calibrationRead(calibration.report)
    return calibration
  }

  /// Refuses a plan that cannot keep to the limit.
  func announce(_ plan: QuantizationPlan, to observer: any QuantizationObserver) throws {
    if let memoryLimit, plan.peakMemoryBytes > memoryLimit {
      throw QuantizationError.memoryLimit(
        needed: plan.peakMemoryBytes, limit: memoryLimit,
        withScratch: scratch == nil ? plan.peakWithScratchBytes : nil)
    }
    observer.planMade(plan)
  }

  func write(
    _ quantizer: ModelQuantizer, store: LayerStore, start: Date, precision: PrecisionReport? = nil,
    observer: any QuantizationObserver
  ) throws -> Result {
    let made = try QuantizedOutputs(quantizer, store: store, requestedFormat: outputs.format)
    var report = try made.report(
      generator: tool.generator, seconds: Date().timeIntervalSince(start))
    report.precision = precision
    let reportText = report.json.serialized(indent: 2) + "\n"
    var result = Result(written: [], report: report, resumedLayers: 0, seconds: 0)
    func finished(_ output: QuantizationOutput, _ path: String) {
      result.written.append((output, path))
      observer.outputWritten(output, path: path)
    }
    if let folder = outputs.folder {
      try FolderWriter(
        made.contents, shardByteLimit: outputs.shardByteLimit, zeroPointFormat: made.zeroPointFormat
      ).write(
        to: folder, replacing: outputs.overwrites, toolVersion: tool.version,
        extraFiles: [("quantization_report.json", reportText)]
      ) { observer.writing(.folder, $0, of: $1) }
      finished(.folder, folder)
    }
    if let packed = outputs.packed {
      var contents = made.contents
      if outputs.headBits != 16 { try HeadQuantizer.apply(bits: outputs.headBits, to: &contents) }
      try ModelPacker(contents).write(
        to: packed, generator: tool.generator, provenance: made.provenance()
      ) { observer.writing(.packed, $0, of: $1) }
      finished(.packed, packed)
      try AtomicFile.write(reportText, to: packed + ".report.json")
      finished(.report, packed + ".report.json")
    }
    return result
  }
}

extension QuantizationJob.Outputs {
  /// Folder of the layers that are finished: beside the first output.
  var storePath: String {
    PathParts.withoutTrailingSlashes(packed ?? folder ?? "quantization") + ".partial"
  }

  /// Locks the outputs, and finds out before hours of work whether they can be written.
  func claimed() throws -> [OutputLock] {
    let manager = FileManager.default
    let locks = try [packed, folder].compactMap { $0 }.map { path in
      let parent = PathParts(path).folder
      guard manager.isWritableFile(atPath: parent) else {
        throw FileError(
          .cannotWrite, path: path, detail: "cannot be created: \(parent) is not a writable folder")
      }
      return try OutputLock(output: path)
    }
    guard !overwrites else { return locks }
    if let packed, manager.fileExists(atPath: packed) {
      throw FileError(.cannotWrite, path: packed, detail: "exists; remove it or pass --overwrite")
    }
    if let folder, let entries = try? manager.contentsOfDirectory(atPath: folder), !entries.isEmpty {
      throw FileError(
        .cannotWrite, path: folder, detail: "exists and is not empty; remove it or pass --overwrite")
    }
    return locks
  }
}
