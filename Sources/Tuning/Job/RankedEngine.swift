import Compute
import Distribution
import Training

/// Computes gradients and losses on all ranks. Rank 0 runs the job and asks; the others serve until it has finished. They get the
/// parameters' values with each step, so that only rank 0 has an optimizer and checkpoints.
package final class RankedEngine: TrainingEngine {
  private let base: any TrainingEngine
  private let communicator: any Communicator

  package init(_ base: any TrainingEngine, _ communicator: any Communicator) {
    (self.base, self.communicator) = (base, communicator)
  }

  package var parameters: [Parameter] { base.parameters }

  package func accumulate(_ rows: [TrainingRow], divisor: Double, step: Int, item: Int) throws -> (
    sum: Double, count: Int
  ) { try base.accumulate(rows, divisor: divisor, step: step, item: item) }

  package func loss(_ rows: [TrainingRow]) throws -> (sum: Double, count: Int) { try base.loss(rows) }

  /// Floats of a gradient that are brought to rank 0 at a time.
  private static let piece = 1 << 20

  private enum Task: Int { case finish, gradients, losses }

  // MARK: Rank 0

  package func accumulate(
    batches: [[TrainingRow]], shards: Int, divisor: Double, step: Int, willRun: (Int) throws -> Void,
    didRun: (Int) -> Void
  ) throws -> [(sum: Double, count: Int)] {
    try ask(.gradients, [step, shards], batches)
    return try gradients(
      batches, shards: shards, divisor: communicator.broadcast(value: divisor), step: step, willRun: willRun,
      didRun: didRun)
  }

  package func losses(batches: [[TrainingRow]], willRun: (Int) throws -> Void) throws -> [(
    sum: Double, count: Int
  )] {
    try ask(.losses, [], batches)
    return try losses(of: batches, willRun: willRun)
  }

  /// Ends ``serve()`` on the other ranks, when nothing more will be asked.
  package func finish() throws { _ = try communicator.broadcast([Task.finish.rawValue]) }

  private func ask(_ task: Task, _ numbers: [Int], _ batches: [[TrainingRow]]) throws {
    _ = try communicator.broadcast([task.rawValue] + numbers)
    var text = [batches.count]
    for batch in batches {
      text.append(batch.count)
      for row in batch {
        // −1: the place does not count.
        text += [row.tokens.count] + row.tokens + row.labels.map { $0 ?? -1 }
      }
    }
    _ = try communicator.broadcast(text)
  }

  // MARK: Other ranks

  package func serve() throws {
    while true {
      let numbers = try communicator.broadcast(nil as [Int]?)
      guard let task = Task(rawValue: numbers[0]), task != .finish else { return }
      let batches = try batches(communicator.broadcast(nil as [Int]?))
      switch task {
      case .finish: return
      case .gradients:
        _ = try gradients(
          batches, shards: numbers[2], divisor: communicator.broadcast(value: 0), step: numbers[1],
          willRun: { _ in }, didRun: { _ in })
      case .losses: _ = try losses(of: batches) { _ in }
      }
    }
  }

  private func batches(_ numbers: [Int]) -> [[TrainingRow]] {
    var rest = numbers.dropFirst()
    return (0..<numbers[0]).map { _ in
      (0..<rest.removeFirst()).map { _ in
        let count = rest.removeFirst()
        defer { rest = rest.dropFirst(2 * count) }
        return TrainingRow(
          tokens: Array(rest.prefix(count)),
          labels: rest.dropFirst(count).prefix(count).map { $0 < 0 ? nil : $0 })
      }
    }
  }

  // MARK: All ranks

  private func gradients(
    _ batches: [[TrainingRow]], shards: Int, divisor: Double, step: Int, willRun: (Int) throws -> Void,
    didRun: (Int) -> Void
  ) throws -> [(sum: Double, count: Int)] {
    for parameter in parameters {
      try communicator.broadcast(UnsafeMutableRawBufferPointer(parameter.values.buffer), from: 0)
    }
    let items = batches.reduce(into: [0]) { $0.append($0[$0.count - 1] + $1.count) }
    let totals = communicator.isRoot ? parameters.map { AlignedBuffer<Float>(zeros: $0.count) } : []
    var found: [BatchLoss] = []
    for first in stride(from: 0, to: shards, by: communicator.count) {
      guard try agree({ try willRun(batches.count * first / shards) }) else { return [] }
      let shard = first + communicator.rank
      clearGradients()
      if shard < shards {
        for number in batches.count * shard / shards..<batches.count * (shard + 1) / shards {
          let loss = try base.accumulate(
            batches[number], divisor: divisor, step: step, item: items[number])
          found.append(BatchLoss(number: number, sum: loss.sum, count: loss.count))
          didRun(number)
        }
      }
      for (place, parameter) in parameters.enumerated() {
        try add(
          parameter.gradient, to: communicator.isRoot ? totals[place] : nil, isFirst: first == 0,
          shards: min(communicator.count, shards - first))
      }
    }
    for (parameter, total) in zip(parameters, totals) {
      parameter.gradient.pointer.update(from: total.pointer, count: total.count)
    }
    return try inOrder(found)
  }

  /// Adds the gradients of the ranks with a shard to the total of rank 0, in the order of the shards.
  private func add(
    _ gradient: AlignedBuffer<Float>, to total: AlignedBuffer<Float>?, isFirst: Bool, shards: Int
  ) throws {
    for start in stride(from: 0, to: gradient.count, by: RankedEngine.piece) {
      let count = min(RankedEngine.piece, gradient.count - start)
      let received = AlignedBuffer<Float>(count: total == nil ? 0 : shards * count)
      let sent = communicator.rank < shards ? 4 * count : 0
      try communicator.exchange(
        UnsafeRawBufferPointer(start: gradient.pointer + start, count: sent),
        counts: (0..<communicator.count).map { $0 == 0 ? sent : 0 },
        into: UnsafeMutableRawBufferPointer(received.buffer),
        receivedCounts: (0..<communicator.count).map { $0 < shards && total != nil ? 4 * count : 0 })
      guard let total else { continue }
      for shard in 0..<shards {
        let (from, to) = (received.pointer + shard * count, total.pointer + start)
        if isFirst && shard == 0 {
          to.update(from: from, count: count)
        } else {
          for place in 0..<count { to[place] += from[place] }
        }
      }
    }
  }

  private func losses(of batches: [[TrainingRow]], willRun: (Int) throws -> Void) throws -> [(
    sum: Double, count: Int
  )] {
    for parameter in parameters {
      try communicator.broadcast(UnsafeMutableRawBufferPointer(parameter.values.buffer), from: 0)
    }
    var found: [BatchLoss] = []
    for first in stride(from: 0, to: batches.count, by: communicator.count) {
      guard try agree({ try willRun(first) }) else { return [] }
      let number = first + communicator.rank
      guard number < batches.count else { continue }
      let loss = try base.loss(batches[number])
      found.append(BatchLoss(number: number, sum: loss.sum, count: loss.count))
    }
    return try inOrder(found)
  }

  /// Asks on rank 0 whether to go on.
  /// - Parameter ask: throws when not; unused on other ranks.
  /// - Returns: on other ranks, whether to go on.
  /// - Throws: on rank 0 what `ask` threw, when all ranks know.
  private func agree(_ ask: () throws -> Void) throws -> Bool {
    guard communicator.isRoot else { return try communicator.broadcast(nil as [Bool]?)[0] }
    do { try ask() } catch {
      _ = try communicator.broadcast([false])
      throw error
    }
    return try communicator.broadcast([true])[0]
  }

  private struct BatchLoss {
    var number: Int
    var sum: Double
    var count: Int
  }

  /// The losses of all ranks, in the order of the batches.
  private func inOrder(_ own: [BatchLoss]) throws -> [(sum: Double, count: Int)] {
    try communicator.gather(own).flatMap { $0 }.sorted { $0.number < $1.number }.map { ($0.sum, $0.count) }
  }
}
