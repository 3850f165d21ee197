import Files

/// Why a tuning was refused or stopped.
package struct TuningError: DiagnosedError, Equatable {
  /// One case per rule. Tests match on this; people read `description`.
  package enum Reason: Equatable, Sendable {
    /// The loss or a gradient is NaN or infinite.
    case notFinite(step: Int, rows: [Int])
  }
  package var reason: Reason
  package var path: String

  package init(_ reason: Reason, path: String) {
    self.reason = reason
    self.path = path
  }

  package var category: FailureCategory { .badInput }
  package var description: String { "\(path): \(reason)" }
}

extension TuningError.Reason: CustomStringConvertible {
  package var description: String {
    switch self {
    case .notFinite(let step, let rows):
      "the loss of step \(step) is not a finite number (rows \(rows.map(String.init).joined(separator: ", ")) of the training data); "
        + "use a smaller learning rate, or look at these rows"
    }
  }
}
