/// Tokens that a request rules out, whatever the model thinks of them.
package struct TokenConstraints: Equatable, Sendable {
  /// The only tokens that may be chosen; nil: all.
  package var allowed: Set<Int>?
  /// Token sequences that the answer must not hold: the last token of one is ruled out where it would complete it.
  package var bannedSequences: [[Int]]
  /// Until the answer has so many tokens, none of `endTokens` is chosen and no stop string counts.
  package var minimumNewTokens: Int
  package var endTokens: Set<Int>

  package init(
    allowed: Set<Int>? = nil, bannedSequences: [[Int]] = [], minimumNewTokens: Int = 0,
    endTokens: Set<Int> = []
  ) {
    self.allowed = allowed
    self.bannedSequences = bannedSequences.filter { !$0.isEmpty }
    self.minimumNewTokens = minimumNewTokens
    self.endTokens = endTokens
  }

  /// Sets the logits of tokens that are ruled out to −∞.
  /// - Parameter answer: the tokens generated so far.
  /// - Returns: false when no token is left.
  func apply(to logits: UnsafeMutableBufferPointer<Float>, after answer: ArraySlice<Int>) -> Bool {
    if let allowed {
      let kept = Array(allowed.lazy.filter(logits.indices.contains).map { ($0, logits[$0]) })
      logits.update(repeating: -.infinity)
      for (id, logit) in kept { logits[id] = logit }
    }
    for sequence in bannedSequences {
      let last = sequence[sequence.count - 1]
      if logits.indices.contains(last) && answer.suffix(sequence.count - 1).elementsEqual(sequence.dropLast())
      {
        logits[last] = -.infinity
      }
    }
    if answer.count < minimumNewTokens {
      for id in endTokens where logits.indices.contains(id) { logits[id] = -.infinity }
    }
    return logits.contains { $0 > -.infinity }
  }
}
