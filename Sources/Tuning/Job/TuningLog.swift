import Files
import Foundation
import JSON

/// What is known after an optimizer step, or after a validation: a line of `training_log.jsonl`.
package enum TuningLogEntry: Equatable, Sendable {
  case step(Step)
  case validation(Validation)

  package struct Step: Equatable, Sendable {
    /// Optimizer steps taken, this one included.
    package var step: Int
    /// Passes over the rows, with the part of the present one.
    package var epoch: Double
    /// The mean over the counted tokens of the step, in nats.
    package var loss: Double
    package var learningRate: Double
    /// Of all gradients together, before they are limited.
    package var gradientNorm: Double
    /// Of the rows of this step, and how many of them count.
    package var tokens: Int
    package var labels: Int
    package var seconds: Double
    /// Of the training data, counted from 0, in the order of the micro-batches.
    package var rows: [Int]

    package init(
      step: Int, epoch: Double, loss: Double, learningRate: Double, gradientNorm: Double, tokens: Int,
      labels: Int, seconds: Double, rows: [Int] = []
    ) {
      self.step = step
      self.epoch = epoch
      self.loss = loss
      self.learningRate = learningRate
      self.gradientNorm = gradientNorm
      self.tokens = tokens
      self.labels = labels
      self.seconds = seconds
      self.rows = rows
    }

    package var tokensPerSecond: Double { seconds > 0 ? Double(tokens) / seconds : 0 }
  }

  package struct Validation: Equatable, Sendable {
    /// Optimizer steps taken before it.
    package var step: Int
    package var epoch: Double
    /// The mean over the counted tokens of the validation rows, in nats.
    package var loss: Double
    package var labels: Int
    /// Whether no loss before was as small.
    package var isBest: Bool

    package init(step: Int, epoch: Double, loss: Double, labels: Int, isBest: Bool) {
      self.step = step
      self.epoch = epoch
      self.loss = loss
      self.labels = labels
      self.isBest = isBest
    }
  }

  package var step: Int {
    switch self {
    case .step(let entry): entry.step
    case .validation(let entry): entry.step
    }
  }

  package var json: JSONValue {
    switch self {
    case .step(let entry):
      [
        "step": .init(entry.step), "epoch": .init(entry.epoch), "loss": .init(entry.loss),
        "learning_rate": .init(entry.learningRate), "grad_norm": .init(entry.gradientNorm),
        "tokens": .init(entry.tokens), "labels": .init(entry.labels), "seconds": .init(entry.seconds),
        "tokens_per_second": .init(entry.tokensPerSecond),
        "rows": .array(entry.rows.map { .init($0) }),
      ]
    case .validation(let entry):
      [
        "step": .init(entry.step), "epoch": .init(entry.epoch), "validation_loss": .init(entry.loss),
        "validation_labels": .init(entry.labels), "is_best": .bool(entry.isBest),
      ]
    }
  }

  /// - Returns: nil for something else.
  package init?(_ json: JSONValue) {
    guard let step = json["step"]?.intValue, let epoch = json["epoch"]?.doubleValue else { return nil }
    if let loss = json["validation_loss"]?.doubleValue {
      self = .validation(
        Validation(
          step: step, epoch: epoch, loss: loss, labels: json["validation_labels"]?.intValue ?? 0,
          isBest: json["is_best"]?.boolValue ?? false))
    } else if let loss = json["loss"]?.doubleValue {
      self = .step(
        Step(
          step: step, epoch: epoch, loss: loss, learningRate: json["learning_rate"]?.doubleValue ?? 0,
          gradientNorm: json["grad_norm"]?.doubleValue ?? 0, tokens: json["tokens"]?.intValue ?? 0,
          labels: json["labels"]?.intValue ?? 0, seconds: json["seconds"]?.doubleValue ?? 0,
          rows: (json["rows"]?.arrayValue ?? []).compactMap(\.intValue)))
    } else {
      return nil
    }
  }
}

/// The entries of a run on disk, a JSON line each. What was written after the checkpoint from which a run continues is dropped, and so
/// is a line that was cut off.
final class TuningLog {
  let path: String
  private(set) var entries: [TuningLogEntry]
  private let file: FileHandle

  /// - Parameters:
  ///   - finishedSteps: steps after it are dropped.
  ///   - validatedStep: validations after it are dropped.
  init(path: String, finishedSteps: Int, validatedStep: Int?) throws {
    self.path = path
    var entries: [TuningLogEntry] = []
    if FileManager.default.fileExists(atPath: path) {
      let text = try MappedFile(path: path)
      withExtendedLifetime(text) {
        for line in text.bytes.split(separator: UInt8(ascii: "\n")) {
          guard let json = try? JSONValue.parse(UnsafeRawBufferPointer(rebasing: line)),
            let entry = TuningLogEntry(json)
          else { continue }
          let last = if case .validation = entry { validatedStep ?? -1 } else { finishedSteps }
          if entry.step <= last { entries.append(entry) }
        }
      }
    }
    self.entries = entries
    try AtomicFile.write(entries.map { $0.json.serialized() + "\n" }.joined(), to: path)
    let descriptor = open(path, O_WRONLY | O_APPEND | O_CLOEXEC | O_NOFOLLOW)
    guard descriptor >= 0 else { throw FileError.fromErrno(.cannotWrite, path: path, doing: "cannot open") }
    file = FileHandle(fileDescriptor: descriptor, closeOnDealloc: true)
  }

  func append(_ entry: TuningLogEntry) throws {
    entries.append(entry)
    let line = Array((entry.json.serialized() + "\n").utf8)
    let written = line.withUnsafeBytes { write(file.fileDescriptor, $0.baseAddress, $0.count) }
    guard written == line.count else {
      throw FileError.fromErrno(.cannotWrite, path: path, doing: "cannot write")
    }
  }

  /// Everything so far is on stable storage: called before a checkpoint that relies on it.
  func sync() throws {
    guard fsync(file.fileDescriptor) == 0 else {
      throw FileError.fromErrno(.inputOutput, path: path, doing: "cannot sync")
    }
  }
}
