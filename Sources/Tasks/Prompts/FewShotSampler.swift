import Foundation

/// Which examples stand before a question.
package enum FewShotSampling: Equatable, Sendable {
  /// The first ones, for every question.
  case first
  /// lm-eval's default sampler: each question, in their order, draws its own from all examples, with Python's generator.
  case drawn(seed: UInt32)

  /// What lm-eval seeds its sampler with.
  package static let usualSeed: UInt32 = 1234
}

/// Draws examples as lm-eval's `ContextSampler` does: `random.Random(seed).sample(examples, n)`, question by question.
package struct FewShotSampler {
  private let sampling: FewShotSampling
  private var generator: PythonRandom

  package init(_ sampling: FewShotSampling) {
    self.sampling = sampling
    if case .drawn(let seed) = sampling {
      generator = PythonRandom(seed: seed)
    } else {
      generator = PythonRandom(seed: 0)
    }
  }

  /// Indices of the examples of the next question.
  /// - Parameter count: of all examples, `shots` at least.
  package mutating func next(_ shots: Int, of count: Int) -> [Int] {
    precondition(shots >= 0 && shots <= count)
    return sampling == .first ? Array(0..<shots) : generator.sample(shots, of: count)
  }
}

/// Python's `random.Random`: the Mersenne Twister MT19937 (Matsumoto and Nishimura 1998), seeded as CPython seeds it with a whole number
/// (`Modules/_randommodule.c`, `Lib/random.py`).
package struct PythonRandom {
  private static let size = 624
  private var state = [UInt32](repeating: 0, count: size)
  private var index = size

  /// - Parameter seed: as `random.seed(seed)` takes it.
  package init(seed: UInt32) {
    // init_by_array with one key.
    state[0] = 19_650_218
    for i in 1..<Self.size { state[i] = 1_812_433_253 &* (state[i - 1] ^ (state[i - 1] >> 30)) &+ UInt32(i) }
    var i = 1
    for _ in 0..<Self.size {
      state[i] = (state[i] ^ ((state[i - 1] ^ (state[i - 1] >> 30)) &* 1_664_525)) &+ seed
      i += 1
      if i >= Self.size {
        state[0] = state[Self.size - 1]
        i = 1
      }
    }
    for _ in 1..<Self.size {
      state[i] = (state[i] ^ ((state[i - 1] ^ (state[i - 1] >> 30)) &* 1_566_083_941)) &- UInt32(i)
      i += 1
      if i >= Self.size {
        state[0] = state[Self.size - 1]
        i = 1
      }
    }
    state[0] = 0x8000_0000
  }

  private mutating func next() -> UInt32 {
    if index == Self.size {
      for i in 0..<Self.size {
        let y = (state[i] & 0x8000_0000) | (state[(i + 1) % Self.size] & 0x7FFF_FFFF)
        state[i] = state[(i + 397) % Self.size] ^ (y >> 1) ^ (y & 1 == 1 ? 0x9908_B0DF : 0)
      }
      index = 0
    }
    var y = state[index]
    index += 1
    y ^= y >> 11
    y ^= (y << 7) & 0x9D2C_5680
    y ^= (y << 15) & 0xEFC6_0000
    return y ^ (y >> 18)
  }

  /// `_randbelow(n)`: bits as many as `n` has, drawn again until they are below it. `n` is below 2³².
  package mutating func index(below n: Int) -> Int {
    precondition(n > 0 && n < 1 << 32)
    let bits = Int.bitWidth - n.leadingZeroBitCount
    while true {
      let drawn = Int(next() >> UInt32(32 - bits))
      if drawn < n { return drawn }
    }
  }

  /// The indices that `random.sample(range(n), k)` gives.
  package mutating func sample(_ k: Int, of n: Int) -> [Int] {
    precondition(k >= 0 && k <= n)
    var setSize = 21
    if k > 5 { setSize += Int(pow(4, (log(Double(k * 3)) / log(4)).rounded(.up))) }
    if n <= setSize {
      var pool = Array(0..<n)
      return (0..<k).map { i in
        let j = index(below: n - i)
        defer { pool[j] = pool[n - i - 1] }
        return pool[j]
      }
    }
    var selected: Set<Int> = []
    return (0..<k).map { _ in
      var j = index(below: n)
      while !selected.insert(j).inserted { j = index(below: n) }
      return j
    }
  }
}
