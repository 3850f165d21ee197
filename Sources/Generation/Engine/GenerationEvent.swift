/// What happens to a request, in order.
package enum GenerationEvent: Sendable {
  /// The prompt has run: log probabilities of its tokens from the second on, for requests that ask for them.
  case prompt([TokenLogprobs])
  /// A token was chosen: what is certain now of the answer, perhaps nothing.
  case piece(AnswerPiece)
  /// The last event of a request that ran, with what was held back.
  case finished(GenerationSummary, AnswerPiece)
  /// The last event of a request that did not.
  case failed(GenerationError)

  var isLast: Bool {
    switch self {
    case .prompt, .piece: false
    case .finished, .failed: true
    }
  }
}

/// What a finished request took.
package struct GenerationSummary: Equatable, Sendable {
  package var reason: FinishReason
  package var promptTokens: Int
  /// Prompt tokens that an earlier request had left in the cache.
  package var reusedTokens: Int
  package var newTokens: Int

  package init(reason: FinishReason, promptTokens: Int, reusedTokens: Int, newTokens: Int) {
    self.reason = reason
    self.promptTokens = promptTokens
    self.reusedTokens = reusedTokens
    self.newTokens = newTokens
  }
}
