import Calibration
import Files

/// Why a record of training data is left out. Cases do not say where, so that they can be counted.
package enum TuningDataProblem: Error, Hashable, Sendable {
  case record(CalibrationProblem)
  /// A conversation without a turn of the assistant.
  case noAnswer
  /// Longer than a row, where rows are packed.
  case longerThanRow
  /// Nothing that is to be learned lies within a row's length.
  case nothingCounted
  /// `labels` has another length than `input_ids`, or something else than ids and -100.
  case badLabels
}

extension TuningDataProblem: CustomStringConvertible {
  /// A clause of its own.
  package var description: String {
    switch self {
    case .record(let problem): problem.description
    case .noAnswer: "it has no answer of the assistant to learn from"
    case .longerThanRow: "it is longer than a row, and rows that are packed do not cut conversations"
    case .nothingCounted: "nothing that is to be learned lies within a row's length"
    case .badLabels: "labels are not as many as input_ids, or hold something else than ids and -100"
    }
  }
}

/// Why training data was refused.
package struct TuningDataError: DiagnosedError, Equatable {
  /// Tests match on this; people read `description`.
  package enum Reason: Equatable, Sendable {
    /// The file cannot be read as records or text.
    case content(CalibrationError.Reason)
    /// No record of the file gives a row; the first one and why.
    case noRows(place: String, TuningDataProblem)
    case empty
    /// A conversation, but the model has no chat template.
    case noTemplate(place: String)
    case idOutOfVocabulary(place: String, id: Int, vocabularySize: Int)
    /// The chat template writes a conversation otherwise when an answer follows, so that answers cannot be told from the rest.
    case noPrefixes(place: String, template: String)
    /// 360Zhinao's labels are asked for, but conversations are not written as 360Zhinao's.
    case notZhinao
    /// Everything would be validated on.
    case validationTakesAll(rows: Int)
    /// A row needs two tokens to predict anything.
    case maximumTooSmall(Int)
    case fractionOutOfRange(Double)
    /// A fraction and a file.
    case twoValidations
    /// A file for validation has a weight.
    case weightOfValidation
    /// The weight of a file asks for more rows than an epoch may have.
    case epochTooLong(weight: Double, most: Int)
  }
  package var reason: Reason
  package var path: String

  package init(_ reason: Reason, path: String) {
    self.reason = reason
    self.path = path
  }

  package var category: FailureCategory {
    switch reason {
    case .maximumTooSmall, .fractionOutOfRange, .twoValidations, .notZhinao, .epochTooLong,
      .weightOfValidation:
      .usage
    default: .badInput
    }
  }

  package var description: String { path.isEmpty ? "\(reason)" : "\(path): \(reason)" }
}

extension TuningDataError.Reason: CustomStringConvertible {
  /// The end of a sentence whose subject is the file.
  package var description: String {
    switch self {
    case .content(let reason): reason.description(formatOption: "--data-format")
    case .noRows(let place, let problem): "\(place): \(problem); no record of the file can be learned"
    case .empty: "is empty; there is nothing to learn"
    case .noTemplate(let place):
      "\(place) is a conversation, but the model has no chat template known here; give text or prompts with completions"
    case .idOutOfVocabulary(let place, let id, let size):
      "\(place): token id \(id); the model knows 0 to \(size - 1). "
        + "A token that was added to the tokenizer without enlarging the embedding cannot be used"
    case .noPrefixes(let place, let template):
      "\(place): \(template) writes earlier turns otherwise once an answer follows, so that answers cannot be told "
        + "from the rest; pass --train-on last to learn the last answer of each conversation, --train-on all to learn "
        + "everything, or mark answers in the template with {% generation %}"
    case .notZhinao:
      "the model's conversations are not written as 360Zhinao's; pass --train-on assistant, last or all"
    case .validationTakesAll(let rows):
      "\(rows) conversations or texts are too few to keep some for validation; give a file with --validation"
    case .maximumTooSmall(let length):
      "a maximum length of \(length) leaves nothing to predict; give at least 2"
    case .fractionOutOfRange(let fraction):
      "a fraction of \(fraction) for validation; give one from 0 to less than 1"
    case .twoValidations:
      "a fraction and a file for validation cannot both be given; leave one of them out"
    case .weightOfValidation:
      "has a weight, but is for validation, where every row counts once; leave the weight out"
    case .epochTooLong(let weight, let most):
      "a weight of \(weight) would bring the rows of a file more than \(most) times in an epoch; give a smaller one"
    }
  }
}
