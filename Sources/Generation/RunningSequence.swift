import Tokenization

/// A request that has a cache: what it has run, what comes next.
final class RunningSequence {
  let submission: GenerationEngine.Submission
  let cached: CachedSequence
  let reusedTokens: Int
  private var sampler: Sampler
  private var text: AnswerText
  /// Prompt and generated tokens.
  private var context: [Int]
  private(set) var lastTokenTime: ContinuousClock.Instant?

  init(_ submission: GenerationEngine.Submission, cached: CachedSequence, tokenizer: any Tokenizer) {
    self.submission = submission
    self.cached = cached
    reusedTokens = cached.tokens.count
    sampler = Sampler(submission.request.sampling)
    text = AnswerText(tokenizer, stops: submission.request.stopStrings)
    context = submission.request.prompt
  }

  var request: GenerationRequest { submission.request }
  var newTokens: Int { context.count - request.prompt.count }
  /// Tokens that are not in the cache yet: the rest of the prompt, or the one generated last.
  var pendingTokens: ArraySlice<Int> { context[cached.tokens.count...] }
  var isGenerating: Bool { newTokens > 0 }

  /// Chooses the next token.
  /// - Parameter logits: after everything in `context`; changed.
  func advance(_ logits: UnsafeMutableBufferPointer<Float>, tokenCount: Int) -> Outcome {
    let logits = UnsafeMutableBufferPointer(rebasing: logits[..<min(tokenCount, logits.count)])
    guard Sampler.areFinite(UnsafeBufferPointer(logits)) else { return .failed(.notFinite) }
    let original = request.topLogprobs.map { _ in Array(logits) }
    let id = sampler.choose(
      logits, tokenCount: tokenCount, context: context, generatedFrom: request.prompt.count)
    if request.stopTokens.contains(id) { return .finished(.stop) }
    context.append(id)
    let logprobs = original.map { original in
      original.withUnsafeBufferPointer {
        TokenLogprobs($0, chosen: id, topCount: request.topLogprobs ?? 0)
      }
    }
    // Ids are below the tokenizer's count, so this cannot fail.
    let piece = (try? text.push(id)) ?? ""
    lastTokenTime = .now
    post(.token(id: id, text: piece, logprobs: logprobs))
    if text.isStopped { return .finished(.stop) }
    if newTokens >= request.maximumNewTokens || context.count >= cached.cache.capacity {
      return .finished(.length)
    }
    return .goesOn
  }

  enum Outcome {
    case goesOn
    case finished(GenerationResult.FinishReason)
    case failed(SchedulingError)
  }

  func finish(_ reason: GenerationResult.FinishReason) {
    let summary = GenerationSummary(
      reason: reason, promptTokens: request.prompt.count, reusedTokens: reusedTokens, newTokens: newTokens)
    post(.finished(summary, text: text.finish()))
  }

  func post(_ event: GenerationEvent) { submission.ticket.post(event, index: submission.index) }
}
