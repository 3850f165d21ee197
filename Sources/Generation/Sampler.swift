import Foundation

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

/// Chooses tokens. The same parameters, seed and logits always give the same tokens.
package struct Sampler: Sendable {
  package let parameters: SamplingParameters
  private var state: UInt64

  package init(_ parameters: SamplingParameters) {
    self.parameters = parameters
    state = parameters.seed
  }

  /// - Parameters:
  ///   - logits: of every row of the vocabulary; changed in place.
  ///   - tokenCount: ids from this one on are padding and never chosen.
  ///   - context: prompt and generated tokens so far; `generatedFrom` is where the generated ones begin.
  package mutating func choose(
    _ logits: UnsafeMutableBufferPointer<Float>, tokenCount: Int, context: [Int], generatedFrom: Int
  ) -> Int {
    let logits = UnsafeMutableBufferPointer(rebasing: logits[..<min(tokenCount, logits.count)])
    for (id, bias) in parameters.logitBias where logits.indices.contains(id) { logits[id] += Float(bias) }
    penalize(logits, context: context, generatedFrom: generatedFrom)
    let likeliest = Sampler.largest(UnsafeBufferPointer(logits))
    guard parameters.temperature > 0 else { return likeliest }
    let distribution = TokenDistribution(
      UnsafeBufferPointer(logits), largest: logits[likeliest], temperature: parameters.temperature)
    return distribution.draw(
      at: uniform(), topK: parameters.topK, topP: parameters.topP, minP: parameters.minP)
  }

  private func penalize(
    _ logits: UnsafeMutableBufferPointer<Float>, context: [Int], generatedFrom: Int
  ) {
    if parameters.repetitionPenalty != 1 {
      let penalty = Float(parameters.repetitionPenalty)
      for id in Set(context) where logits.indices.contains(id) {
        logits[id] = logits[id] > 0 ? logits[id] / penalty : logits[id] * penalty
      }
    }
    guard parameters.presencePenalty != 0 || parameters.frequencyPenalty != 0 else { return }
    var times: [Int: Int] = [:]
    for id in context[generatedFrom...] { times[id, default: 0] += 1 }
    for (id, n) in times where logits.indices.contains(id) {
      logits[id] -= Float(parameters.presencePenalty + parameters.frequencyPenalty * Double(n))
    }
  }

  /// The index of the first of the largest logits.
  static func largest(_ logits: UnsafeBufferPointer<Float>) -> Int {
    var most = SIMD16<Float>(repeating: -.infinity)
    let wide = logits.count / 16 * 16
    for start in stride(from: 0, to: wide, by: 16) { most = pointwiseMax(most, vector(logits, at: start)) }
    let value = max(most.max(), logits[wide...].max() ?? -.infinity)
    for start in stride(from: 0, to: wide, by: 16) where any(vector(logits, at: start) .== value) {
      return logits[start..<start + 16].firstIndex(of: value) ?? start
    }
    return logits[wide...].firstIndex(of: value) ?? 0
  }

  /// Whether no logit is NaN or infinite.
  static func areFinite(_ logits: UnsafeBufferPointer<Float>) -> Bool {
    // x − x is 0 for every finite x and NaN otherwise, and NaN stays in a sum.
    var sum = SIMD16<Float>(repeating: 0)
    let wide = logits.count / 16 * 16
    for start in stride(from: 0, to: wide, by: 16) {
      let x = vector(logits, at: start)
      sum += x - x
    }
    return all(sum .== 0) && logits[wide...].allSatisfy(\.isFinite)
  }

  private static func vector(_ logits: UnsafeBufferPointer<Float>, at start: Int) -> SIMD16<Float> {
    UnsafeRawPointer(logits.baseAddress! + start).loadUnaligned(as: SIMD16<Float>.self)
  }

  /// SplitMix64 → [0, 1).
  private mutating func uniform() -> Double {
    state &+= 0x9E37_79B9_7F4A_7C15
    var z = state
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    return Double((z ^ (z >> 31)) >> 11) * 0x1p-53
  }
}

/// What the model thinks of a token, before biases, penalties and temperature.
package struct TokenLogprob: Equatable, Sendable {
  package var id: Int
  /// Natural logarithm of the probability.
  package var logprob: Double
}

/// Log probabilities of a chosen token and of the likeliest ones.
package struct TokenLogprobs: Equatable, Sendable {
  package var chosen: TokenLogprob
  /// The likeliest first.
  package var top: [TokenLogprob]

  /// - Complexity: one exponential for each logit.
  package init(_ logits: UnsafeBufferPointer<Float>, chosen id: Int, topCount: Int) {
    let largest = Double(logits[Sampler.largest(logits)])
    let logTotal = largest + log(logits.reduce(0) { $0 + exp(Double($1) - largest) })
    func logprob(_ id: Int) -> TokenLogprob { TokenLogprob(id: id, logprob: Double(logits[id]) - logTotal) }
    chosen = logprob(id)
    top = topCount > 0 ? TokenDistribution.likeliest(topCount, of: logits).map(logprob) : []
  }
}
