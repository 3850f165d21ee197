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
    let bare = tokenizer.encode(text, specials: specials, addingAffixes: false)
    let (prefix, suffix) = addingAffixes ? tokenizer.affixes : ([], [])
    let added = bare.starts(with: prefix) ? [] : prefix
    let own = added.count..<added.count + bare.count
    ids = added + bare + suffix
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
    (try? tokenizer.bytes(of: id, skippingSpecials: skippingSpecials)) ?? []
  }
}
