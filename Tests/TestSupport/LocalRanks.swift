import Distribution
import Foundation
import Synchronization

/// Ranks that are threads of this process.
package final class LocalRank: Communicator {
  package let rank: Int
  package let count: Int
  private let board: Board
  private let moved = Mutex(Traffic())
  package var traffic: Traffic { moved.withLock { $0 } }
  private let steps = Atomic<UInt32>(0)
  package var progress: UInt32 { steps.load(ordering: .relaxed) }
  package let secondsWaited = 0.0

  /// Another rank threw an error.
  package struct GroupFailed: Error {}

  private init(rank: Int, count: Int, board: Board) {
    (self.rank, self.count, self.board) = (rank, count, board)
  }

  /// Runs `body` on every rank.
  /// - Returns: what it gives, in the order of the ranks.
  /// - Throws: what the first rank threw, in the order of time.
  package static func run<Result: Sendable>(
    _ count: Int, _ body: @escaping @Sendable (LocalRank) throws -> Result
  ) throws -> [Result] {
    let board = Board(count)
    let results = Mutex<[Result?]>((0..<count).map { _ in nil })
    let group = DispatchGroup()
    for number in 0..<count {
      group.enter()
      let thread = Thread {
        defer { group.leave() }
        do {
          let result = try body(LocalRank(rank: number, count: count, board: board))
          results.withLock { $0[number] = result }
        } catch { board.fail(error) }
      }
      thread.stackSize = 8 << 20
      thread.start()
    }
    group.wait()
    if let error = board.error { throw error }
    return results.withLock { $0.compactMap { $0 } }
  }

  package func broadcast(_ bytes: UnsafeMutableRawBufferPointer, from root: Int) throws {
    try post(UnsafeRawBufferPointer(bytes)) { parts in
      if rank != root { bytes.copyMemory(from: parts[root]) }
    }
    moved.withLock {
      if rank == root { $0.sent += bytes.count * (count - 1) } else { $0.received += bytes.count }
    }
  }

  package func exchange(
    _ parts: UnsafeRawBufferPointer, counts: [Int], into received: UnsafeMutableRawBufferPointer,
    receivedCounts: [Int]
  ) throws {
    // Each part says how long the parts of all ranks are.
    var message = counts.withUnsafeBytes { Array($0) }
    message += parts.prefix(counts.reduce(0, +))
    try message.withUnsafeBytes { message in
      try post(message) { messages in
        var place = 0
        for (other, message) in messages.enumerated() {
          let lengths = (0..<count).map { message.load(fromByteOffset: $0 * 8, as: Int.self) }
          let start = 8 * count + lengths[..<rank].reduce(0, +)
          precondition(lengths[rank] == receivedCounts[other], "ranks that expect different lengths")
          UnsafeMutableRawBufferPointer(rebasing: received[place..<place + lengths[rank]])
            .copyMemory(from: UnsafeRawBufferPointer(rebasing: message[start..<start + lengths[rank]]))
          place += lengths[rank]
        }
      }
    }
    moved.withLock {
      $0.sent += counts.reduce(0, +) - counts[rank]
      $0.received += receivedCounts.reduce(0, +) - receivedCounts[rank]
    }
  }

  package func gather(
    _ part: UnsafeRawBufferPointer, into parts: UnsafeMutableRawBufferPointer, counts: [Int]
  ) throws {
    precondition(part.count == counts[rank], "a part of another length")
    try post(part) { all in
      var place = 0
      for (other, part) in all.enumerated() {
        precondition(part.count == counts[other], "ranks that expect different lengths")
        UnsafeMutableRawBufferPointer(rebasing: parts[place..<place + part.count]).copyMemory(from: part)
        place += part.count
      }
    }
    moved.withLock {
      $0.sent += part.count * (count - 1)
      $0.received += counts.reduce(0, +) - part.count
    }
  }

  private func post(_ part: UnsafeRawBufferPointer, _ read: ([UnsafeRawBufferPointer]) -> Void) throws {
    steps.add(1, ordering: .relaxed)
    defer { steps.add(1, ordering: .relaxed) }
    try board.post(part, of: rank, read)
  }

  package func barrier() throws {
    try post(UnsafeRawBufferPointer(start: nil, count: 0)) { _ in }
  }
}

/// Where ranks show each other their memory.
private final class Board: @unchecked Sendable {
  // Unchecked: guarded by the condition, and the memory that parts point to is valid until all ranks have read it.
  private let condition = NSCondition()
  private var parts: [UnsafeRawBufferPointer]
  private var arrived = 0
  private var generation = 0
  private(set) var error: (any Error)?

  init(_ count: Int) { parts = Array(repeating: UnsafeRawBufferPointer(start: nil, count: 0), count: count) }

  func fail(_ error: any Error) {
    condition.lock()
    if self.error == nil { self.error = error }
    condition.broadcast()
    condition.unlock()
  }

  /// Shows a part, waits for the parts of all, reads them, and waits until all have.
  func post(_ part: UnsafeRawBufferPointer, of rank: Int, _ read: ([UnsafeRawBufferPointer]) -> Void) throws {
    condition.lock()
    parts[rank] = part
    condition.unlock()
    try meet()
    read(parts)
    try meet()
  }

  private func meet() throws {
    condition.lock()
    defer { condition.unlock() }
    guard error == nil else { throw LocalRank.GroupFailed() }
    arrived += 1
    if arrived == parts.count {
      arrived = 0
      generation += 1
      condition.broadcast()
      return
    }
    let current = generation
    while generation == current, error == nil { condition.wait() }
    if generation == current { throw LocalRank.GroupFailed() }
  }
}
