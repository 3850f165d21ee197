import Compute
import Distribution
import TestSupport
import Testing
import Training
import Tuning

@Suite struct RankedEngineTests {
  static let batches = (0..<7).map { [ToyRows.row($0), ToyRows.row($0 + 3)] }

  private struct Found: Equatable, Sendable {
    var gradients: [UInt32]
    var losses: [UInt64]
    var held: [UInt64]
  }

  /// A step's gradient and losses, and losses without gradients.
  private static func run(_ engine: any TrainingEngine, shards: Int) throws -> Found {
    let losses = try engine.accumulate(
      batches: batches, shards: shards, divisor: 42, step: 3, willRun: { _ in }, didRun: { _ in })
    let held = try engine.losses(batches: batches) { _ in }
    return Found(
      gradients: engine.parameters.flatMap { $0.gradient.array.map(\.bitPattern) },
      losses: losses.map { $0.sum.bitPattern }, held: held.map { $0.sum.bitPattern })
  }

  @Test(arguments: [1, 2, 3, 5], [5, 7])
  func ranksDoNotChangeABit(ranks: Int, shards: Int) throws {
    let expected = try Self.run(ToyEngine(), shards: shards)
    let found = try LocalRank.run(ranks) { communicator -> Found? in
      let toy = ToyEngine()
      // Other ranks get rank 0's values.
      if !communicator.isRoot { toy.matrix.values[0] = 77 }
      let engine = RankedEngine(toy, communicator)
      guard communicator.isRoot else {
        try engine.serve()
        return nil
      }
      let found = try Self.run(engine, shards: shards)
      try engine.finish()
      return found
    }
    #expect(found[0] == expected)
  }

  @Test func oneShardIsOneSum() throws {
    let toy = ToyEngine()
    for (number, rows) in Self.batches.enumerated() {
      _ = try toy.accumulate(rows, divisor: 42, step: 3, item: 2 * number)
    }
    let found = try Self.run(ToyEngine(), shards: 1)
    #expect(found.gradients == toy.parameters.flatMap { $0.gradient.array.map(\.bitPattern) })
    // Other sums of the same numbers differ in their last bits.
    #expect(try Self.run(ToyEngine(), shards: 7).gradients != found.gradients)
  }

  private struct Stopped: Error {}

  /// Rank 0 is told to stop in a step or a validation: the other ranks go on serving.
  @Test(arguments: [0, 1, 2])
  func ranksStopTogether(round: Int) throws {
    let expected = try Self.run(ToyEngine(), shards: 7)
    let found = try LocalRank.run(3) { communicator -> Found? in
      let engine = RankedEngine(ToyEngine(), communicator)
      guard communicator.isRoot else {
        try engine.serve()
        return nil
      }
      var asked = 0
      func stop(_: Int) throws {
        asked += 1
        if asked > round { throw Stopped() }
      }
      #expect(throws: Stopped.self) {
        _ = try engine.accumulate(
          batches: Self.batches, shards: 7, divisor: 42, step: 3, willRun: stop, didRun: { _ in })
      }
      asked = 0
      #expect(throws: Stopped.self) { _ = try engine.losses(batches: Self.batches, willRun: stop) }
      let found = try Self.run(engine, shards: 7)
      try engine.finish()
      return found
    }
    #expect(found[0] == expected)
  }
}
