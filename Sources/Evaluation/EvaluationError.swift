import Files

/// Why a model cannot be measured.
package struct EvaluationError: DiagnosedError, Equatable {
  package var detail: String
  package var category: FailureCategory

  package init(_ detail: String, category: FailureCategory = .badInput) {
    self.detail = detail
    self.category = category
  }

  package var description: String { detail }
}
