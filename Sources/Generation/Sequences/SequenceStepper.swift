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
  let tokenizer: any Tokenizer
  private var sampler: Sampler
  private var text: AnswerText
  private var reports = TokenReports()
  /// Prompt and generated tokens.
  private var context: [Int]
  private var promptScores: [TokenLogprobs] = []

  /// - Parameters:
  ///   - request: its prompt is valid, see ``GenerationRequest/validate(contextLimit:tokenizer:rows:)``.
  ///   - sequence: what ``CachePool/acquire(_:)`` gave for the request.
  package init(_ request: GenerationRequest, in sequence: CachedSequence, tokenizer: any Tokenizer) {
    self.request = request
    self.sequence = sequence
    self.tokenizer = tokenizer
    reusedTokens = sequence.tokens.count
    sampler = Sampler(request.sampling)
    text = AnswerText(stops: request.stopStrings, includesStop: request.includesStop)
    context = request.prompt
  }

  /// Tokens generated so far, without a stop token that is not part of the answer.
  package var newTokens: ArraySlice<Int> { context[request.prompt.count...] }
  /// Whether the prompt has run: one token of the answer is known at least.
  package var isGenerating: Bool { context.count > request.prompt.count }
  /// Whether the limit of new tokens and the context allow one more.
  package var hasRoom: Bool {
    newTokens.count < request.maximumNewTokens && context.count < sequence.cache.capacity
  }
  /// Whether the model still has to run: for the next token, or for log probabilities of the prompt.
  package var hasWork: Bool { hasRoom || !unscoredTokens.isEmpty }
  /// Tokens that are not in the cache yet: the rest of the prompt, or the token generated last.
  var pendingTokens: ArraySlice<Int> { context[sequence.tokens.count...] }

  // MARK: The prompt's log probabilities

  /// Tokens of the prompt whose log probabilities are asked for and not known.
  private var unscoredTokens: ArraySlice<Int> {
    request.promptLogprobs == nil ? [] : request.prompt[(1 + promptScores.count)...]
  }

  /// What the last `rows` tokens that ran decide: the tokens of the prompt that follow each of them, as many as there are.
  func tokensToScore(afterRows rows: Int) -> ArraySlice<Int> {
    guard request.promptLogprobs != nil, sequence.tokens.count - rows == promptScores.count else { return [] }
    return unscoredTokens.prefix(rows)
  }

  func take(_ scores: [TokenLogprobs]) { promptScores += scores }

  /// Log probabilities of the prompt's tokens from the second on, once they are all known; nil before, and if nobody asked.
  package var finishedPromptScores: [TokenLogprobs]? {
    request.promptLogprobs != nil && unscoredTokens.isEmpty ? promptScores : nil
  }

  // MARK: The answer

  /// What choosing the next token needs. It can be handed to another thread.
  var chooser: TokenChooser {
    TokenChooser(
      sampler: sampler, constraints: request.constraints, context: context,
      generatedFrom: request.prompt.count, tokenCount: tokenizer.tokenCount, unusedIDs: tokenizer.unusedIDs,
      topLogprobs: request.topLogprobs)
  }

  /// Takes the token that the stepper's chooser chose.
  func take(_ choice: TokenChooser.Choice) -> Step {
    sampler = choice.sampler
    let id: Int
    switch choice.result {
    case .failure(let error): return .failed(error)
    case .success(let chosen): id = chosen
    }
    let isEnd = request.stopTokens.contains(id)
    guard !isEnd || request.includesStop else {
      reports.append(AnswerToken(id: id, bytes: [], logprobs: choice.logprobs, isPartOfAnswer: false))
      return .finished(.stop, last: nil)
    }
    context.append(id)
    // Ids are below the tokenizer's count; one that no token has adds nothing.
    let bytes = (try? tokenizer.bytes(of: id, skippingSpecials: request.skipsSpecials)).flatMap { $0 } ?? []
    reports.append(AnswerToken(id: id, bytes: bytes, logprobs: choice.logprobs))
    let certain = text.push(bytes, mayStop: newTokens.count > request.constraints.minimumNewTokens)
    let ready =
      text.isStopped
      ? reports.takeAll(cutAt: text.releasedBytes) : reports.take(upTo: text.releasedBytes)
    let piece = AnswerPiece(text: certain, tokens: ready)
    if isEnd || text.isStopped { return .finished(.stop, last: piece) }
    return hasRoom ? .goesOn(piece) : .finished(.length, last: piece)
  }

  /// What was held back because more might have followed. Call it once, at the end.
  package func finish() -> AnswerPiece {
    let held = text.finish()
    return AnswerPiece(text: held, tokens: reports.takeAll(cutAt: text.releasedBytes))
  }
}

/// What a forward pass did for a sequence whose pending tokens all ran.
package enum Step: Sendable {
  case goesOn(AnswerPiece)
  /// The answer is complete. `last` is nil when no token was added to it.
  case finished(FinishReason, last: AnswerPiece?)
  case failed(GenerationError)

  /// What the token that the answer got makes certain.
  package var piece: AnswerPiece? {
    switch self {
    case .goesOn(let piece): piece
    case .finished(_, let piece): piece
    case .failed: nil
    }
  }
}

/// Chooses the next token of one sequence.
struct TokenChooser: Sendable {
  let sampler: Sampler
  let constraints: TokenConstraints
  /// Prompt and generated tokens; `generatedFrom` is where the generated ones begin.
  let context: [Int]
  let generatedFrom: Int
  /// Ids from this one on are padding of the vocabulary and never chosen.
  let tokenCount: Int
  /// Ids without a token; never chosen either.
  let unusedIDs: [Range<Int>]
  let topLogprobs: Int?

  struct Choice: Sendable {
    var result: Result<Int, GenerationError>
    var logprobs: TokenLogprobs?
    /// The sampler after its draw.
    var sampler: Sampler
  }

  /// - Parameter logits: after everything in `context`; changed in place.
  func choose(_ logits: UnsafeMutableBufferPointer<Float>) -> Choice {
    var choice = Choice(result: .failure(.notFinite), sampler: sampler)
    guard let logits = Logits.ofTokens(logits, count: tokenCount, unused: unusedIDs) else { return choice }
    let original = topLogprobs.map { _ in Array(logits) }
    guard constraints.apply(to: logits, after: context[generatedFrom...]) else {
      choice.result = .failure(.noTokenLeft)
      return choice
    }
    let id = choice.sampler.choose(
      logits, tokenCount: tokenCount, context: context, generatedFrom: generatedFrom)
    choice.result = .success(id)
    choice.logprobs = original?.withUnsafeBufferPointer {
      TokenLogprobs($0, chosen: id, topCount: topLogprobs ?? 0)
    }
    return choice
  }
}
