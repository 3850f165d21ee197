import Files
import JSON
import Models
import Tensors

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
  package static func check(path: String, progress: (Int, Int) -> Void = { _, _ in }) throws
    -> IntegrityReport
  {
    let model = try OpenedModel(path: path)
    var report = IntegrityReport(path: path, kind: model.kind.rawValue, tensors: 0, bytes: 0)
    if let packed = model.weights as? PackedWeights {
      report.tensors = packed.file.header.tensors.count
      report.bytes = packed.file.file.byteCount
      report.problems = packed.file.problems { progress($0, report.bytes) }
    } else if let folder = model.weights as? FolderWeights {
      report.tensors = folder.table.names.count
      report.bytes = folder.table.byteCount
      var done = 0
      for tensor in folder.table.inFileOrder {
        if let problem = FiniteCheck.problem(tensor) { report.problems.append(problem) }
        done += tensor.info.byteCount
        progress(done, report.bytes)
      }
    } else if let gguf = model.weights as? GGUFWeights {
      report.tensors = gguf.file.tensors.count
      report.bytes = gguf.file.file.byteCount
      report.problems = gguf.problems { done, _ in progress(done, report.bytes) }
    }
    // Shapes, zero points, group numbers: whatever building the decoder would refuse.
    do { _ = try model.decoder() } catch let error as DiagnosedError {
      report.problems.append(error.description)
    }
    do { _ = try model.tokenizer() } catch let error as DiagnosedError {
      if error.category == .cannotOpenInput {
        report.notes.append(error.description)
      } else {
        report.problems.append(error.description)
      }
    }
    report.notes += (model.weights as? FolderWeights)?.warnings ?? []
    return report
  }
}
