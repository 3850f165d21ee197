import Compute
import Files
import Foundation
import JSON
import Safetensors
import Tensors
import Training

/// Where a tuning stands, beside its tensors.
package struct TuningState: Equatable, Sendable {
  /// Optimizer steps taken.
  package var step = 0
  /// The step after which the last validation was; nil: there was none.
  package var validatedStep: Int?
  /// The validation with the smallest loss.
  package var best: Best?
  /// Validations since the best one.
  package var staleValidations = 0
  /// Whether the patience is at its end.
  package var hasStoppedEarly = false
  /// Of all rows so far.
  package var tokens = 0
  /// Of computing, over all processes that took part.
  package var seconds = 0.0

  package struct Best: Equatable, Sendable {
    package var step: Int
    package var loss: Double
  }

  package init() {}

  var json: JSONValue {
    [
      "step": .init(step), "validated_step": validatedStep.map { .init($0) } ?? nil,
      "best_step": best.map { .init($0.step) } ?? nil, "best_loss": best.map { .init($0.loss) } ?? nil,
      "stale_validations": .init(staleValidations), "has_stopped_early": .bool(hasStoppedEarly),
      "tokens": .init(tokens), "seconds": .init(seconds),
    ]
  }

  /// - Returns: nil when a number is missing or impossible.
  init?(_ json: JSONValue) {
    guard let step = json["step"]?.intValue, let stale = json["stale_validations"]?.intValue,
      let stopped = json["has_stopped_early"]?.boolValue, let tokens = json["tokens"]?.intValue,
      let seconds = json["seconds"]?.doubleValue, step >= 0, stale >= 0, tokens >= 0, seconds >= 0
    else { return nil }
    self.step = step
    validatedStep = json["validated_step"]?.intValue
    if let bestStep = json["best_step"]?.intValue {
      guard let loss = json["best_loss"]?.doubleValue else { return nil }
      best = Best(step: bestStep, loss: loss)
    }
    staleValidations = stale
    hasStoppedEarly = stopped
    self.tokens = tokens
    self.seconds = seconds
  }
}

