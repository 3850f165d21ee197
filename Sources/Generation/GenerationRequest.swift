import Files

/// One sequence to continue.
package struct GenerationRequest: Sendable {
  /// Ids in `0 ..< tokenCount`; not empty.
  package var prompt: [Int]
  package var sampling: SamplingParameters
  package var stopTokens: Set<Int>
  /// Texts that end the answer.
  package var stopStrings: [String]
  /// Most tokens to generate; the context may allow fewer.
  package var maximumNewTokens: Int
  /// Log probabilities of each token and of this many likeliest ones; nil: none.
  package var topLogprobs: Int?
  /// When the answer ends, finished or not.
  package var deadline: ContinuousClock.Instant?
  /// Clients take turns; requests of one client wait for each other.
  package var client: String

  package init(
    prompt: [Int], sampling: SamplingParameters = SamplingParameters(), stopTokens: Set<Int> = [],
    stopStrings: [String] = [], maximumNewTokens: Int, topLogprobs: Int? = nil,
    deadline: ContinuousClock.Instant? = nil, client: String = ""
  ) {
    self.prompt = prompt
    self.sampling = sampling
    self.stopTokens = stopTokens
    self.stopStrings = stopStrings
    self.maximumNewTokens = maximumNewTokens
    self.topLogprobs = topLogprobs
    self.deadline = deadline
    self.client = client
  }
}

/// Why a request was not taken, or not finished.
package enum SchedulingError: DiagnosedError, Equatable {
  case emptyPrompt
  /// More tokens than the context has room for, one for an answer included.
  case promptTooLong(tokens: Int, limit: Int)
  case unknownToken(id: Int, tokenCount: Int)
  /// As many requests wait as may.
  case queueFull(waiting: Int, retryAfterSeconds: Int)
  case shuttingDown
  /// The request's time was over before its turn came.
  case timedOut
  /// A weight is NaN or infinite.
  case notFinite

  package var description: String {
    switch self {
    case .emptyPrompt: "the prompt has no tokens"
    case .promptTooLong(let tokens, let limit):
      "the prompt has \(tokens) tokens; the context has room for \(limit)"
    case .unknownToken(let id, let count): "token id \(id) is not in 0..<\(count)"
    case .queueFull(let waiting, let seconds):
      "\(waiting) requests are waiting already; try again in \(seconds) seconds"
    case .shuttingDown: "the server is shutting down"
    case .timedOut: "the request waited longer than its time limit"
    case .notFinite: "the logits are not finite; a weight may be NaN or infinite"
    }
  }

  package var category: FailureCategory {
    switch self {
    case .emptyPrompt, .promptTooLong, .unknownToken: .usage
    case .queueFull, .shuttingDown, .timedOut: .inputOutput
    case .notFinite: .badInput
    }
  }
}

/// What happens to a request, in order.
package enum GenerationEvent: Sendable {
  /// A token was chosen. `text` is what is certain now: it may lag behind the tokens.
  case token(id: Int, text: String, logprobs: TokenLogprobs?)
  /// The last event of a request that ran. `text` is what was held back.
  case finished(GenerationSummary, text: String)
  /// The last event of a request that did not.
  case failed(SchedulingError)

  var isLast: Bool { if case .token = self { false } else { true } }
}

/// What a finished request took.
package struct GenerationSummary: Equatable, Sendable {
  package var reason: GenerationResult.FinishReason
  package var promptTokens: Int
  /// Prompt tokens that an earlier request had left in the cache.
  package var reusedTokens: Int
  package var newTokens: Int
}
