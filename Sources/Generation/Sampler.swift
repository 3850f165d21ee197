import Foundation
import Numerics

/// How the next token is chosen from the logits.
package struct SamplingParameters: Equatable, Sendable {
  /// 0: always the most likely token.
  package var temperature: Double
  /// Most likely tokens kept; 0 or −1: all.
  package var topK: Int
  /// Smallest set of most likely tokens whose probability reaches this is kept; 1: all.
  package var topP: Double
  /// Logits of tokens already in the context are divided by it (multiplied when negative), as transformers does; 1: off.
  package var repetitionPenalty: Double
  /// Subtracted from the logits of tokens already generated, as OpenAI's API defines them; 0: off.
  package var presencePenalty: Double
  package var frequencyPenalty: Double
  package var seed: UInt64

  package init(
    temperature: Double = 0, topK: Int = 0, topP: Double = 1, repetitionPenalty: Double = 1,
    presencePenalty: Double = 0,
    frequencyPenalty: Double = 0, seed: UInt64 = 0
  ) {
    self.temperature = temperature
    self.topK = topK
    self.topP = topP
    self.repetitionPenalty = repetitionPenalty
    self.presencePenalty = presencePenalty
    self.frequencyPenalty = frequencyPenalty
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
    let count = min(tokenCount, logits.count)
    penalize(logits, count: count, context: context, generatedFrom: generatedFrom)
    guard parameters.temperature > 0 else { return Sampler.largest(logits, count: count) }
    var candidates = topCandidates(logits, count: count)
    // Probabilities of the kept tokens, the largest first.
    let top = Double(logits[candidates[0]])
    var weights = candidates.map { exp((Double(logits[$0]) - top) / parameters.temperature) }
    if parameters.topP < 1 {
      let total = weights.reduce(0, +)
      var sum = 0.0
      var kept = 0
      while kept < weights.count && (kept == 0 || sum < parameters.topP * total) {
        sum += weights[kept]
        kept += 1
      }
      weights.removeSubrange(kept...)
      candidates.removeSubrange(kept...)
    }
    let point = uniform() * weights.reduce(0, +)
    var sum = 0.0
    for (index, weight) in weights.enumerated() {
      sum += weight
      if point < sum { return candidates[index] }
    }
    return candidates[candidates.count - 1]
  }

  private func penalize(
    _ logits: UnsafeMutableBufferPointer<Float>, count: Int, context: [Int], generatedFrom: Int
  ) {
    if parameters.repetitionPenalty != 1 {
      let penalty = Float(parameters.repetitionPenalty)
      for id in Set(context) where id < count {
        logits[id] = logits[id] > 0 ? logits[id] / penalty : logits[id] * penalty
      }
    }
    guard parameters.presencePenalty != 0 || parameters.frequencyPenalty != 0 else { return }
    var times: [Int: Int] = [:]
    for id in context[generatedFrom...] { times[id, default: 0] += 1 }
    for (id, n) in times where id < count {
      logits[id] -= Float(parameters.presencePenalty + parameters.frequencyPenalty * Double(n))
    }
  }

  static func largest(_ logits: UnsafeMutableBufferPointer<Float>, count: Int) -> Int {
    var best = 0
    for i in 1..<max(1, count) where logits[i] > logits[best] { best = i }
    return best
  }

  /// Ids in falling order of their logits (ties by id): the top k, or all.
  private func topCandidates(_ logits: UnsafeMutableBufferPointer<Float>, count: Int) -> [Int] {
    func precedes(_ a: Int, _ b: Int) -> Bool { (logits[b], a) < (logits[a], b) }
    guard parameters.topK > 0, parameters.topK < count else {
      return (0..<count).sorted(by: precedes)
    }
    // A small sorted list beats sorting a vocabulary.
    var best: [Int] = []
    best.reserveCapacity(parameters.topK + 1)
    for id in 0..<count {
      if best.count == parameters.topK {
        guard precedes(id, best[best.count - 1]) else { continue }
        best.removeLast()
      }
      var (low, high) = (0, best.count)
      while low < high {
        let middle = (low + high) / 2
        if precedes(best[middle], id) { low = middle + 1 } else { high = middle }
      }
      best.insert(id, at: low)
    }
    return best
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
