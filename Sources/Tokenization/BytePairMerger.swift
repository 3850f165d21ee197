/// Which two neighbours may be merged, and how early.
protocol MergeTable {
  /// Rank (lower merges first) and id of the token made of `left` and `right`, which cover `text[range]`; nil: they do
  /// not merge.
  func merge(left: Int32, right: Int32, text: UnsafeBufferPointer<UInt8>, range: Range<Int>) -> (
    rank: Int32, id: Int32
  )?
}

/// Byte-pair merging of one piece: again and again the adjacent pair of lowest rank, leftmost on ties.
struct BytePairMerger<Table: MergeTable> {
  let table: Table

  private struct Part {
    var id: Int32
    var start: Int32
    /// Neighbours by index; −1: none. Used for long pieces only.
    var previous: Int32
    var next: Int32
    var rank: Int32
    var merged: Int32
  }

  /// Pieces up to this length are merged by scanning all pairs, longer ones with a heap.
  private static var scanLimit: Int { 96 }

  /// - Parameter initial: the ids of the piece's smallest parts, each with the byte it starts at.
  /// - Returns: appends the ids of the merged piece to `output`.
  func merge(
    _ initial: [(id: Int32, start: Int32)], text: UnsafeBufferPointer<UInt8>, into output: inout [Int]
  ) {
    guard initial.count > 1 else {
      if let only = initial.first { output.append(Int(only.id)) }
      return
    }
    if initial.count <= Self.scanLimit { return scan(initial, text, &output) }
    var parts: [Part] = []
    parts.reserveCapacity(initial.count + 1)
    for (index, part) in initial.enumerated() {
      parts.append(
        Part(
          id: part.id, start: part.start, previous: Int32(index - 1),
          next: index + 1 < initial.count ? Int32(index + 1) : -1, rank: .max, merged: -1))
    }
    parts.append(Part(id: -1, start: Int32(text.count), previous: -1, next: -1, rank: .max, merged: -1))
    heap(&parts, text, &output)
  }

  /// Quadratic in the number of parts, without bookkeeping: the fastest for words. Four short columns on the stack: of
  /// part i the id, its first byte, the rank of its pair with part i + 1 and what that pair becomes.
  private func scan(
    _ initial: [(id: Int32, start: Int32)], _ text: UnsafeBufferPointer<UInt8>, _ output: inout [Int]
  ) {
    let stride = initial.count + 1
    withUnsafeTemporaryAllocation(of: Int32.self, capacity: 4 * stride) { memory in
      guard let ids = memory.baseAddress else { return }
      let (starts, ranks, merged) = (ids + stride, ids + 2 * stride, ids + 3 * stride)
      var count = initial.count
      for i in 0..<count { (ids[i], starts[i]) = (initial[i].id, initial[i].start) }
      starts[count] = Int32(text.count)
      @inline(__always) func look(_ i: Int) {
        guard i + 1 < count else {
          ranks[i] = .max
          return
        }
        let range = Int(starts[i])..<Int(starts[i + 2])
        let found = table.merge(left: ids[i], right: ids[i + 1], text: text, range: range)
        ranks[i] = found?.rank ?? .max
        merged[i] = found?.id ?? -1
      }
      for i in 0..<count { look(i) }
      while true {
        var best = Int32.max
        var at = -1
        for i in 0..<count where ranks[i] < best {
          best = ranks[i]
          at = i
        }
        guard at >= 0 else { break }
        ids[at] = merged[at]
        let rest = count - at - 2
        (ids + at + 1).update(from: ids + at + 2, count: rest)
        (ranks + at + 1).update(from: ranks + at + 2, count: rest)
        (merged + at + 1).update(from: merged + at + 2, count: rest)
        (starts + at + 1).update(from: starts + at + 2, count: rest + 1)
        count -= 1
        look(at)
        if at > 0 { look(at - 1) }
      }
      for i in 0..<count { output.append(Int(ids[i])) }
    }
  }

  /// n log n: parts linked by index, candidate pairs in a heap; stale entries are skipped.
  private func heap(_ parts: inout [Part], _ text: UnsafeBufferPointer<UInt8>, _ output: inout [Int]) {
    let end = Int32(text.count)
    var queue = CandidateHeap()
    func endOf(_ i: Int32) -> Int {
      parts[Int(i)].next < 0 ? Int(end) : Int(parts[Int(parts[Int(i)].next)].start)
    }
    func look(_ i: Int32) {
      let left = parts[Int(i)]
      parts[Int(i)].rank = .max
      guard left.next >= 0 else { return }
      let range = Int(left.start)..<endOf(left.next)
      guard let found = table.merge(left: left.id, right: parts[Int(left.next)].id, text: text, range: range)
      else { return }
      parts[Int(i)].rank = found.rank
      parts[Int(i)].merged = found.id
      queue.push(rank: found.rank, index: i, merged: found.id)
    }
    for i in 0..<parts.count - 1 { look(Int32(i)) }
    while let candidate = queue.pop() {
      let i = Int(candidate.index)
      // Stale: the part was swallowed, or its pair has changed since.
      guard parts[i].rank == candidate.rank, parts[i].merged == candidate.merged, parts[i].id >= 0 else {
        continue
      }
      let gone = Int(parts[i].next)
      parts[i].id = parts[i].merged
      parts[i].next = parts[gone].next
      if parts[gone].next >= 0 { parts[Int(parts[gone].next)].previous = Int32(i) }
      parts[gone].id = -1
      parts[gone].rank = .max
      look(Int32(i))
      if parts[i].previous >= 0 { look(parts[i].previous) }
    }
    var i: Int32 = 0
    while i >= 0 {
      output.append(Int(parts[Int(i)].id))
      i = parts[Int(i)].next
    }
  }
}

/// A binary heap of candidate pairs, lowest rank first, then leftmost.
private struct CandidateHeap {
  struct Candidate {
    var rank: Int32
    var index: Int32
    var merged: Int32
    static func < (a: Candidate, b: Candidate) -> Bool { (a.rank, a.index) < (b.rank, b.index) }
  }
  private var items: [Candidate] = []

  mutating func push(rank: Int32, index: Int32, merged: Int32) {
    items.append(Candidate(rank: rank, index: index, merged: merged))
    var child = items.count - 1
    while child > 0 {
      let parent = (child - 1) / 2
      guard items[child] < items[parent] else { break }
      items.swapAt(child, parent)
      child = parent
    }
  }

  mutating func pop() -> Candidate? {
    guard let first = items.first else { return nil }
    let last = items.removeLast()
    guard !items.isEmpty else { return first }
    items[0] = last
    var parent = 0
    while true {
      var child = 2 * parent + 1
      guard child < items.count else { break }
      if child + 1 < items.count && items[child + 1] < items[child] { child += 1 }
      guard items[child] < items[parent] else { break }
      items.swapAt(child, parent)
      parent = child
    }
    return first
  }
}

extension BytePairMerger: Sendable where Table: Sendable {}
