import Tokenization

/// A prompt of `/v1/completions`.
package struct CompletionPrompt: Sendable {
  package var ids: [Int]
  /// What an answer that echoes its prompt begins with.
  var text: String
  /// What each token adds to the prompt's text: nothing for those that the tokenizer puts around it.
  var bytes: @Sendable () -> [[UInt8]]

  /// - Parameter addingAffixes: whether the tokens that the tokenizer puts around a text are added. One that the text begins with
  ///   itself is not doubled.
  init(_ text: String, tokenizer: any Tokenizer, specials: SpecialTokens, addingAffixes: Bool) {
    self.text = text
    var ids = tokenizer.encode(text, specials: specials, addingAffixes: addingAffixes)
    var own = 0..<ids.count
    if addingAffixes && !tokenizer.encode("", specials: .plain, addingAffixes: true).isEmpty {
      let bare = tokenizer.encode(text, specials: specials, addingAffixes: false)
      let prefix = ids.count - bare.count == 0 ? 0 : ids.indices.first { ids[$0...].starts(with: bare) } ?? 0
      if prefix > 0 && bare.starts(with: ids[..<prefix]) {
        ids.removeFirst(prefix)
        own = 0..<bare.count
      } else {
        own = prefix..<prefix + bare.count
      }
    }
    self.ids = ids
    bytes = { [ids, own] in
      ids.enumerated().map { index, id in
        own.contains(index) ? CompletionPrompt.bytes(of: id, tokenizer, skippingSpecials: false) : []
      }
    }
  }

  /// - Parameter skipsSpecials: whether special tokens have no text.
  init(ids: [Int], tokenizer: any Tokenizer, skipsSpecials: Bool) {
    self.ids = ids
    text = (try? tokenizer.decode(ids, skippingSpecials: skipsSpecials)) ?? ""
    bytes = { ids.map { CompletionPrompt.bytes(of: $0, tokenizer, skippingSpecials: skipsSpecials) } }
  }

  private static func bytes(of id: Int, _ tokenizer: any Tokenizer, skippingSpecials: Bool) -> [UInt8] {
    (try? tokenizer.bytes(of: id, skippingSpecials: skippingSpecials)).flatMap { $0 } ?? []
  }
}
