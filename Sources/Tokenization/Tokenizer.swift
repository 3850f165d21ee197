import Files

/// Which special tokens a text may contain.
package enum SpecialTokens: Sendable {
  /// The text of a special token becomes that token, wherever it stands. What the reference tokenizers do.
  case recognized
  /// Text is only text: `<|im_end|>` from a user is encoded as ordinary characters.
  case plain
}

/// Text to token ids and back.
package protocol Tokenizer: Sendable {
  /// Ids run from 0 up to this, exclusive. The model's vocabulary may have more rows.
  var tokenCount: Int { get }
  /// Special tokens by their text.
  var specialTokens: [ByteText: Int] { get }
  /// Where the files that it was made of disagree, and which counts.
  var discrepancies: [Discrepancy] { get }
  /// Ids below ``tokenCount`` that no token has, in rising order: a model never means them.
  var unusedIDs: [Range<Int>] { get }
  /// Ids that text becomes without naming an added token are below this.
  var ordinaryTokenCount: Int { get }
  /// Ids that the post-processor puts before and after a text.
  var affixes: (prefix: [Int], suffix: [Int]) { get }
  /// Finds special tokens in text, with the white space that they swallow.
  var specialSplitter: SpecialTokenSplitter { get }
  /// Whether something is put before a text that begins anew, for example SentencePiece's space.
  var marksTextStart: Bool { get }

  /// Encodes `text`. Nothing is added at either end unless `addingAffixes` and the tokenizer's post-processor says so
  /// (for example Llama 3's `<|begin_of_text|>`).
  func encode(_ text: String, specials: SpecialTokens, addingAffixes: Bool) -> [Int]

  /// Encodes text that goes on after other tokens, and adds nothing at either end.
  func encodeContinuation(_ text: String, specials: SpecialTokens) -> [Int]

  /// An id that no token has adds nothing to the text.
  /// - Throws: ``TokenizationError`` for an id outside `0 ..< tokenCount`.
  func decode(_ ids: [Int], skippingSpecials: Bool) throws -> String

  /// Bytes one id adds to the decoded text, specials by their name; `nil` for ids that decoding skips.
  /// What decoding does at the start of a text is left undone: the id may stand anywhere.
  func bytes(of id: Int, skippingSpecials: Bool) throws -> [UInt8]?
}

extension Tokenizer {
  package var discrepancies: [Discrepancy] { [] }
  package func encode(_ text: String) -> [Int] { encode(text, specials: .recognized, addingAffixes: false) }
  package func decode(_ ids: [Int]) throws -> String { try decode(ids, skippingSpecials: false) }

  package var unusedIDs: [Range<Int>] { [] }
  package var affixes: (prefix: [Int], suffix: [Int]) { ([], []) }
  package var specialSplitter: SpecialTokenSplitter {
    SpecialTokenSplitter(specialTokens.map { AddedToken(id: $1, bytes: Array($0.text.utf8)) })
  }
  package var ordinaryTokenCount: Int { tokenCount }
  package var marksTextStart: Bool { false }
  package func encodeContinuation(_ text: String, specials: SpecialTokens) -> [Int] {
    encode(text, specials: specials, addingAffixes: false)
  }
}
