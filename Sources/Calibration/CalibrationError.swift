import Files
import JSON

/// Why calibration text was refused.
package struct CalibrationError: DiagnosedError, Equatable {
  /// One case per rule of `Formats/calibration.md`. A place is `line 3` or `item 0` of the file. Tests match on this; people
  /// read `description`.
  package enum Reason: Equatable, Sendable {
    case notUTF8
    /// UTF-16 without a mark, or no text at all.
    case zeroBytes
    /// Text whose marks would be calibrated on.
    case structured(StructuredText)
    case notJSON(place: String?, JSONError)
    /// No record of the file can be used; the first one and why.
    case record(place: String, CalibrationProblem)
    /// A conversation, but the model has no chat template.
    case noTemplate(place: String)
    case idOutOfVocabulary(place: String, id: Int, vocabularySize: Int)
    /// No file gives a window.
    case noWindow(length: Int)
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

extension CalibrationError.Reason: CustomStringConvertible {
  /// The end of a sentence whose subject is the file.
  package var description: String { description(formatOption: "--calibration-format") }

  /// - Parameter formatOption: the name of the command's option that says how the file is written.
  package func description(formatOption: String) -> String {
    switch self {
    case .notUTF8: "is not UTF-8 text; convert it, for example with iconv -f GB18030 -t UTF-8"
    case .zeroBytes:
      "holds zero bytes, so it is no UTF-8 text; if it is UTF-16, convert it with iconv -f UTF-16LE -t UTF-8"
    case .structured(let text):
      "is \(text.rawValue), which is not read; \(text.remedy); or pass \(formatOption) text to take it as it is"
    case .notJSON(let place, let error):
      "\(place.map { "\($0): " } ?? "")\(error.description); JSON Lines have one record a line; if the file is plain text, pass \(formatOption) text"
    case .record(let place, let problem): "\(place): \(problem)"
    case .noTemplate(let place): "\(place) is a conversation, but the model has no chat template known here"
    case .idOutOfVocabulary(let place, let id, let size):
      "\(place): token id \(id); the model knows 0 to \(size - 1). "
        + "A token that was added to the tokenizer without enlarging the embedding cannot be used"
    case .noWindow(let length):
      "gives no calibration window of \(length) tokens; give more text or a smaller --sequence-length"
    }
  }
}
