/// The processes that do one job together, the *ranks*, and what they tell each other.
///
/// Every rank calls the same methods in the same order, each from the thread that runs the job. A method returns when this rank has its
/// result. When another rank has ended or does not answer, ``RankWatch`` ends this process: a method never waits for ever.
///
/// Sizes are bytes; one call moves less than 2 GiB to or from a rank.
package protocol Communicator: AnyObject, Sendable {
  /// Of this process, from 0. Rank 0 writes files and speaks to the person.
  var rank: Int { get }
  /// Of all processes, at least 1.
  var count: Int { get }
  /// What this rank has sent and received.
  var traffic: Traffic { get }
  /// How far this rank is: twice the operations that it has finished, and one more while it waits in one.
  var progress: UInt32 { get }
  /// Seconds that this rank has spent in operations: for other ranks, and for the network.
  var secondsWaited: Double { get }

  /// Brings the bytes of rank `root` to all ranks, all of which name as many.
  func broadcast(_ bytes: UnsafeMutableRawBufferPointer, from root: Int) throws

  /// Gives every rank a part of `parts`, and gets one from each.
  /// - Parameters:
  ///   - parts: those for ranks 0, 1 …, one after the other, of so many bytes each.
  ///   - received: becomes those from ranks 0, 1 …, of so many bytes each.
  func exchange(
    _ parts: UnsafeRawBufferPointer, counts: [Int], into received: UnsafeMutableRawBufferPointer,
    receivedCounts: [Int]) throws

  /// Brings the parts of all ranks to all ranks, in the order of the ranks.
  /// - Parameter counts: bytes of each rank's part.
  func gather(
    _ part: UnsafeRawBufferPointer, into parts: UnsafeMutableRawBufferPointer, counts: [Int]) throws

  /// Returns when all ranks have called it.
  func barrier() throws
}

/// Bytes that a rank gave to other ranks, and got from them.
package struct Traffic: Equatable, Sendable {
  package var sent = 0
  package var received = 0

  package init(sent: Int = 0, received: Int = 0) {
    self.sent = sent
    self.received = received
  }

  package static func - (a: Traffic, b: Traffic) -> Traffic {
    Traffic(sent: a.sent - b.sent, received: a.received - b.received)
  }
}

/// One process: what is brought to all ranks is there already.
package final class SingleProcess: Communicator {
  package let rank = 0
  package let count = 1
  package var traffic: Traffic { Traffic() }
  package let progress: UInt32 = 0
  package let secondsWaited = 0.0

  package init() {}

  package func broadcast(_ bytes: UnsafeMutableRawBufferPointer, from root: Int) {
    precondition(root == 0, "a rank that does not exist")
  }

  package func exchange(
    _ parts: UnsafeRawBufferPointer, counts: [Int], into received: UnsafeMutableRawBufferPointer,
    receivedCounts: [Int]
  ) {
    precondition(counts == receivedCounts && counts.count == 1, "parts of ranks that do not exist")
    copy(parts, into: received, count: counts[0])
  }

  package func gather(
    _ part: UnsafeRawBufferPointer, into parts: UnsafeMutableRawBufferPointer, counts: [Int]
  ) {
    precondition(counts == [part.count], "parts of ranks that do not exist")
    copy(part, into: parts, count: part.count)
  }

  private func copy(_ from: UnsafeRawBufferPointer, into to: UnsafeMutableRawBufferPointer, count: Int) {
    to.copyMemory(from: UnsafeRawBufferPointer(rebasing: from[..<count]))
  }

  package func barrier() {}
}

// MARK: - Values

extension Communicator {
  package var isAlone: Bool { count == 1 }
  /// Whether this rank writes files and speaks to the person.
  package var isRoot: Bool { rank == 0 }

  /// The values of all ranks, in the order of the ranks, on all ranks.
  package func gather<Element: BitwiseCopyable>(_ values: [Element]) throws -> [[Element]] {
    if isAlone { return [values] }
    let size = MemoryLayout<Element>.stride
    var lengths = [Int](repeating: 0, count: count)
    try withUnsafeBytes(of: values.count) { part in
      try lengths.withUnsafeMutableBytes { lengths in
        try gather(part, into: lengths, counts: Array(repeating: MemoryLayout<Int>.size, count: count))
      }
    }
    let total = lengths.reduce(0, +)
    let all = try [Element](unsafeUninitializedCapacity: total) { buffer, initialized in
      try values.withUnsafeBytes { part in
        try gather(part, into: UnsafeMutableRawBufferPointer(buffer), counts: lengths.map { $0 * size })
      }
      initialized = total
    }
    var start = 0
    return lengths.map { length in
      defer { start += length }
      return Array(all[start..<start + length])
    }
  }

  /// The texts of all ranks, in the order of the ranks, on all ranks.
  package func gather(text: String) throws -> [String] {
    try gather(Array(text.utf8)).map { String(decoding: $0, as: UTF8.self) }
  }

  /// Rank 0's values, on all ranks.
  /// - Parameter values: nil on other ranks.
  package func broadcast<Element: BitwiseCopyable>(_ values: [Element]?) throws -> [Element] {
    if isAlone { return values ?? [] }
    var length = values?.count ?? 0
    try withUnsafeMutableBytes(of: &length) { try broadcast($0, from: 0) }
    var result = [Element](unsafeUninitializedCapacity: length) { buffer, initialized in
      if let values {
        _ = buffer.initialize(from: values)
      } else {
        UnsafeMutableRawBufferPointer(buffer).initializeMemory(as: UInt8.self, repeating: 0)
      }
      initialized = length
    }
    try result.withUnsafeMutableBytes { try broadcast($0, from: 0) }
    return result
  }

  /// Rank 0's value, on all ranks.
  package func broadcast<Value: BitwiseCopyable>(value: Value) throws -> Value {
    try broadcast(isRoot ? [value] : nil)[0]
  }

  /// Items that this rank works on when `items` are dealt out in runs of about equal length.
  package func share(of items: Int) -> Range<Int> { Self.share(of: items, rank: rank, of: count) }

  package static func share(of items: Int, rank: Int, of count: Int) -> Range<Int> {
    items * rank / count..<items * (rank + 1) / count
  }

  /// Computes values for each item, an item on each rank at a time, and gives all ranks the values of item 0, of item 1 and so on,
  /// whatever the number of ranks.
  package func inOrder<Element: BitwiseCopyable>(
    items: Int, _ compute: (Int) throws -> [Element], then use: (Int, [Element]) throws -> Void
  ) throws {
    for first in stride(from: 0, to: items, by: count) {
      let own = first + rank
      let values = try gather(own < items ? try compute(own) : [])
      for (place, values) in values.enumerated() where first + place < items {
        try use(first + place, values)
      }
    }
  }
}
