import Compute
import Files
import Foundation
import Tokenization
import Transformer

/// Why text cannot be generated.
package struct GenerationError: DiagnosedError, Equatable {
  package var detail: String
  package var category: FailureCategory

  package init(_ detail: String, category: FailureCategory = .badInput) {
    self.detail = detail
    self.category = category
  }

  package var description: String { detail }
}

/// What a generation produced.
package struct GenerationResult: Equatable, Sendable {
  package enum FinishReason: String, Sendable {
    /// A stop token was chosen.
    case stop
    /// The limit of new tokens or of the context was reached.
    case length
    /// The caller asked to stop.
    case cancelled
  }
  package var tokens: [Int]
  package var text: String
  package var finishReason: FinishReason
  package var promptTokens: Int
  package var promptSeconds: Double
  package var generationSeconds: Double
}

/// Continues a sequence of tokens, one at a time.
package struct TextGenerator: Sendable {
  package let model: any LanguageModel
  package let tokenizer: any Tokenizer
  /// Prompt tokens that run through the layers together, and cannot be interrupted meanwhile.
  private let promptChunk: Int

  package init(model: any LanguageModel, tokenizer: any Tokenizer, promptChunk: Int = 512) {
    precondition(promptChunk > 0)
    self.model = model
    self.tokenizer = tokenizer
    self.promptChunk = promptChunk
  }

  /// - Parameters:
  ///   - prompt: ids after those already in `cache`; not empty.
  ///   - past: the ids in `cache`, for penalties that look at the whole context; empty when they do not matter.
  ///   - maximumNewTokens: at most this many are generated.
  ///   - onText: gets each piece of text as it is complete; returning false ends the generation.
  ///   - isCancelled: asked before every run of the model; true ends the generation.
  /// - Returns: the new tokens, without the stop token. `cache` holds prompt and new tokens afterwards, as far as they ran:
  ///   the last new token has not.
  package func generate(
    prompt: [Int], past: [Int] = [], cache: KVCache, sampling: SamplingParameters, stopTokens: Set<Int>,
    maximumNewTokens: Int, onText: (String) throws -> Bool = { _ in true },
    isCancelled: () -> Bool = { false }
  ) throws -> GenerationResult {
    guard !prompt.isEmpty else { throw GenerationError("the prompt has no tokens", category: .usage) }
    guard cache.count + prompt.count < cache.capacity else {
      throw GenerationError(
        "the prompt has \(prompt.count) tokens, the context has room for \(cache.capacity - cache.count - 1)")
    }
    let start = Date()
    let afterPrompt = try run(prompt, cache: cache, isCancelled: isCancelled)
    let promptSeconds = Date().timeIntervalSince(start)
    guard var last = afterPrompt else {
      return GenerationResult(
        tokens: [], text: "", finishReason: .cancelled, promptTokens: prompt.count,
        promptSeconds: promptSeconds,
        generationSeconds: 0)
    }

    var sampler = Sampler(sampling)
    var detokenizer = StreamingDetokenizer(tokenizer)
    var context = past + prompt
    let generatedFrom = context.count
    var text = ""
    var reason = GenerationResult.FinishReason.length
    func emit(_ piece: String) throws -> Bool {
      text += piece
      return piece.isEmpty ? true : try onText(piece)
    }
    var generated: [Int] = []
    while generated.count < maximumNewTokens {
      let id = sampler.choose(
        last.buffer, tokenCount: tokenizer.tokenCount, context: context, generatedFrom: generatedFrom)
      if stopTokens.contains(id) {
        reason = .stop
        break
      }
      generated.append(id)
      context.append(id)
      if try !emit(detokenizer.push(id)) {
        reason = .cancelled
        break
      }
      guard generated.count < maximumNewTokens, cache.count + 1 < cache.capacity else { break }
      guard let next = try run([id], cache: cache, isCancelled: isCancelled) else {
        reason = .cancelled
        break
      }
      last = next
    }
    _ = try emit(detokenizer.finish())
    return GenerationResult(
      tokens: generated, text: text, finishReason: reason, promptTokens: prompt.count,
      promptSeconds: promptSeconds,
      generationSeconds: Date().timeIntervalSince(start) - promptSeconds)
  }

  /// Logits after the last of `tokens`; nil when cancelled.
  private func run(_ tokens: [Int], cache: KVCache, isCancelled: () -> Bool) throws -> AlignedBuffer<Float>? {
    var logits: AlignedBuffer<Float>?
    for first in stride(from: 0, to: tokens.count, by: promptChunk) {
      if isCancelled() { return nil }
      let chunk = Array(tokens[first..<min(tokens.count, first + promptChunk)])
      let hidden = model.hiddenStates(chunk, cache: cache)
      if first + chunk.count == tokens.count {
        logits = model.logits(hidden, rows: chunk.count - 1..<chunk.count)
      }
    }
    guard let logits, logits.buffer.prefix(tokenizer.tokenCount).allSatisfy(\.isFinite) else {
      throw GenerationError("the logits are not finite; a weight may be NaN or infinite")
    }
    return logits
  }
}
