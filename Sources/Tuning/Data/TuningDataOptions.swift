import Calibration
import Templates
import Tokenization

/// A file of training data; its weight says how often its rows come in an epoch (2: twice; 0.5: every other row, other ones each time).
package typealias TuningFile = CalibrationFile

/// How a file of training data is written.
package typealias TuningDataFormat = CalibrationFormat

/// Which tokens of a conversation are learned.
package enum TrainedPart: String, CaseIterable, Sendable {
  /// What 360Zhinao's `finetune.py` learns: answers, and of every turn the tokens that open and close it. Of turns that are neither the
  /// user's nor the assistant's it learns all, unless rows are packed. For 360Zhinao's ChatML only.
  case zhinao = "360zhinao"
  /// The assistant's answers, each with the token that ends it.
  case assistant
  /// The last answer of each conversation.
  case last
  /// Every token.
  case all
}

/// How conversations and texts become rows.
package enum TuningPacking: String, CaseIterable, Sendable {
  /// One a row, cut on the right to the maximum; text is cut into as many rows as it needs.
  case separate
  /// As many as fit in a row, in their order; a conversation that is longer than a row is left out (`is_concat` of `finetune.py`).
  case concat
}

/// How training data becomes rows, and rows become batches.
package struct TuningDataOptions: Equatable, Sendable {
  /// Tokens of a row at most.
  package var maximumLength: Int
  package var packing: TuningPacking
  /// Nil: ``TrainedPart/zhinao`` where the model's conversations are 360Zhinao's, otherwise ``TrainedPart/assistant``.
  package var trainedPart: TrainedPart?
  /// Whether special tokens in messages are tokens, as in the reference, or text.
  package var contents: SpecialTokens
  package var format: TuningDataFormat
  /// The part of the conversations and texts that is kept for validation, in 0 ..< 1.
  package var validationFraction: Double
  /// Rows of a batch have similar lengths (`group_by_length` of transformers).
  package var groupsByLength: Bool
  /// Of the split and of the order of rows.
  package var seed: UInt64
  /// What chat templates that write a date are told, always the same, because rows must not change from one day to the next.
  package var clock: TemplateClock

  package init(
    maximumLength: Int = 4096, packing: TuningPacking = .separate, trainedPart: TrainedPart? = nil,
    contents: SpecialTokens = .recognized, format: TuningDataFormat = .auto, validationFraction: Double = 0,
    groupsByLength: Bool = false, seed: UInt64 = 1024, clock: TemplateClock = TuningDataOptions.usualDate
  ) {
    self.maximumLength = maximumLength
    self.packing = packing
    self.trainedPart = trainedPart
    self.contents = contents
    self.format = format
    self.validationFraction = validationFraction
    self.groupsByLength = groupsByLength
    self.seed = seed
    self.clock = clock
  }

  /// The date that Llama's templates write where they are told none.
  package static let usualDate = TemplateClock(year: 2024, month: 7, day: 26, hour: 0, minute: 0, second: 0)
}
