import Compute
import Distribution
import TestSupport
import Testing

@Suite struct OrderedSumTests {
  static func matrix(_ shard: Int, order: Int) -> AlignedBuffer<Float> {
    var numbers = SplitMix64Sequence(seed: UInt64(shard))
    return AlignedBuffer((0..<order * order).map { _ in Float(numbers.nextUnit() * 3 - 1) })
  }

  /// What the documentation says, element by element.
  static func expected(_ shards: Int, order: Int, _ shape: OrderedSum.Shape) -> [Float?] {
    let matrices = (0..<shards).map { matrix($0, order: order).array }
    return (0..<order * order).map { place in
      guard shape == .square || place % order >= place / order else { return nil }
      return matrices.dropFirst().reduce(matrices[0][place]) { $0 + $1[place] }
    }
  }

  /// Any number of ranks gives the bits of one process. The largest order takes several steps.
  @Test(
    arguments: [
      (1, 1, 5), (1, 3, 5), (2, 2, 5), (2, 3, 17), (3, 8, 40), (4, 4, 33), (4, 9, 1), (5, 7, 2), (4, 5, 3000),
    ], [OrderedSum.Shape.upperTriangle, .square])
  func ranksDoNotChangeABit(_ size: (ranks: Int, shards: Int, order: Int), _ shape: OrderedSum.Shape) throws {
    let (ranks, shards, order) = size
    let results = try LocalRank.run(ranks) { communicator in
      let pool = WorkerPool(threads: 1)
      let sum = OrderedSum(order: order, shape: shape, communicator: communicator, pool: pool)
      for first in stride(from: 0, to: shards, by: ranks) {
        let own = first + communicator.rank
        try sum.add(
          own < shards ? Self.matrix(own, order: order) : nil, shards: min(ranks, shards - first))
      }
      let result = AlignedBuffer<Float>(zeros: order * order)
      try sum.finish(into: result)
      return (result.array, communicator.traffic)
    }
    let expected = Self.expected(shards, order: order, shape)
    for (rank, (values, traffic)) in results.enumerated() {
      let same = zip(values, expected).count { $0.bitPattern == ($1 ?? 0).bitPattern }
      #expect(same == order * order)
      #expect(
        traffic.sent
          == OrderedSum.sentByteCount(order: order, shape: shape, shards: shards, rank: rank, ranks: ranks))
    }
  }
}
