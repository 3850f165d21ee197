import Files

/// Why text cannot be generated, or a request is not taken or not finished.
package enum GenerationError: DiagnosedError, Equatable {
  case emptyPrompt
  /// The prompt leaves no room for an answer in a context that has room for `limit` tokens of prompt.
  case promptTooLong(tokens: Int, limit: Int)
  /// The same for a message of a conversation with all that its chat template adds.
  case messageTooLong(tokens: Int, limit: Int)
  case unknownToken(id: Int, tokenCount: Int)
  /// The tokenizer has the token; the model's embedding ends before it.
  case tokenWithoutRow(name: String, id: Int, rows: Int)
  /// An answer was asked for before anything was said.
  case nothingToAnswer
  /// The logits are NaN or infinite, which means that a weight is.
  case notFinite
  /// The request rules out every token that could come next.
  case noTokenLeft
  /// As many requests wait as may.
  case queueFull(waiting: Int, retryAfterSeconds: Int)
  case shuttingDown
  /// The request's time was over before its turn came.
  case timedOut
  /// Not even a short conversation fits into the memory limit. All counts are bytes; `work` is what the largest forward pass
  /// needs, `token` what one token takes in the caches.
  case memoryLimitTooSmall(limit: Int, needed: Int, weights: Int, work: Int, token: Int)

  package var description: String {
    switch self {
    case .emptyPrompt: "the prompt has no tokens"
    case .promptTooLong(let tokens, let limit):
      "the prompt has \(tokens) tokens; the context has room for \(limit)"
    case .messageTooLong(let tokens, let limit):
      "the message and the text that the chat template puts around it are \(tokens) tokens; the context has room for "
        + "\(limit). Shorten the message, or give a larger --context-size"
    case .unknownToken(let id, let count): "token id \(id) is not in 0..<\(count)"
    case .tokenWithoutRow(let name, let id, let rows):
      "the prompt holds the token \(name) with id \(id), but the model's embedding has only \(rows) rows: the token was "
        + "added to the tokenizer without enlarging the embedding. Leave it out of the prompt, or enlarge the embedding"
    case .nothingToAnswer: "there is nothing to answer yet"
    case .notFinite: "the logits are not finite; a weight may be NaN or infinite"
    case .noTokenLeft:
      "the allowed tokens, the bad words and the minimum length leave no token that could come next"
    case .queueFull(let waiting, let seconds):
      "\(waiting) requests are waiting already; try again in \(seconds) seconds"
    case .shuttingDown: "the server is shutting down"
    case .timedOut: "the request waited longer than its time limit"
    case .memoryLimitTooSmall(let limit, let needed, let weights, let work, let token):
      "the memory limit of \(limit) bytes is too small: at least \(needed) bytes are needed "
        + "(weights \(weights), work \(work), \(token) a token)"
    }
  }

  package var category: FailureCategory {
    switch self {
    case .emptyPrompt, .unknownToken, .tokenWithoutRow, .nothingToAnswer, .noTokenLeft, .memoryLimitTooSmall:
      .usage
    case .promptTooLong, .messageTooLong, .notFinite: .badInput
    case .queueFull, .shuttingDown, .timedOut: .inputOutput
    }
  }
}
