import Tokenization
import Transformer

/// What a generation produced.
package struct GenerationResult: Equatable, Sendable {
  package var tokens: [Int]
  package var text: String
  package var finishReason: FinishReason
  /// Tokens of the prompt that ran, all of them unless it was cancelled; those that were in the cache are not counted.
  package var promptTokens: Int
  package var promptSeconds: Double
  package var generationSeconds: Double
}

/// Continues one sequence to its end.
package struct TextGenerator: Sendable {
  package let model: any LanguageModel
  package let tokenizer: any Tokenizer
  /// Prompt tokens that run through the layers together, and cannot be interrupted meanwhile.
  private let promptChunk: Int

  package init(
    model: any LanguageModel, tokenizer: any Tokenizer, promptChunk: Int = ForwardPass.promptTokens
  ) {
    precondition(promptChunk > 0)
    self.model = model
    self.tokenizer = tokenizer
    self.promptChunk = promptChunk
  }

  /// - Parameters:
  ///   - sequence: what a ``CachePool`` gave for the request, or an empty one. It holds prompt and new tokens afterwards, as far
  ///     as they ran: the last new token has not.
  ///   - onText: gets each piece of text as it is certain; returning false ends the generation.
  ///   - isCancelled: asked before every run of the model; true ends the generation.
  ///   - onPrompt: gets the number of the prompt's tokens that have run, before the first run of the model and after each one up to
  ///     the last of the prompt's.
  /// - Returns: the new tokens, without the stop token.
  /// - Throws: ``GenerationError`` when the prompt is empty or too long or has unknown tokens, or a weight is not finite; what
  ///   `onText` throws.
  package func generate(
    _ request: GenerationRequest, in sequence: CachedSequence,
    onText: (String) throws -> Bool = { _ in true }, isCancelled: () -> Bool = { false },
    onPrompt: (Int) -> Void = { _ in }
  ) throws -> GenerationResult {
    try request.validate(
      contextLimit: sequence.cache.capacity, tokenizer: tokenizer, rows: model.vocabularySize)
    let stepper = SequenceStepper(request, in: sequence, tokenizer: tokenizer)
    var text = ""
    func emit(_ piece: String) throws -> Bool {
      text += piece
      return piece.isEmpty ? true : try onText(piece)
    }
    if stepper.hasWork { onPrompt(stepper.reusedTokens) }
    let start = ContinuousClock.now
    var promptEnd: ContinuousClock.Instant?
    var reason = stepper.hasWork ? nil : FinishReason.length
    while reason == nil {
      if isCancelled() {
        reason = .cancelled
        break
      }
      let steps = ForwardPass([stepper], promptTokens: promptChunk).run(on: model)
      if promptEnd == nil { onPrompt(min(sequence.tokens.count, request.prompt.count)) }
      guard let step = steps.first?.step else { continue }
      promptEnd = promptEnd ?? .now
      switch step {
      case .goesOn: break
      case .finished(let finish, _): reason = finish
      case .failed(let error): throw error
      }
      if let piece = step.piece, try !emit(piece.text) { reason = .cancelled }
    }
    _ = try emit(stepper.finish().text)
    let end = ContinuousClock.now
    return GenerationResult(
      tokens: Array(stepper.newTokens), text: text, finishReason: reason ?? .length,
      promptTokens: min(sequence.tokens.count, request.prompt.count) - stepper.reusedTokens,
      promptSeconds: ((promptEnd ?? end) - start).seconds,
      generationSeconds: (end - (promptEnd ?? end)).seconds)
  }
}

extension Duration {
  package var seconds: Double { Double(components.seconds) + Double(components.attoseconds) * 1e-18 }
}
