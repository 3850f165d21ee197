import Files
import Generation
import Tokenization
import Transformer

/// How fast a model reads a prompt and continues it, in the same loop that chat and server drive.
struct GenerationSpeed {
  private let generator: TextGenerator
  private let sequence: CachedSequence
  private let vocabularySize: Int

  /// - Parameter capacity: tokens of prompt and answer together.
  init(_ decoder: Decoder, capacity: Int, cacheType: KVCacheType) {
    vocabularySize = decoder.vocabularySize
    generator = TextGenerator(model: decoder, tokenizer: IdsWithoutText(tokenCount: vocabularySize))
    sequence = CachedSequence(decoder.makeCache(capacity: capacity, type: cacheType))
  }

  /// Seconds until a prompt of so many tokens has run and the next token is known.
  func promptSeconds(_ tokens: Int) throws -> Double {
    try generate(after: tokens, newTokens: 1).promptSeconds
  }

  /// Seconds for so many tokens after a prompt, each a forward pass and a choice.
  func generationSeconds(_ tokens: Int, after prompt: Int) throws -> Double {
    // The first token follows from the prompt's own logits.
    try generate(after: prompt, newTokens: tokens + 1).generationSeconds
  }

  private func generate(after promptTokens: Int, newTokens: Int) throws -> GenerationResult {
    sequence.truncate(to: 0)
    let prompt = (0..<promptTokens).map { ($0 * 7919 + 13) % vocabularySize }
    return try generator.generate(
      GenerationRequest(prompt: prompt, maximumNewTokens: newTokens), in: sequence)
  }
}

/// Speed is measured on ids alone, so that a model needs no tokenizer.
private struct IdsWithoutText: Tokenizer {
  let tokenCount: Int
  let specialTokens: [ByteText: Int] = [:]
  func encode(_ text: String, specials: SpecialTokens, addingAffixes: Bool) -> [Int] { [] }
  func decode(_ ids: [Int], skippingSpecials: Bool) throws -> String { "" }
  func bytes(of id: Int, skippingSpecials: Bool) throws -> [UInt8]? { nil }
}
