import Dispatch
import Generation
import Serving
import Synchronization
import TestSupport
import Testing

/// Computations shared by requests: what is computed together, in which order, and what becomes of errors and full queues.
@Suite struct BatchEngineTests {
  struct Broken: Error {}

  /// An engine that doubles numbers; −1 is an error. Batches wait until the test lets them run.
  final class Doubling: Sendable {
    /// What was computed together, in order.
    final class Record: Sendable {
      private let batches = Mutex<[[Int]]>([])
      func add(_ batch: [Int]) { batches.withLock { $0.append(batch) } }
      var all: [[Int]] { batches.withLock { $0 } }
    }
    let record = Record()
    let clock = ManualClock()
    let engine: BatchEngine<Int, Int>
    private let gate = DispatchSemaphore(value: 0)

    /// - Parameter canShare: whether two numbers may be in a batch.
    init(
      batchTokens: Int = 10, queue: Int = 8,
      canShare: @escaping @Sendable (Int, Int) -> Bool = { _, _ in true }
    ) {
      let (record, gate, clock) = (record, gate, clock)
      engine = BatchEngine(
        limits: BatchLimits(batchTokens: batchTokens, queue: queue), tokens: { _ in 1 }, canShare: canShare,
        compute: { numbers in
          gate.wait()
          record.add(numbers)
          if numbers.contains(-1) { throw Broken() }
          return numbers.map { 2 * $0 }
        }, now: { clock.now })
    }

    func allow(_ count: Int) { for _ in 0..<count { gate.signal() } }
    func submit(_ numbers: [Int], client: String = "a") throws -> BatchTicket<Int> {
      try engine.submit(numbers, client: client, timeLimit: .seconds(60))
    }
    /// Waits until a batch is under way.
    func begin(_ numbers: [Int] = [0]) async throws -> BatchTicket<Int> {
      let ticket = try submit(numbers)
      while engine.statistics.running == 0 { try await Task.sleep(for: .milliseconds(1)) }
      return ticket
    }
    deinit {
      allow(100)
      engine.drain(until: clock.now)
    }
  }

  @Test func whatWaitsIsComputedTogether() async throws {
    let doubling = Doubling()
    let first = try await doubling.begin()
    let others = try (1..<4).map { try doubling.submit([$0, 10 * $0], client: "\($0)") }
    doubling.allow(10)
    #expect(try await first.values() == [0])
    for (index, ticket) in others.enumerated() {
      #expect(try await ticket.values() == [2 * (index + 1), 20 * (index + 1)])
    }
    #expect(doubling.record.all == [[0], [1, 10, 2, 20, 3, 30]])
    #expect(doubling.engine.statistics.items == 7 && doubling.engine.statistics.batches == 2)
  }

  @Test func largeRequestsAreCutAndClientsTakeTurns() async throws {
    let doubling = Doubling(batchTokens: 4)
    let first = try await doubling.begin()
    let large = try doubling.submit(Array(1...10), client: "large")
    let small = try doubling.submit([100], client: "small")
    doubling.allow(20)
    #expect(try await first.values() == [0])
    #expect(try await small.values() == [200])
    #expect(try await large.values() == (1...10).map { 2 * $0 })
    #expect(doubling.record.all == [[0], [1, 2, 3, 4], [100], [5, 6, 7, 8], [9, 10]])
  }

  @Test func onlyItemsThatFitTogetherShareABatch() async throws {
    let doubling = Doubling(canShare: { $0 % 2 == $1 % 2 })
    let first = try await doubling.begin()
    let others = try [[2], [3], [5]].map { try doubling.submit($0) }
    doubling.allow(10)
    _ = try await first.values()
    for ticket in others { _ = try await ticket.values() }
    #expect(doubling.record.all == [[0], [2], [3, 5]])
  }

  @Test func anErrorBelongsToOneRequest() async throws {
    let doubling = Doubling()
    let first = try await doubling.begin()
    let good = try doubling.submit([1], client: "good")
    let bad = try doubling.submit([2, -1], client: "bad")
    doubling.allow(10)
    #expect(try await first.values() == [0])
    #expect(try await good.values() == [2])
    await #expect(throws: Broken.self) { try await bad.values() }
  }

  @Test func aFullQueueSaysWhenToComeAgain() async throws {
    let doubling = Doubling(queue: 1)
    let running = try await doubling.begin()
    let waiting = try doubling.submit([1])
    do {
      _ = try doubling.submit([2])
      Issue.record("the queue takes more than it has room for")
    } catch {
      let described = APIError(describing: error)
      #expect(described.status == .tooManyRequests && described.code == "queue_full")
    }
    doubling.allow(10)
    #expect(try await running.values() == [0])
    #expect(try await waiting.values() == [2])
  }

  @Test func cancelledAndLateRequestsAreNotComputed() async throws {
    let doubling = Doubling()
    let running = try await doubling.begin()
    let cancelled = try doubling.submit([1])
    let late = try doubling.engine.submit([2], client: "b", timeLimit: .seconds(1))
    let good = try doubling.submit([3], client: "c")
    cancelled.cancel()
    doubling.clock.advance(by: .seconds(2))
    doubling.allow(10)
    _ = try await running.values()
    #expect(try await good.values() == [6])
    await #expect(throws: CancellationError.self) { try await cancelled.values() }
    await #expect(throws: GenerationError.timedOut) { try await late.values() }
    #expect(doubling.record.all == [[0], [3]])
  }

  @Test func aDrainedEngineTakesNothing() async throws {
    let doubling = Doubling()
    let running = try await doubling.begin()
    let waiting = try doubling.submit([1])
    doubling.engine.drain(until: doubling.clock.now)
    #expect(doubling.engine.isDraining)
    #expect(throws: GenerationError.shuttingDown) { try doubling.submit([2]) }
    doubling.allow(10)
    #expect(try await running.values() == [0])
    await #expect(throws: GenerationError.shuttingDown) { try await waiting.values() }
  }
}