/// The state of a tuning on disk: what a run that died left behind.
///
/// `OUTPUT.partial/` holds `tuning.json` (the format's version and everything that the adapter depends on), `checkpoint.safetensors`
/// (values, both moments of AdamW, the best values so far, and the state, with a checksum of all tensors) and `training_log.jsonl`.
/// A checkpoint is one file, which appears whole or not at all, so that a run may die at any moment. `Formats/tuning-checkpoint.md`
/// describes it.
package final class CheckpointFolder {
  package static let version = 1
  private static let versionKey = "format_version"
  private static let manifestName = "tuning.json"
  static let checkpointName = "checkpoint.safetensors"
  static let logName = "training_log.jsonl"

  package let path: String
  var checkpointPath: String { "\(path)/\(CheckpointFolder.checkpointName)" }
  package var logPath: String { "\(path)/\(CheckpointFolder.logName)" }

  /// Opens the folder, or makes it.
  /// - Parameter identity: everything the adapter depends on. A folder of another identity is refused, and the first difference named.
  /// - Throws: ``TuningError/Reason/otherVersion(found:expected:)`` and
  ///   ``TuningError/Reason/otherTuning(key:found:expected:)``.
  package init(path: String, identity: JSONObject) throws {
    self.path = path
    let manifest = "\(path)/\(CheckpointFolder.manifestName)"
    if FileManager.default.fileExists(atPath: manifest) {
      let found = try JSONValue.parse(file: manifest).objectValue ?? JSONObject()
      let version = found[CheckpointFolder.versionKey]?.intValue ?? 0
      guard version == CheckpointFolder.version else {
        throw TuningError(.otherVersion(found: version, expected: CheckpointFolder.version), path: path)
      }
      for (key, value) in identity.members where found[key] != value {
        throw TuningError(
          .otherTuning(
            key: key, found: CheckpointFolder.brief(found[key]), expected: CheckpointFolder.brief(value)),
          path: path)
      }
      return
    }
    // Without a manifest nobody knows what a checkpoint belongs to.
    unlink("\(path)/\(CheckpointFolder.checkpointName)")
    unlink("\(path)/\(CheckpointFolder.logName)")
    do { try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true) } catch {
      throw FileError(.cannotWrite, path: path, reason: .cannotCreate(error.localizedDescription))
    }
    let members =
      [(CheckpointFolder.versionKey, JSONValue(CheckpointFolder.version))]
      + identity.members.map { ($0.key, $0.value) }
    try AtomicFile.write(JSONValue.object(JSONObject(members)).serialized(indent: 2) + "\n", to: manifest)
  }

  /// What the manifest of a folder says that its adapter depends on; nil without a manifest of this version.
  static func identity(at path: String) -> JSONObject? {
    guard let found = try? JSONValue.parse(file: "\(path)/\(manifestName)").objectValue,
      found[versionKey]?.intValue == version
    else { return nil }
    return JSONObject(found.members.filter { $0.key != versionKey }.map { ($0.key, $0.value) })
  }

  private static func brief(_ value: JSONValue?) -> String {
    let text = value?.serialized() ?? "nothing"
    guard text.unicodeScalars.count > 80 else { return text }
    return String(String.UnicodeScalarView(text.unicodeScalars.prefix(77))) + "…"
  }

  /// Whether a later run can go on from the folder.
  package static func isOfUse(at path: String) -> Bool {
    FileManager.default.fileExists(atPath: "\(path)/\(checkpointName)")
  }

  /// Deletes the folder: the output is complete, or nothing in it is of use. The manifest goes last, so that what a process leaves
  /// that is killed meanwhile is not taken for another tuning's.
  package func remove() {
    unlink(checkpointPath)
    unlink(logPath)
    try? FileManager.default.removeItem(atPath: path)
  }

  // MARK: Tensors

  /// The tensors of a checkpoint, by their names in the file.
  private static func tensors(_ optimizer: AdamW, best: [AlignedBuffer<Float>]?) -> [(
    plan: TensorPlan, values: AlignedBuffer<Float>
  )] {
    optimizer.parameters.enumerated().flatMap { index, parameter in
      var parts = [
        ("value", parameter.values), ("exp_avg", optimizer.firstMoments[index]),
        ("exp_avg_sq", optimizer.secondMoments[index]),
      ]
      if let best { parts.append(("best", best[index])) }
      return parts.map { (TensorPlan("\($0).\(parameter.name)", .f32, parameter.shape), $1) }
    }
  }

  /// Of the state's text and of all tensors.
  private static func checksum(
    _ tensors: [(plan: TensorPlan, values: AlignedBuffer<Float>)], state: String
  ) -> String {
    let start = Array(state.utf8).withUnsafeBytes { Checksum.crc32($0) }
    let sum = tensors.reduce(start) {
      Checksum.crc32(UnsafeRawBufferPointer($1.values.buffer), continuing: $0)
    }
    return String(sum, radix: 16)
  }

  /// - Parameter best: the values with the smallest validation loss so far, if there was a validation.
  func save(_ state: TuningState, _ optimizer: AdamW, best: [AlignedBuffer<Float>]?) throws {
    let tensors = CheckpointFolder.tensors(optimizer, best: best)
    let byName = Dictionary(uniqueKeysWithValues: tensors.map { ($0.plan.name.bytes, $0.values) })
    let text = state.json.serialized()
    try SafetensorsWriter.write(
      to: checkpointPath, tensors: tensors.map(\.plan),
      metadata: [("state", text), ("crc32", CheckpointFolder.checksum(tensors, state: text))]
    ) { plan, emit in
      guard let values = byName[plan.name.bytes] else { return }
      try emit(UnsafeRawBufferPointer(values.buffer))
    }
  }

  /// Reads the checkpoint into the parameters and the optimizer.
  /// - Returns: nil when there is none.
  /// - Throws: ``TuningError/Reason/damagedCheckpoint(_:)``.
  func load(into optimizer: AdamW) throws -> (state: TuningState, best: [AlignedBuffer<Float>]?)? {
    guard FileManager.default.fileExists(atPath: checkpointPath) else { return nil }
    func damaged(_ detail: String) -> TuningError {
      TuningError(.damagedCheckpoint(detail), path: checkpointPath)
    }
    let file = try SafetensorsFile(path: checkpointPath)
    let metadata = Dictionary(
      file.metadata.map { ($0.key, $0.value) }, uniquingKeysWith: { first, _ in first })
    guard let text = metadata["state"], let json = try? JSONValue.parse(text), let state = TuningState(json)
    else { throw damaged("does not say where the tuning stands") }
    let best = state.best.map { _ in
      optimizer.parameters.map { AlignedBuffer<Float>(count: $0.count) }
    }
    let tensors = CheckpointFolder.tensors(optimizer, best: best)
    guard file.tensors.count == tensors.count else {
      throw damaged("holds \(file.tensors.count) tensors, expected \(tensors.count)")
    }
    for (plan, values) in tensors {
      guard let tensor = file.tensor(plan.name), tensor.dtype == .f32, tensor.shape == plan.shape else {
        throw damaged("does not hold \(plan.name) as F32 of shape \(plan.shape)")
      }
      UnsafeMutableRawBufferPointer(values.buffer).copyMemory(from: file.bytes(of: tensor))
    }
    guard metadata["crc32"] == CheckpointFolder.checksum(tensors, state: text) else {
      throw damaged("has another checksum than it says: the disk changed it")
    }
    optimizer.stepCount = state.step
    return (state, best)
  }
}
