import Compute

/// The sum of square matrices over the shards of a job, in the order of the shards, whatever the number of ranks.
///
/// Shards are dealt out to the ranks in rounds: shard s belongs to rank s mod n. After each round every rank gives each other rank the
/// elements that the other one owns, an n-th of the matrix, and adds what it gets to its own elements, in the order of the ranks, which is
/// that of the shards. So a rank holds one shard's matrix and an n-th of the sum, however many shards there are, and sends
/// (n − 1)/n of a matrix in each round. Additions are those of one process, one after the other, so that their bits are too.
package final class OrderedSum {
  /// Which elements are summed.
  package enum Shape: Sendable {
    /// Those at and above the diagonal.
    case upperTriangle
    case square
  }

  private let communicator: any Communicator
  private let order: Int
  private let shape: Shape
  private let pool: WorkerPool
  /// The elements that this rank owns, row after row.
  private let owned: AlignedBuffer<Float>
  private var isEmpty = true

  package init(order: Int, shape: Shape, communicator: any Communicator, pool: WorkerPool) {
    self.order = order
    self.shape = shape
    self.communicator = communicator
    self.pool = pool
    owned = AlignedBuffer(
      count: OrderedSum.owned(
        by: communicator.rank, of: communicator.count, elements: OrderedSum.elementCount(order, shape)
      ).count)
  }

  // MARK: What it takes

  /// Elements that are summed.
  package static func elementCount(_ order: Int, _ shape: Shape) -> Int {
    shape == .square ? order * order : order * (order + 1) / 2
  }

  private static func owned(by rank: Int, of ranks: Int, elements: Int) -> Range<Int> {
    elements * rank / ranks..<elements * (rank + 1) / ranks
  }

  /// Memory of a rank, beside the matrix of a shard.
  package static func byteCount(order: Int, shape: Shape, ranks: Int) -> Int {
    4 * (elementCount(order, shape) / ranks + 1)
  }

  /// Memory of the pieces on their way, of one sum at a time.
  package static func transportByteCount(ranks: Int) -> Int {
    ranks == 1 ? 0 : 8 * ranks * pieceLength(ranks: ranks)
  }

  /// Bytes that the rank sends, all rounds and ``finish(into:)`` included.
  package static func sentByteCount(order: Int, shape: Shape, shards: Int, rank: Int, ranks: Int) -> Int {
    let elements = elementCount(order, shape)
    let own = owned(by: rank, of: ranks, elements: elements).count
    let ownShards = (shards - rank + ranks - 1) / ranks
    return 4 * (ownShards * (elements - own) + (ranks - 1) * own)
  }

  /// Floats of one rank in one step: 32 MiB of all.
  private static func pieceLength(ranks: Int) -> Int { max(1 << 14, (8 << 20) / ranks) }

  // MARK: Rounds

  /// Ends a round.
  /// - Parameters:
  ///   - matrix: of this rank's shard, `[order, order]`; nil: it has none in this round.
  ///   - shards: of this round, at most as many as ranks: the first ranks have one each.
  package func add(_ matrix: AlignedBuffer<Float>?, shards: Int) throws {
    let ranks = communicator.count
    let hasShard = communicator.rank < shards
    precondition(hasShard == (matrix != nil), "a shard on another rank than its own")
    defer { isEmpty = false }
    guard ranks > 1 else {
      if let matrix { accumulateAlone(matrix) }
      return
    }
    let elements = OrderedSum.elementCount(order, shape)
    let piece = OrderedSum.pieceLength(ranks: ranks)
    let ranges = (0..<ranks).map { OrderedSum.owned(by: $0, of: ranks, elements: elements) }
    let sent = AlignedBuffer<Float>(count: ranks * piece)
    let received = AlignedBuffer<Float>(count: ranks * piece)
    // Every rank makes as many steps as the one that owns most.
    for start in stride(from: 0, to: ranges.map(\.count).max() ?? 0, by: piece) {
      let parts = ranges.map { $0.dropFirst(start).prefix(piece) }
      var offset = 0
      if let matrix {
        for part in parts {
          copy(part, from: matrix, to: sent.pointer + offset)
          offset += part.count
        }
      }
      let own = parts[communicator.rank]
      try communicator.exchange(
        UnsafeRawBufferPointer(sent.buffer), counts: parts.map { hasShard ? 4 * $0.count : 0 },
        into: UnsafeMutableRawBufferPointer(received.buffer),
        receivedCounts: (0..<ranks).map { $0 < shards ? 4 * own.count : 0 })
      let target = owned.pointer + start
      for shard in 0..<shards {
        accumulate(
          received.pointer + shard * own.count, into: target, count: own.count,
          replaces: isEmpty && shard == 0)
      }
    }
  }

  /// Brings the sum to all ranks; the elements of `matrix` that are not summed keep what they have.
  package func finish(into matrix: AlignedBuffer<Float>) throws {
    let ranks = communicator.count
    let elements = OrderedSum.elementCount(order, shape)
    guard ranks > 1 else { return copy(0..<elements, to: matrix, from: owned.pointer) }
    let piece = OrderedSum.pieceLength(ranks: ranks)
    let ranges = (0..<ranks).map { OrderedSum.owned(by: $0, of: ranks, elements: elements) }
    let received = AlignedBuffer<Float>(count: ranks * piece)
    for start in stride(from: 0, to: ranges.map(\.count).max() ?? 0, by: piece) {
      let parts = ranges.map { $0.dropFirst(start).prefix(piece) }
      let count = 4 * parts[communicator.rank].count
      try communicator.gather(
        UnsafeRawBufferPointer(start: owned.pointer + min(start, owned.count), count: count),
        into: UnsafeMutableRawBufferPointer(received.buffer), counts: parts.map { 4 * $0.count })
      var offset = 0
      for part in parts {
        copy(part, to: matrix, from: received.pointer + offset)
        offset += part.count
      }
    }
  }

  // MARK: Elements

  /// One process: no copies.
  private func accumulateAlone(_ matrix: AlignedBuffer<Float>) {
    let (total, replaces) = (owned, isEmpty)
    forEachRun(0..<OrderedSum.elementCount(order, shape)) { packed, offset, count in
      OrderedSum.accumulate(
        matrix.pointer + offset, into: total.pointer + packed, count: count, replaces: replaces)
    }
  }

  private func accumulate(
    _ from: UnsafeMutablePointer<Float>, into to: UnsafeMutablePointer<Float>, count: Int, replaces: Bool
  ) {
    let (from, to) = (DisjointWrites(from), DisjointWrites(to))
    pool.runRanges(count, grain: 1 << 16) { range in
      OrderedSum.accumulate(
        from.pointer + range.lowerBound, into: to.pointer + range.lowerBound, count: range.count,
        replaces: replaces)
    }
  }

  private static func accumulate(
    _ from: UnsafePointer<Float>, into to: UnsafeMutablePointer<Float>, count: Int, replaces: Bool
  ) {
    if replaces { return to.update(from: from, count: count) }
    for i in 0..<count { to[i] += from[i] }
  }

  private func copy(
    _ range: Range<Int>, from matrix: AlignedBuffer<Float>, to target: UnsafeMutablePointer<Float>
  ) {
    let target = DisjointWrites(target)
    forEachRun(range) { packed, offset, count in
      (target.pointer + packed - range.lowerBound).update(from: matrix.pointer + offset, count: count)
    }
  }

  private func copy(
    _ range: Range<Int>, to matrix: AlignedBuffer<Float>, from source: UnsafeMutablePointer<Float>
  ) {
    let source = DisjointWrites(source)
    forEachRun(range) { packed, offset, count in
      (matrix.pointer + offset).update(from: source.pointer + packed - range.lowerBound, count: count)
    }
  }

  /// Calls `body` with neighbouring elements: their number among those that are summed, their place in the matrix, and how many there are.
  private func forEachRun(_ range: Range<Int>, _ body: @Sendable (Int, Int, Int) -> Void) {
    let (order, shape) = (order, shape)
    pool.runRanges(range.count, grain: 1 << 16) { part in
      var next = range.lowerBound + part.lowerBound
      let end = range.lowerBound + part.upperBound
      guard shape == .upperTriangle else { return body(next, next, end - next) }
      var row = OrderedSum.row(of: next, order: order)
      while next < end {
        let first = OrderedSum.start(ofRow: row, order: order)
        let count = min(end, first + order - row) - next
        body(next, row * order + row + next - first, count)
        next += count
        row += 1
      }
    }
  }

  /// Elements of the triangle before a row.
  private static func start(ofRow row: Int, order: Int) -> Int { row * order - row * (row - 1) / 2 }

  private static func row(of element: Int, order: Int) -> Int {
    var rows = 0..<order
    while rows.count > 1 {
      let middle = (rows.lowerBound + rows.upperBound) / 2
      rows =
        start(ofRow: middle, order: order) <= element ? middle..<rows.upperBound : rows.lowerBound..<middle
    }
    return rows.lowerBound
  }
}
