import Compute

/// Dropout whose mask follows from a seed and the place of an element alone, so that a block that is computed twice has the same one,
/// whatever the threads and whichever rows are computed together.
struct Dropout: Sendable {
  /// Of 65,536 elements so many become zero.
  private let threshold: UInt16
  private let factor: Float
  /// For each row of the batch what tells it from every other row of the training.
  private let rowKeys: [UInt64]

  /// - Parameter rate: in 0 ..< 1.
  init(rate: Double, rowKeys: [UInt64]) {
    threshold = UInt16(min(65535, (rate * 65536).rounded()))
    factor = Float(1 / (1 - Double(threshold) / 65536))
    self.rowKeys = rowKeys
  }

  /// - Parameters:
  ///   - step: the number of the optimizer's step.
  ///   - item: the place of a row of the data in that step.
  static func rowKey(seed: UInt64, step: Int, item: Int, position: Int) -> UInt64 {
    var key = SplitMix64Sequence.mixed(seed)
    for part in [step, item, position] {
      key = SplitMix64Sequence.mixed(key ^ UInt64(truncatingIfNeeded: part))
    }
    return key
  }

  /// y = (with `adding`: +=) x, some elements zero, the others multiplied so that the mean stays. `[rows, width]` both.
  /// - Parameter number: of the module: each has its own mask.
  func apply(
    _ x: UnsafePointer<Float>, rows: Int, width: Int, number: UInt64, into y: UnsafeMutablePointer<Float>,
    adding: Bool = false, pool: WorkerPool
  ) {
    let (x, y) = (SharedPointer(x), DisjointWrites(y))
    let salt = SplitMix64Sequence.mixed(number &+ 1)
    pool.runRanges(rows, grain: 4) { range in
      for row in range {
        let (from, to) = (x + row * width, y + row * width)
        let key = rowKeys[row] ^ salt
        for first in stride(from: 0, to: width, by: 4) {
          var bits = SplitMix64Sequence.mixed(key &+ UInt64(truncatingIfNeeded: first))
          for index in first..<min(width, first + 4) {
            let kept: Float = UInt16(truncatingIfNeeded: bits) >= threshold ? factor : 0
            bits >>= 16
            // A product with zero would keep what is not finite.
            let value = kept == 0 ? 0 : from[index] * kept
            to[index] = adding ? to[index] + value : value
          }
        }
      }
    }
  }
}
