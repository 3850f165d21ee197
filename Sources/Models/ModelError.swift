import Files

/// Why a model cannot be opened or run.
package struct ModelError: DiagnosedError, Equatable {
  package var path: String
  package var tensor: String?
  package var detail: String
  package var category: FailureCategory

  package init(path: String, tensor: String? = nil, detail: String, category: FailureCategory = .badInput) {
    self.path = path
    self.tensor = tensor
    self.detail = detail
    self.category = category
  }

  package var description: String { "\(path): \(tensor.map { "\($0) " } ?? "")\(detail)" }
}
