import Calibration

/// The order in which rows are learned, a pure function of the seed and the epoch, so that a tuning that is resumed has the same.
extension TuningDataset {
  /// Rows of every epoch, those that come more than once counted as often.
  package var rowsPerEpoch: Int { shares.reduce(0) { $0 + $1.count } }

  /// Batches of every epoch, the last of which may be smaller.
  package func batchesPerEpoch(size: Int) -> Int { (rowsPerEpoch + size - 1) / size }

  /// The rows of every batch of an epoch.
  ///
  /// Rows are shuffled anew for each epoch. With ``TuningDataOptions/groupsByLength`` stretches of 50 batches are then sorted by
  /// length, cut into batches, and the batches are shuffled.
  /// - Parameters:
  ///   - epoch: from 0.
  ///   - size: rows of a batch; positive.
  /// - Complexity: O(rows · log(50 · size)).
  package func batches(epoch: Int, size: Int) -> [[Int]] {
    precondition(epoch >= 0 && size > 0, "an epoch from 0 and batches with rows")
    var generator = SeededGenerator(seed: seed, stream: UInt64(epoch))
    var order: [Int] = []
    order.reserveCapacity(rowsPerEpoch)
    for share in shares {
      for _ in 0..<share.count / max(1, share.rows.count) { order += share.rows }
      var rest = Array(share.rows)
      generator.shuffle(&rest)
      order += rest.prefix(share.count % max(1, share.rows.count))
    }
    generator.shuffle(&order)
    guard groupsByLength, size > 1 else { return TuningDataset.batches(order, size: size) }
    var batches: [[Int]] = []
    for first in stride(from: 0, to: order.count, by: 50 * size) {
      let stretch = order[first..<min(order.count, first + 50 * size)]
      // Of equal lengths the first stays first; the longest are at the front, so that only the shortest batch is not full.
      let sorted = stretch.enumerated().sorted {
        let (a, b) = (rows.length($0.element), rows.length($1.element))
        return a == b ? $0.offset < $1.offset : a > b
      }
      batches += TuningDataset.batches(sorted.map(\.element), size: size)
    }
    generator.shuffle(&batches)
    return batches
  }

  private static func batches(_ order: [Int], size: Int) -> [[Int]] {
    stride(from: 0, to: order.count, by: size).map { Array(order[$0..<min(order.count, $0 + size)]) }
  }

  /// Lengths of the `size` longest rows: what a batch can hold at most, whatever the epoch.
  package func longestRows(_ size: Int) -> [Int] {
    var lengths: [Int] = []
    for share in shares where share.count > 0 {
      // A row that comes several times may do so in one batch.
      let times = (share.count + share.rows.count - 1) / share.rows.count
      for row in share.rows.sorted(by: { rows.length($0) > rows.length($1) }).prefix(size) {
        lengths += Array(repeating: rows.length(row), count: min(times, size))
      }
    }
    return Array(lengths.sorted(by: >).prefix(size))
  }
}

extension TuningShare {
  /// Rows of an epoch; one at least.
  var count: Int {
    guard !rows.isEmpty else { return 0 }
    let wanted = (weight * Double(rows.count)).rounded()
    // More than any training has time for; whole numbers of this size are exact.
    return max(1, Int(min(wanted, 0x1p40)))
  }
}

extension SeededGenerator {
  /// One of many sequences of the same seed.
  init(seed: UInt64, stream: UInt64) {
    var generator = SeededGenerator(seed: seed)
    self.init(seed: generator.next() &+ stream &* 0xD1B5_4A32_D192_ED03)
  }

  /// Fisher and Yates.
  mutating func shuffle<Element>(_ elements: inout [Element]) {
    for i in elements.indices.dropLast() {
      elements.swapAt(i, i + Int(next(below: UInt64(elements.count - i))))
    }
  }
}
