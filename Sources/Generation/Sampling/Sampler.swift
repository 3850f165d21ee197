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
    let likeliest = Logits.firstLargest(UnsafeBufferPointer(logits))
    // A temperature whose inverse overflows is as good as 0.
    guard parameters.temperature > 0, (1 / parameters.temperature).isFinite else { return likeliest }
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

  /// SplitMix64 → [0, 1).
  private mutating func uniform() -> Double {
    state &+= 0x9E37_79B9_7F4A_7C15
    var z = state
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    return Double((z ^ (z >> 31)) >> 11) * 0x1p-53
  }
}
