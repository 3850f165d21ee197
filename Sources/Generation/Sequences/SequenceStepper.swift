import Tokenization

/// One sequence while it is continued: which of its tokens have run, how the next one is chosen, what text is certain, and when
/// it ends.
///
/// ``ForwardPass`` moves any number of steppers on together. A terminal drives one, an engine drives many; an answer is the
/// same either way.
package final class SequenceStepper {
  package let request: GenerationRequest
  /// The cache that holds the tokens that have run.
  package let sequence: CachedSequence
  /// Tokens of the prompt that were in the cache beforehand.
  package let reusedTokens: Int
  private let tokenCount: Int
  private let unusedIDs: [Range<Int>]
  private var sampler: Sampler
  private var text: AnswerText
  /// Prompt and generated tokens.
  private var context: [Int]

  /// - Parameters:
  ///   - request: its prompt is valid, see ``GenerationRequest/validate(contextLimit:tokenCount:)``.
  ///   - sequence: what ``CachePool/acquire(_:)`` gave for the request.
  package init(_ request: GenerationRequest, in sequence: CachedSequence, tokenizer: any Tokenizer) {
    self.request = request
    self.sequence = sequence
    reusedTokens = sequence.tokens.count
    tokenCount = tokenizer.tokenCount
    unusedIDs = tokenizer.unusedIDs
    sampler = Sampler(request.sampling)
    text = AnswerText(tokenizer, stops: request.stopStrings)
    context = request.prompt
  }

  /// Tokens generated so far, without a stop token.
  package var newTokens: ArraySlice<Int> { context[request.prompt.count...] }
  /// Whether the prompt has run: one token of the answer is known at least.
  package var isGenerating: Bool { context.count > request.prompt.count }
  /// Whether the limit of new tokens and the context allow one more.
  package var hasRoom: Bool {
    newTokens.count < request.maximumNewTokens && context.count < sequence.cache.capacity
  }
  /// Tokens that are not in the cache yet: the rest of the prompt, or the token generated last.
  var pendingTokens: ArraySlice<Int> { context[sequence.tokens.count...] }

  /// What choosing the next token needs. It can be handed to another thread.
  var chooser: TokenChooser {
    TokenChooser(
      sampler: sampler, context: context, generatedFrom: request.prompt.count, tokenCount: tokenCount,
      unusedIDs: unusedIDs, topLogprobs: request.topLogprobs)
  }

  /// Takes the token that the stepper's chooser chose.
  func take(_ choice: TokenChooser.Choice) -> Step {
    guard let chosen = choice.token else { return .failed(.notFinite) }
    sampler = choice.sampler
    guard !request.stopTokens.contains(chosen.id) else { return .finished(.stop, last: nil) }
    context.append(chosen.id)
    // Ids are below the tokenizer's count, so this cannot fail.
    let piece = (try? text.push(chosen.id)) ?? ""
    let token = GeneratedToken(id: chosen.id, text: piece, logprobs: chosen.logprobs)
    if text.isStopped { return .finished(.stop, last: token) }
    return hasRoom ? .goesOn(token) : .finished(.length, last: token)
  }

  /// Text that was held back because more might have followed. Call it once, at the end.
  package func heldText() -> String { text.finish() }
}

/// A token of an answer. `text` is what is certain now that it is known: it may lag behind the tokens.
package struct GeneratedToken: Sendable {
  package var id: Int
  package var text: String
  package var logprobs: TokenLogprobs?
}

/// What a forward pass did for a sequence whose pending tokens all ran.
package enum Step: Sendable {
  case goesOn(GeneratedToken)
  /// The answer is complete. `last` is nil when a stop token ended it.
  case finished(FinishReason, last: GeneratedToken?)
  case failed(GenerationError)

  package var token: GeneratedToken? {
    switch self {
    case .goesOn(let token): token
    case .finished(_, let token): token
    case .failed: nil
    }
  }
}

/// Chooses the next token of one sequence.
struct TokenChooser: Sendable {
  let sampler: Sampler
  /// Prompt and generated tokens; `generatedFrom` is where the generated ones begin.
  let context: [Int]
  let generatedFrom: Int
  /// Ids from this one on are padding of the vocabulary and never chosen.
  let tokenCount: Int
  /// Ids without a token; never chosen either.
  let unusedIDs: [Range<Int>]
  let topLogprobs: Int?

  struct Choice: Sendable {
    /// Nil when the logits are not finite.
    var token: (id: Int, logprobs: TokenLogprobs?)?
    /// The sampler after its draw.
    var sampler: Sampler
  }

  /// - Parameter logits: after everything in `context`; changed in place.
  func choose(_ logits: UnsafeMutableBufferPointer<Float>) -> Choice {
    let logits = UnsafeMutableBufferPointer(rebasing: logits[..<min(tokenCount, logits.count)])
    guard Logits.areFinite(UnsafeBufferPointer(logits)) else { return Choice(token: nil, sampler: sampler) }
    for ids in unusedIDs { for id in ids.clamped(to: logits.indices) { logits[id] = -.infinity } }
    let original = topLogprobs.map { _ in Array(logits) }
    var sampler = sampler
    let id = sampler.choose(
      logits, tokenCount: tokenCount, context: context, generatedFrom: generatedFrom)
    let logprobs = original?.withUnsafeBufferPointer {
      TokenLogprobs($0, chosen: id, topCount: topLogprobs ?? 0)
    }
    return Choice(token: (id, logprobs), sampler: sampler)
  }
}
