import Foundation
import Generation
import Synchronization

/// What a ``BatchEngine`` did and does.
package struct BatchStatistics: Equatable, Sendable {
  /// Requests that no batch has part of at this moment.
  package var waiting = 0
  /// Requests that the batch under way has part of.
  package var running = 0
  package var finishedRequests = 0
  package var items = 0
  package var tokens = 0
  package var batches = 0
  package var busySeconds = 0.0
  /// Texts that were longer than the model takes and were cut.
  package var truncated = 0
  package var requestSeconds = Histogram(bounds: [0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100])
}

/// What bounds a ``BatchEngine``.
package struct BatchLimits: Equatable, Sendable {
  /// Tokens that are computed together; a single item may have more.
  package var batchTokens: Int
  /// Requests that may wait.
  package var queue: Int

  package init(batchTokens: Int, queue: Int) {
    self.batchTokens = batchTokens
    self.queue = queue
  }
}

/// Runs items of many requests, texts or pairs, through one model: whatever waits is computed together, up to a number of tokens.
///
/// One thread of its own calls the model; long computations would block the threads that Swift's tasks share. A request of
/// many items is computed in pieces, between which clients take turns. A value does not depend on what is computed beside it.
package final class BatchEngine<Item: Sendable, Value: Sendable>: @unchecked Sendable {
  // Unchecked: everything that changes is guarded by `condition`.
  package let limits: BatchLimits
  private let tokens: @Sendable (Item) -> Int
  private let canShare: @Sendable (Item, Item) -> Bool
  private let compute: @Sendable ([Item]) throws -> [Value]
  /// The time, for deadlines and statistics.
  private let now: @Sendable () -> ContinuousClock.Instant

  /// Items of one request that are computed together.
  private struct Piece {
    let ticket: BatchTicket<Value>
    let items: [Item]
    /// The place of the first item in the request.
    let start: Int
    let tokens: Int
  }
  private struct Request {
    let ticket: BatchTicket<Value>
    let submitted: ContinuousClock.Instant
    let deadline: ContinuousClock.Instant
  }

  /// Guards everything below; signalled when there is something to do.
  private let condition = NSCondition()
  private var pieces = FairQueue<Piece>()
  private var requests: [ObjectIdentifier: Request] = [:]
  private var statisticsStorage = BatchStatistics()
  private var drainDeadline: ContinuousClock.Instant?
  /// Seconds a request takes, averaged over the last ones.
  private var typicalSeconds = 1.0

  /// - Parameters:
  ///   - tokens: of an item, or an estimate: it decides how many items are computed together, never their values.
  ///   - canShare: whether two items may be in one call of `compute`.
  ///   - compute: one value for each item.
  ///   - now: the time; tests give their own.
  package init(
    limits: BatchLimits, tokens: @escaping @Sendable (Item) -> Int,
    canShare: @escaping @Sendable (Item, Item) -> Bool = { _, _ in true },
    compute: @escaping @Sendable ([Item]) throws -> [Value],
    now: @escaping @Sendable () -> ContinuousClock.Instant = { .now }
  ) {
    self.limits = limits
    self.tokens = tokens
    self.canShare = canShare
    self.compute = compute
    self.now = now
    let thread = Thread { [self] in run() }
    thread.name = "zhinao-batches"
    thread.stackSize = 8 << 20
    thread.start()
  }

  /// Takes the items of one request.
  /// - Throws: ``GenerationError/queueFull(waiting:retryAfterSeconds:)``, ``GenerationError/shuttingDown``.
  package func submit(_ items: [Item], client: String, timeLimit: Duration) throws(GenerationError)
    -> BatchTicket<
      Value
    >
  {
    let ticket = BatchTicket<Value>(count: items.count)
    let new = pieces(of: items, ticket)
    condition.lock()
    defer { condition.unlock() }
    guard drainDeadline == nil else { throw .shuttingDown }
    let waiting = statisticsStorage.waiting
    guard requests.isEmpty || waiting < limits.queue else {
      let seconds = (Double(waiting + 1) * typicalSeconds).rounded(.up)
      throw .queueFull(waiting: waiting, retryAfterSeconds: Int(min(120, max(1, seconds))))
    }
    guard !items.isEmpty else { return ticket }
    let start = now()
    requests[ObjectIdentifier(ticket)] = Request(
      ticket: ticket, submitted: start, deadline: start + timeLimit)
    statisticsStorage.waiting += 1
    for piece in new { pieces.append(piece, client: client) }
    condition.signal()
    return ticket
  }

  private func pieces(of items: [Item], _ ticket: BatchTicket<Value>) -> [Piece] {
    var pieces: [Piece] = []
    var start = 0
    var sum = 0
    for (index, item) in items.enumerated() {
      let count = max(1, tokens(item))
      if index > start && (sum + count > limits.batchTokens || !canShare(items[start], item)) {
        pieces.append(Piece(ticket: ticket, items: Array(items[start..<index]), start: start, tokens: sum))
        (start, sum) = (index, 0)
      }
      sum += count
    }
    if start < items.count {
      pieces.append(Piece(ticket: ticket, items: Array(items[start...]), start: start, tokens: sum))
    }
    return pieces
  }

  package var statistics: BatchStatistics {
    condition.lock()
    defer { condition.unlock() }
    return statisticsStorage
  }

  /// Counts a request that got its values, of which only they may know how many tokens they took.
  func record(tokens: Int, truncated: Int, since start: ContinuousClock.Instant) {
    condition.lock()
    defer { condition.unlock() }
    statisticsStorage.finishedRequests += 1
    statisticsStorage.tokens += tokens
    statisticsStorage.truncated += truncated
    statisticsStorage.requestSeconds.record((now() - start) / .seconds(1))
  }

  package var isDraining: Bool {
    condition.lock()
    defer { condition.unlock() }
    return drainDeadline != nil
  }

  /// Takes no more requests; those it has may finish until `deadline`, then they fail. The thread ends.
  package func drain(until deadline: ContinuousClock.Instant) {
    condition.lock()
    drainDeadline = min(drainDeadline ?? deadline, deadline)
    condition.signal()
    condition.unlock()
  }

  // MARK: The engine's thread

  private func run() {
    while let batch = nextBatch() { compute(batch) }
  }

  /// Waits for work. Nil when there will be none.
  private func nextBatch() -> [Piece]? {
    condition.lock()
    defer { condition.unlock() }
    while true {
      sweep()
      if let batch = takeBatch() { return batch }
      if drainDeadline != nil { return nil }
      condition.wait()
    }
  }

  /// Forgets requests that are over, and ends those whose time is.
  private func sweep() {
    let time = now()
    var hasEnded = false
    for (key, request) in requests {
      if let drainDeadline, time >= drainDeadline {
        request.ticket.fail(GenerationError.shuttingDown)
      } else if time >= request.deadline {
        request.ticket.fail(GenerationError.timedOut)
      }
      guard request.ticket.isFinished else { continue }
      requests[key] = nil
      hasEnded = true
      typicalSeconds += 0.1 * ((time - request.submitted) / .seconds(1) - typicalSeconds)
    }
    if hasEnded { pieces.removeAll { requests[ObjectIdentifier($0.ticket)] == nil } }
    statisticsStorage.waiting = requests.count
    statisticsStorage.running = 0
  }

  private func takeBatch() -> [Piece]? {
    guard let first = pieces.popFirst() else { return nil }
    var batch = [first]
    var sum = first.tokens
    while let next = pieces.first, sum + next.tokens <= limits.batchTokens,
      canShare(first.items[0], next.items[0]), let piece = pieces.popFirst()
    {
      sum += piece.tokens
      batch.append(piece)
    }
    statisticsStorage.running = Set(batch.map { ObjectIdentifier($0.ticket) }).count
    statisticsStorage.waiting = requests.count - statisticsStorage.running
    return batch
  }

  private func compute(_ batch: [Piece]) {
    let start = now()
    let items = batch.flatMap(\.items)
    do {
      let values = try compute(items)
      precondition(values.count == items.count)
      // Before anybody learns of the values, so that whoever has an answer finds it in the statistics.
      count(items: items.count, since: start)
      var position = 0
      for piece in batch {
        piece.ticket.fill(values[position..<position + piece.items.count], from: piece.start)
        position += piece.items.count
      }
    } catch {
      count(items: 0, since: start)
      // The error belongs to one of them; the others get what they would have got alone.
      guard batch.count > 1 else { return batch[0].ticket.fail(error) }
      for piece in batch { compute([piece]) }
    }
  }

  private func count(items: Int, since start: ContinuousClock.Instant) {
    condition.lock()
    defer { condition.unlock() }
    statisticsStorage.batches += 1
    statisticsStorage.items += items
    statisticsStorage.busySeconds += (now() - start) / .seconds(1)
  }
}
