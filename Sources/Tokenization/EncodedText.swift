/// Ids of one text, or of a pair of texts, with the special tokens that an encoder wants around them.
package struct EncodedText: Equatable, Sendable {
  package var ids: [Int]
  /// For each id the text it belongs to: 0, or 1 for the second of a pair and what closes it.
  package var typeIDs: [Int]
  /// Whether ids were cut off because there were more than the maximum.
  package var isTruncated: Bool
  /// Ids at the start that a prompt put before the text takes, `[CLS]` among them; 0: there is no prompt.
  package var promptLength = 0

  package init(ids: [Int], typeIDs: [Int], isTruncated: Bool = false) {
    precondition(ids.count == typeIDs.count)
    self.ids = ids
    self.typeIDs = typeIDs
    self.isTruncated = isTruncated
  }
}

/// From which end a text that is too long is cut.
package enum TruncationSide: String, Sendable, CaseIterable { case left, right }

/// How a text or a pair that is too long is shortened.
package enum Truncation: String, Sendable, CaseIterable {
  /// The longer of the two loses ids until they fit; a single text loses what is too much.
  case longestFirst = "longest_first"
  /// Only the second text is cut.
  case onlySecond = "only_second"
}

/// A tokenizer of encoders, which puts special tokens around a text and between the two of a pair.
package protocol PairTokenizer: Tokenizer {
  /// The ids that a text loses to special tokens: 2 for one text, 3 for a pair.
  func addedTokenCount(isPair: Bool) -> Int

  /// `[CLS] text [SEP]`, or `[CLS] text [SEP] pair [SEP]`.
  /// - Parameters:
  ///   - maximumLength: of the ids, special ones included; nil: no limit.
  /// - Throws: ``TokenizationError`` when the limit leaves no room for the special tokens.
  func encode(
    _ text: String, pair: String?, maximumLength: Int?, truncation: Truncation, side: TruncationSide,
    specials: SpecialTokens
  ) throws -> EncodedText
}
