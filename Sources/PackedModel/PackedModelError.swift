import Files

/// What is wrong with a `.zhinao` file: which rule of `Formats/packed-model.md` it breaks, and where.
package struct PackedModelError: DiagnosedError, Equatable {
  package var path: String
  /// Number of the broken rule, nil when the problem is not one of the format's.
  package var rule: Int?
  package var detail: String
  package var category: FailureCategory

  package init(path: String, rule: Int?, detail: String, category: FailureCategory = .badInput) {
    self.path = path
    self.rule = rule
    self.detail = detail
    self.category = category
  }

  package var description: String { "\(path): \(detail)\(rule.map { " (P\($0))" } ?? "")" }
}
