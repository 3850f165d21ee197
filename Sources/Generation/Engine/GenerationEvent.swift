/// What happens to a request, in order.
package enum GenerationEvent: Sendable {
  /// A token was chosen.
  case token(GeneratedToken)
  /// The last event of a request that ran. `text` is what was held back.
  case finished(GenerationSummary, text: String)
  /// The last event of a request that did not.
  case failed(GenerationError)

  var isLast: Bool { if case .token = self { false } else { true } }
}

/// What a finished request took.
package struct GenerationSummary: Equatable, Sendable {
  package var reason: FinishReason
  package var promptTokens: Int
  /// Prompt tokens that an earlier request had left in the cache.
  package var reusedTokens: Int
  package var newTokens: Int
}
