import Files
import JSON
import Models

/// What a check of every byte of a model found.
package struct IntegrityReport: Equatable, Sendable {
  package var path: String
  package var kind: String
  package var tensors: Int
  package var bytes: Int
  package var problems: [String] = []
  package var notes: [String] = []

  package var json: JSONValue {
    [
      "path": .string(path), "kind": .string(kind), "intact": .bool(problems.isEmpty),
      "tensors": .init(tensors),
      "bytes": .init(bytes), "problems": .array(problems.map { .string($0) }),
      "notes": .array(notes.map { .string($0) }),
    ]
  }

  /// - Throws: when the model cannot even be opened.
  package static func check(
    path: String, preTokenizer: String? = nil, progress: (Int, Int) -> Void = { _, _ in }
  ) throws -> IntegrityReport {
    let model = try OpenedModel(path: path, preTokenizer: preTokenizer, accepting: .all)
    let extent = model.store.extent
    var report = IntegrityReport(
      path: path, kind: model.kind.rawValue, tensors: extent.tensors, bytes: extent.byteCount)
    report.problems = model.store.problems { progress($0, extent.byteCount) }.map(\.description)
    // Shapes, zero points, group numbers: whatever building the model would refuse.
    do {
      if model.configuration.encoder == nil { _ = try model.decoder() } else { _ = try model.encoder() }
    } catch let error as DiagnosedError {
      report.problems.append(error.description)
    }
    do { report.notes += try model.tokenizer().discrepancies.map(\.description) } catch let error
      as DiagnosedError
    {
      if error.category == .cannotOpenInput {
        report.notes.append(error.description)
      } else {
        report.problems.append(error.description)
      }
    }
    report.notes += model.store.discrepancies.map(\.description) + model.store.warnings
    return report
  }
}
