import Files

/// Why an answer cannot be scored.
package struct MetricError: DiagnosedError, Equatable {
  /// One case per rule. Tests match on this; people read `description`.
  package enum Reason: Equatable, Sendable {
    /// The metric's cost grows with the product of both lengths. `unit` is what is counted.
    case textsTooLong(metric: String, answer: Int, truth: Int, unit: String)
    case badPattern(String)
    /// The expected answer does not have the form that the metric reads.
    case badTruth(metric: String, truth: String, expected: String)
  }
  package var reason: Reason

  package init(_ reason: Reason) { self.reason = reason }

  package var category: FailureCategory { .badInput }

  package var description: String {
    switch reason {
    case .textsTooLong(let metric, let answer, let truth, let unit):
      "\(metric): an answer of \(answer) \(unit) cannot be compared with an expected one of \(truth) in reasonable time; allow fewer new tokens "
        + "or shorten the expected answer"
    case .badPattern(let pattern): "\"\(pattern)\" is not a regular expression"
    case .badTruth(let metric, let truth, let expected):
      "\(metric): the expected answer \"\(truth.bytes.prefix(scalars: 80))\" is not \(expected)"
    }
  }
}
