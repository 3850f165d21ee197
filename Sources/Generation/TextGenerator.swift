import FileSupport
import Foundation
import Numerics
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
  /// Prompt tokens that run through the layers together.
  private static let promptChunk = 512

  package init(model: any LanguageModel, tokenizer: any Tokenizer) {
    self.model = model
    self.tokenizer = tokenizer
  }

  /// - Parameters:
  ///   - prompt: ids after those already in `cache`; not empty.
  ///   - maximumNewTokens: at most this many are generated.
  ///   - onText: gets each piece of text as it is complete; returning false ends the generation.
  /// - Returns: the new tokens, without the stop token. `cache` holds prompt and new tokens afterwards.
  package func generate(
    prompt: [Int], cache: KVCache, sampling: SamplingParameters, stopTokens: Set<Int>, maximumNewTokens: Int,
    onText: (String) throws -> Bool = { _ in true }
  ) throws -> GenerationResult {
    guard !prompt.isEmpty else { throw GenerationError("the prompt has no tokens", category: .usage) }
    guard cache.count + prompt.count < cache.capacity else {
      throw GenerationError(
        "the prompt has \(prompt.count) tokens, the context has room for \(cache.capacity - cache.count - 1)")
    }
    let start = Date()
    var last = try run(prompt, cache: cache)
    let promptSeconds = Date().timeIntervalSince(start)

    var sampler = Sampler(sampling)
    var detokenizer = StreamingDetokenizer(tokenizer)
    var context = prompt
    var text = ""
    var reason = GenerationResult.FinishReason.length
    func emit(_ piece: String) throws -> Bool {
      text += piece
      return piece.isEmpty ? true : try onText(piece)
    }
    var generated: [Int] = []
    while generated.count < maximumNewTokens {
      let id = sampler.choose(
        last.buffer, tokenCount: tokenizer.tokenCount, context: context, generatedFrom: prompt.count)
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
      last = try run([id], cache: cache)
    }
    _ = try emit(detokenizer.finish())
    return GenerationResult(
      tokens: generated, text: text, finishReason: reason, promptTokens: prompt.count,
      promptSeconds: promptSeconds,
      generationSeconds: Date().timeIntervalSince(start) - promptSeconds)
  }

  /// Logits after the last of `tokens`.
  private func run(_ tokens: [Int], cache: KVCache) throws -> AlignedBuffer<Float> {
    var logits: AlignedBuffer<Float>?
    for first in stride(from: 0, to: tokens.count, by: TextGenerator.promptChunk) {
      let chunk = Array(tokens[first..<min(tokens.count, first + TextGenerator.promptChunk)])
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
