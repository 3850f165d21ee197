import Generation
import JSON
import Tokenization

extension TokenConstraints {
  private static let mostWords = 256

  /// Decodes `min_tokens`, `allowed_token_ids` and `bad_words`, which mean what they mean to vLLM.
  /// - Parameters:
  ///   - endTokens: what `min_tokens` rules out at first.
  ///   - maximumNewTokens: of the answer.
  init(
    _ fields: JSONFields, tokenizer: any Tokenizer, endTokens: Set<Int>, maximumNewTokens: Int
  ) throws(JSONFieldError) {
    let least = try fields.integer("min_tokens", in: 0...Int.max) ?? 0
    guard least <= maximumNewTokens else {
      throw fields.refusal("min_tokens", "is larger than the maximum number of tokens, \(maximumNewTokens)")
    }
    let ids = 0...max(0, tokenizer.tokenCount - 1)
    let allowed = try fields.integers("allowed_token_ids", in: ids, most: ids.count)
    if let allowed, allowed.isEmpty {
      throw fields.unexpected("allowed_token_ids", expected: "one token id at least")
    }
    self.init(
      allowed: allowed.map { Set($0) },
      bannedSequences: try TokenConstraints.sequences(fields, tokenizer: tokenizer), minimumNewTokens: least,
      endTokens: endTokens)
  }

  /// Each word as it stands at the beginning of a text and after a space.
  private static func sequences(_ fields: JSONFields, tokenizer: any Tokenizer) throws(JSONFieldError)
    -> [[Int]]
  {
    var sequences: [[Int]] = []
    for word in try fields.strings("bad_words", most: mostWords) {
      let core = String(decoding: word.utf8.drop { $0 == 32 || (9...13).contains($0) }, as: UTF8.self)
      guard (1...1024).contains(word.utf8.count), !core.isEmpty else {
        throw fields.unexpected("bad_words", expected: "words of 1 to 1024 bytes")
      }
      let bare = tokenizer.encode(core, specials: .recognized, addingAffixes: false)
      let spaced = tokenizer.encode(" " + core, specials: .recognized, addingAffixes: false)
      guard !bare.isEmpty else { throw fields.refusal("bad_words", "has a word without tokens") }
      sequences += spaced == bare ? [bare] : [bare, spaced]
    }
    return sequences
  }
}
