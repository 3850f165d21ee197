import Files

/// Why a model cannot be measured.
package struct EvaluationError: DiagnosedError, Equatable {
  /// One case per rule. Tests match on this; people read `description`.
  package enum Reason: Equatable, Sendable {
    // MARK: The text. `path` is the file, or the option that names it.
    case notUTF8(path: String)
    case noIDs(path: String)
    case notAnID(path: String, index: Int)
    case idOutOfVocabulary(path: String, index: Int, id: Int, vocabularySize: Int)

    // MARK: Windows, in tokens
    case badWindow(length: Int, stride: Int)
    case textTooShort(tokens: Int, window: Int)

    // MARK: The models
    case vocabulariesDiffer(reference: Int, candidate: Int)
    /// One model gives no finite probability in these tokens.
    case notFinite(tokens: Range<Int>)
    /// One of two models gives no finite probability in these tokens.
    case oneNotFinite(tokens: Range<Int>)
    case logitsNotFinite(model: String)
  }
  package var reason: Reason

  package init(_ reason: Reason) { self.reason = reason }

  package var category: FailureCategory { if case .badWindow = reason { .usage } else { .badInput } }

  package var description: String {
    switch reason {
    case .notUTF8(let path): "\(path): is not UTF-8 text"
    case .noIDs(let path): "\(path): is neither an array of token ids nor an object with \"ids\""
    case .notAnID(let path, let index): "\(path): element \(index) is not a whole number"
    case .idOutOfVocabulary(let path, let index, let id, let size):
      "\(path): token \(index) has id \(id); the model knows 0 to \(size - 1). A token that was added to the tokenizer without enlarging the embedding "
        + "cannot be used"
    case .badWindow(let length, let stride):
      "window \(length) and stride \(stride) do not fit: expected 2 <= window and 1 <= stride <= window"
    case .textTooShort(let tokens, let window):
      "the text has \(tokens) tokens, too few for one window of \(window)"
    case .vocabulariesDiffer(let reference, let candidate):
      "the models have \(reference) and \(candidate) vocabulary rows; their predictions cannot be compared"
    case .notFinite(let tokens):
      "the model gives no finite probability in tokens \(tokens.lowerBound) to \(tokens.upperBound - 1); "
        + "a weight may be NaN or infinite"
    case .oneNotFinite(let tokens):
      "one of the models gives no finite probability in tokens \(tokens.lowerBound) to \(tokens.upperBound - 1); "
        + "a weight may be NaN or infinite"
    case .logitsNotFinite(let model): "\(model): the logits are not finite; a weight may be NaN or infinite"
    }
  }
}
