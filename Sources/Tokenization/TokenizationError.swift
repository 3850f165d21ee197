import Files

/// A vocabulary that cannot be read, or ids that are not in it.
package struct TokenizationError: DiagnosedError, Equatable {
  package var path: String
  package var detail: String
  package var category: FailureCategory

  package init(path: String, detail: String, category: FailureCategory = .badInput) {
    self.path = path
    self.detail = detail
    self.category = category
  }

  package var description: String { "\(path): \(detail)" }
}
