import Foundation

/// The distribution that logits at a temperature stand for, and draws from its likely part.
struct TokenDistribution {
  private let logits: UnsafeBufferPointer<Float>
  private let largest: Double
  private let inverseTemperature: Double

  /// - Parameter temperature: above 0, and its inverse finite.
  init(_ logits: UnsafeBufferPointer<Float>, largest: Float, temperature: Double) {
    self.logits = logits
    self.largest = Double(largest)
    inverseTemperature = 1 / temperature
  }

  /// Probability of a token in units of the likeliest token's.
  private func weight(_ id: Int) -> Double { exp((Double(logits[id]) - largest) * inverseTemperature) }

  /// The token at `point` of the way, in `0 ..< 1`, through what `minP`, then `topK`, then `topP` leave.
  func draw(at point: Double, topK: Int, topP: Double, minP: Double) -> Int {
    if topK > 0 && topK < logits.count {
      var candidates = TokenDistribution.likeliest(topK, of: logits).map { (id: $0, weight: weight($0)) }
      candidates.removeAll { $0.weight < minP }
      cut(&candidates, to: topP * candidates.reduce(0) { $0 + $1.weight })
      return pick(candidates, at: point)
    }
    var weights = [Double](unsafeUninitializedCapacity: logits.count) { memory, count in
      for id in logits.indices { memory[id] = weight(id) }
      count = logits.count
    }
    if minP > 0 { for id in weights.indices where weights[id] < minP { weights[id] = 0 } }
    let total = weights.reduce(0, +)
    guard topP < 1 else { return pick(weights.enumerated().lazy.map { ($0.offset, $0.element) }, at: point) }
    // The likely part is nearly always small: look for it among a few before sorting a vocabulary.
    var count = 64
    while true {
      var candidates = TokenDistribution.likeliest(count, of: logits).map { (id: $0, weight: weights[$0]) }
      let isComplete = candidates.reduce(0) { $0 + $1.weight } >= topP * total || count >= logits.count
      if isComplete {
        cut(&candidates, to: topP * total)
        return pick(candidates, at: point)
      }
      count *= 16
    }
  }

  /// Keeps the fewest candidates from the first on whose weights reach `sum`; one at least.
  private func cut(_ candidates: inout [(id: Int, weight: Double)], to sum: Double) {
    var reached = 0.0
    var kept = 0
    while kept < candidates.count && (kept == 0 || reached < sum) {
      reached += candidates[kept].weight
      kept += 1
    }
    candidates.removeSubrange(kept...)
  }

  private func pick(_ candidates: some Sequence<(id: Int, weight: Double)>, at point: Double) -> Int {
    let target = point * candidates.reduce(0) { $0 + $1.weight }
    var sum = 0.0
    var last = 0
    for (id, weight) in candidates where weight > 0 {
      sum += weight
      last = id
      if target < sum { return id }
    }
    return last
  }

  /// Ids in falling order of their logits (ties by id), the first `count` of them.
  static func likeliest(_ count: Int, of logits: UnsafeBufferPointer<Float>) -> [Int] {
    func precedes(_ a: Int, _ b: Int) -> Bool { (logits[b], a) < (logits[a], b) }
    guard count < min(logits.count, 2048) else {
      return Array(logits.indices.sorted(by: precedes).prefix(count))
    }
    // A small sorted list beats sorting a vocabulary.
    var best: [Int] = []
    best.reserveCapacity(count + 1)
    var least = -Float.infinity
    for id in logits.indices {
      if best.count == count {
        guard logits[id] > least else { continue }
        best.removeLast()
      }
      var (low, high) = (0, best.count)
      while low < high {
        let middle = (low + high) / 2
        if precedes(best[middle], id) { low = middle + 1 } else { high = middle }
      }
      best.insert(id, at: low)
      least = logits[best[best.count - 1]]
    }
    return best
  }
}
