import Generation
import JSON

/// A request for answers, decoded: what to generate, and how to report it.
package struct AnswerRequest: Sendable {
  package enum Endpoint: Sendable {
    case chat
    /// `echo`: the prompts, when answers begin with them.
    case completion(echo: [CompletionPrompt]?)

    var echo: [CompletionPrompt]? { if case .completion(let echo) = self { echo } else { nil } }
  }
  package var endpoint: Endpoint
  package var model: ServedModel
  package var options: GenerationOptions
  package var prompts: [[Int]]
  package var reports: Reports
  /// What the client should know of its request.
  package var warnings: [String]

  /// What is reported beside the text.
  package struct Reports: Sendable {
    /// Log probabilities of each token, and of so many likeliest ones.
    package var topLogprobs: Int?
    /// The same of the prompt's tokens, in vLLM's form.
    package var promptLogprobs: Int?
    /// Tokens are called by their ids instead of their texts.
    var namesTokensByID: Bool
    /// The ids of prompts and answers.
    var hasTokenIDs: Bool

    static let mostLogprobs = 20

    /// - Parameter topLogprobs: which endpoints ask for in different ways.
    init(_ fields: JSONFields, topLogprobs: Int?, streams: Bool) throws(JSONFieldError) {
      self.topLogprobs = topLogprobs
      promptLogprobs = try fields.integer("prompt_logprobs", in: 0...Reports.mostLogprobs)
      if promptLogprobs != nil && streams {
        throw fields.refusal("prompt_logprobs", "is not available with stream")
      }
      namesTokensByID = try fields.bool("return_tokens_as_token_ids") ?? false
      hasTokenIDs = try fields.bool("return_token_ids") ?? false
    }
  }
}

extension AnswerRequest {
  /// The prompts as far as the request and the context let them be.
  static func truncated(_ prompt: [Int], _ options: GenerationOptions, _ model: ServedModel) -> [Int] {
    options.truncation?.apply(
      to: prompt, contextLimit: model.engine.limits.contextLimit, newTokens: options.maximumNewTokens)
      ?? prompt
  }

  /// Log probabilities of prompts that the engine has to find.
  private var scoredPromptTokens: Int? {
    let echoed = endpoint.echo == nil ? nil : reports.topLogprobs
    guard let asked = reports.promptLogprobs else { return echoed }
    return max(asked, echoed ?? 0)
  }

  /// One request to the engine for each answer; answers to one prompt differ in their seeds.
  package func generationRequests(client: String, timeLimit: Duration, tokenLimit: Int) -> [GenerationRequest]
  {
    let context = model.engine.limits.contextLimit
    return prompts.flatMap { prompt in
      (0..<options.choices).map { choice in
        var sampling = options.sampling
        sampling.seed &+= UInt64(choice)
        return GenerationRequest(
          prompt: prompt, sampling: sampling, stopTokens: options.stopTokens,
          stopStrings: options.stopStrings, includesStop: options.includesStop,
          skipsSpecials: options.skipsSpecials, constraints: options.constraints,
          maximumNewTokens: max(0, min(options.maximumNewTokens, tokenLimit, context - prompt.count)),
          topLogprobs: reports.topLogprobs, promptLogprobs: scoredPromptTokens, deadline: .now + timeLimit,
          client: client, variant: model.variant)
      }
    }
  }
}
