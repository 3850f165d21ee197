import Files

/// Why a tuning was refused or stopped.
package struct TuningError: DiagnosedError, Equatable {
  /// One case per rule. Tests match on this; people read `description`.
  package enum Reason: Equatable, Sendable {
    /// The loss or a gradient of an optimizer step, counted from 1, is NaN or infinite. Rows are numbered from 0, in the order of
    /// the data.
    case notFinite(step: Int, rows: [Int])
    /// The loss of the validation rows after a step is not a finite number.
    case validationNotFinite(step: Int)
    /// No token of a step counts.
    case nothingCounted(step: Int, rows: [Int])
    /// There are no rows.
    case noRows
    /// An option that needs rows for validation.
    case needsValidation(option: String)
    /// The folder holds a tuning of another version of the format.
    case otherVersion(found: Int, expected: Int)
    /// The folder holds another tuning: the first setting that differs.
    case otherTuning(key: String, found: String, expected: String)
    /// A checkpoint that does not hold what it should.
    case damagedCheckpoint(String)
    /// An adapter to begin with that is not one of this model and these options.
    case otherAdapter(String)
    /// The training needs more memory than it may take, in bytes; `withScratch`: what it would need with the inputs of blocks in a file.
    case memoryLimit(needed: Int, limit: Int, withScratch: Int?)
    /// Told to stop; the state of this step is kept.
    case interrupted(step: Int, steps: Int, folder: String)
  }
  package var reason: Reason
  package var path: String

  package init(_ reason: Reason, path: String) {
    self.reason = reason
    self.path = path
  }

  package var category: FailureCategory {
    switch reason {
    case .needsValidation: .usage
    case .interrupted: .interrupted
    default: .badInput
    }
  }

  package var description: String {
    if case .interrupted(let step, let steps, let folder) = reason {
      return "interrupted after step \(step) of \(steps), which is kept in \(folder); "
        + "the same command continues there"
    }
    return "\(path): \(reason)"
  }
}

extension TuningError.Reason: CustomStringConvertible {
  /// The end of a sentence whose subject is the file or the folder.
  package var description: String {
    func list(_ rows: [Int]) -> String {
      let shown = rows.prefix(16).map(String.init).joined(separator: ", ")
      return rows.count > 16 ? "\(shown) and \(rows.count - 16) more" : shown
    }
    switch self {
    case .notFinite(let step, let rows):
      return
        "the loss or the gradient of step \(step) is not a finite number (rows \(list(rows)) of the training data, counted from 0); "
        + "use a smaller learning rate, or look at these rows with --print-rows"
    case .validationNotFinite(let step):
      return "the validation loss after step \(step) is not a finite number; use a smaller learning rate"
    case .nothingCounted(let step, let rows):
      return
        "no token of step \(step) counts (rows \(list(rows)) of the training data, counted from 0); "
        + "remove these rows, or train on all of the text with --train-on all"
    case .noRows: return "holds no row to train on"
    case .needsValidation(let option):
      return "\(option) needs a validation: pass --validation FILE or --validation-fraction"
    case .otherVersion(let found, let expected):
      return
        "holds a tuning of format \(found), expected \(expected); finish it with the version of the program that began it, "
        + "or delete the folder"
    case .otherTuning(let key, let found, let expected):
      return
        "holds a tuning with other settings: \(key) is \(found) there and \(expected) now; repeat its command to continue it, "
        + "or delete the folder to start anew"
    case .damagedCheckpoint(let detail):
      return "\(detail); delete the folder to start anew"
    case .otherAdapter(let detail): return detail
    case .memoryLimit(let needed, let limit, let withScratch):
      let least =
        "a training needs at least \(ByteCount.text(needed)) of memory, more than the limit of \(ByteCount.text(limit)); "
      let remedy =
        "shorten the rows (--max-length) or make the batches smaller (--batch-size, with --accumulation)"
      guard let withScratch, withScratch < needed else { return least + remedy }
      return least + "\(remedy), or pass --scratch FOLDER, with which it needs \(ByteCount.text(withScratch))"
    case .interrupted(let step, let steps, let folder):
      return "interrupted after step \(step) of \(steps), kept in \(folder)"
    }
  }
}
