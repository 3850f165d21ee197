import Files
import JSON

/// Why calibration text was refused.
package struct CalibrationError: DiagnosedError, Equatable {
  /// One case per rule of `Formats/calibration.md`. A place is `line 3` or `item 0` of the file; records count from 0. Tests match
  /// on this; people read `description`.
  package enum Reason: Equatable, Sendable {
    case notUTF8
    case notJSON(place: String?, JSONError)
    /// A record has none of the members that make one.
    case noKnownMember(place: String)
    /// An element of `input_ids` is not a whole number.
    case badID(place: String)
    case noTurns(place: String)
    /// A conversation, but the model has no chat template.
    case noTemplate(record: Int)
    case idOutOfVocabulary(record: Int, id: Int, vocabularySize: Int)
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
  package var description: String {
    switch self {
    case .notUTF8: "is not UTF-8 text"
    case .notJSON(let place, let error): "\(place.map { "\($0): " } ?? "")\(error.description)"
    case .noKnownMember(let place): "\(place): has none of text, messages, conversations, input_ids"
    case .badID(let place): "\(place): input_ids holds something that is not a whole number"
    case .noTurns(let place): "\(place): has no turns"
    case .noTemplate(let record):
      "record \(record) is a conversation, but the model's tokenizer has no chat template known here"
    case .idOutOfVocabulary(let record, let id, let size):
      "record \(record): token id \(id); the model knows 0 to \(size - 1). "
        + "A token that was added to the tokenizer without enlarging the embedding cannot be used"
    case .noWindow(let length):
      "gives no calibration window of \(length) tokens; give more text or a smaller --sequence-length"
    }
  }
}
