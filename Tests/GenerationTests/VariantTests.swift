import Generation
import TestSupport
import Testing
import Transformer

/// Tokens in caches belong to the weights that computed them.
@Suite struct VariantTests {
  @Test func aCacheContinuesTokensOfTheSameWeightsOnly() throws {
    let model = StandInModel(answer: [5, 6], contextLength: 64)
    let generator = TextGenerator(model: model, tokenizer: ByteTokenizer())
    var pool = CachePool(model: model, contextLimit: 64, type: .f32)
    var reused: [Int] = []
    for variant in [0, 0, 1, 1, 2, 0] {
      let request = GenerationRequest(
        prompt: [1, 2, 3, 4, 5, 6, 7, 8], maximumNewTokens: 2, variant: variant)
      let acquired = pool.acquire(request)
      let sequence = try #require(acquired)
      #expect(sequence.cache.variant == variant)
      reused.append(sequence.tokens.count)
      #expect(try generator.generate(request, in: sequence).tokens.count == 2)
      pool.release(sequence)
    }
    // All of the prompt but its last token, or nothing.
    #expect(reused == [0, 7, 0, 7, 0, 0])
  }
}
