import Tokenization
import Transformer

/// One sequence to continue.
package struct GenerationRequest: Sendable {
  /// Ids in `0 ..< tokenCount`; not empty.
  package var prompt: [Int]
  package var sampling: SamplingParameters
  package var stopTokens: Set<Int>
  /// Texts that end the answer.
  package var stopStrings: [String]
  /// Whether the answer ends with what stopped it, or before it.
  package var includesStop: Bool
  /// Whether special tokens leave no text in the answer, or their names.
  package var skipsSpecials: Bool
  /// Tokens that are ruled out.
  package var constraints: TokenConstraints
  /// The maximum number of tokens to generate; the context may allow fewer.
  package var maximumNewTokens: Int
  /// Report log probabilities of each token and of this many likeliest ones; nil: none.
  package var topLogprobs: Int?
  /// Report the same of each token of the prompt but the first. The prompt then runs whole, even if nothing is generated.
  package var promptLogprobs: Int?
  /// When the answer ends, finished or not. An engine heeds it.
  package var deadline: ContinuousClock.Instant?
  /// Clients take turns in an engine's queue; requests of one client wait for each other.
  package var client: String
  /// Which of the model's weights compute the answer (``KVCache/variant``): 0 stands for its own, others for those of adapters.
  package var variant: Int

  package init(
    prompt: [Int], sampling: SamplingParameters = SamplingParameters(), stopTokens: Set<Int> = [],
    stopStrings: [String] = [], includesStop: Bool = false, skipsSpecials: Bool = true,
    constraints: TokenConstraints = TokenConstraints(), maximumNewTokens: Int, topLogprobs: Int? = nil,
    promptLogprobs: Int? = nil, deadline: ContinuousClock.Instant? = nil, client: String = "",
    variant: Int = 0
  ) {
    self.prompt = prompt
    self.sampling = sampling
    self.stopTokens = stopTokens
    self.stopStrings = stopStrings
    self.includesStop = includesStop
    self.skipsSpecials = skipsSpecials
    self.constraints = constraints
    self.maximumNewTokens = maximumNewTokens
    self.topLogprobs = topLogprobs
    self.promptLogprobs = promptLogprobs
    self.deadline = deadline
    self.client = client
    self.variant = variant
  }

  /// Checks the prompt before anything runs.
  /// - Parameters:
  ///   - contextLimit: tokens of prompt and answer together.
  ///   - rows: of the model's embedding.
  package func validate(contextLimit: Int, tokenizer: any Tokenizer, rows: Int) throws(GenerationError) {
    if let id = prompt.first(where: { $0 >= rows && $0 < tokenizer.tokenCount }) {
      let name = (try? tokenizer.bytes(of: id, skippingSpecials: false)) ?? []
      throw .tokenWithoutRow(name: String(decoding: name, as: UTF8.self), id: id, rows: rows)
    }
    try validate(contextLimit: contextLimit, tokenCount: min(tokenizer.tokenCount, rows))
  }

  /// Checks the prompt before anything runs.
  /// - Parameters:
  ///   - contextLimit: tokens of prompt and answer together.
  ///   - tokenCount: ids of the tokenizer.
  package func validate(contextLimit: Int, tokenCount: Int) throws(GenerationError) {
    guard !prompt.isEmpty else { throw .emptyPrompt }
    guard prompt.count < contextLimit else {
      throw .promptTooLong(tokens: prompt.count, limit: contextLimit - 1)
    }
    if let id = prompt.first(where: { $0 < 0 || $0 >= tokenCount }) {
      throw .unknownToken(id: id, tokenCount: tokenCount)
    }
  }
}

/// Why an answer ended.
package enum FinishReason: String, Sendable {
  /// A stop token was chosen, or a stop string came.
  case stop
  /// The limit of new tokens, of the context or of time was reached.
  case length
  /// The caller asked to stop.
  case cancelled
}
