import Generation

/// A request for answers, decoded: what to generate, and how to report it.
package struct AnswerRequest: Sendable {
  package enum Endpoint: Sendable {
    case chat
    /// `echo`: the prompts, when answers begin with them.
    case completion(echo: [String]?)
  }
  package var endpoint: Endpoint
  package var model: ServedModel
  package var options: GenerationOptions
  package var prompts: [[Int]]
  /// Log probabilities of each token, and of so many likeliest ones.
  package var topLogprobs: Int?
}

extension AnswerRequest {
  /// One request to the engine for each answer; answers to one prompt differ in their seeds.
  package func generationRequests(client: String, timeLimit: Duration, tokenLimit: Int) -> [GenerationRequest]
  {
    let context = model.engine.limits.contextLimit
    let wanted = options.maximumNewTokens ?? model.defaults.newTokens
    return prompts.flatMap { prompt in
      (0..<options.choices).map { choice in
        var sampling = options.sampling
        sampling.seed &+= UInt64(choice)
        return GenerationRequest(
          prompt: prompt, sampling: sampling, stopTokens: options.stopTokens,
          stopStrings: options.stopStrings,
          maximumNewTokens: max(0, min(wanted, tokenLimit, context - prompt.count)), topLogprobs: topLogprobs,
          deadline: .now + timeLimit, client: client)
      }
    }
  }
}
