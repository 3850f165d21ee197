/// How the next token is chosen from the logits.
package struct SamplingParameters: Equatable, Sendable {
  /// 0: always the most likely token.
  package var temperature: Double
  /// Most likely tokens kept; 0 or −1: all.
  package var topK: Int
  /// Smallest set of most likely tokens whose probability reaches this is kept; 1: all.
  package var topP: Double
  /// Tokens less likely than this times the most likely one are dropped, before the two above; 0: none.
  package var minP: Double
  /// Logits of tokens already in the context are divided by it (multiplied when negative), as transformers does; 1: off.
  package var repetitionPenalty: Double
  /// Subtracted from the logits of tokens already generated, as OpenAI's API defines them; 0: off.
  package var presencePenalty: Double
  package var frequencyPenalty: Double
  /// Added to the logits of some tokens, before everything else.
  package var logitBias: [Int: Double]
  package var seed: UInt64

  package init(
    temperature: Double = 0, topK: Int = 0, topP: Double = 1, minP: Double = 0, repetitionPenalty: Double = 1,
    presencePenalty: Double = 0, frequencyPenalty: Double = 0, logitBias: [Int: Double] = [:],
    seed: UInt64 = 0
  ) {
    self.temperature = temperature
    self.topK = topK
    self.topP = topP
    self.minP = minP
    self.repetitionPenalty = repetitionPenalty
    self.presencePenalty = presencePenalty
    self.frequencyPenalty = frequencyPenalty
    self.logitBias = logitBias
    self.seed = seed
  }
}
