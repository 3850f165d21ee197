import Compute
import Distribution

/// How the calibration windows are cut into consecutive shards, and which of them this rank has.
///
/// Shards are dealt out in rounds: shard s belongs to rank s mod n, so that a round is n consecutive shards, and what the ranks sum in a
/// round is added in the order of the shards (``OrderedSum``).
package struct CalibrationShards: Sendable {
  /// Tokens of every window.
  let lengths: [Int]
  let count: Int
  let rank: Int
  let ranks: Int

  package init(lengths: [Int], count: Int = 1, rank: Int = 0, ranks: Int = 1) {
    (self.lengths, self.count, self.rank, self.ranks) = (lengths, count, rank, ranks)
  }

  init(lengths: [Int], count: Int, _ communicator: any Communicator) {
    self.init(lengths: lengths, count: count, rank: communicator.rank, ranks: communicator.count)
  }

  var rounds: Int { (count + ranks - 1) / ranks }
  /// How many shards a round has; the last may have fewer than there are ranks.
  func shards(inRound round: Int) -> Int { min(ranks, count - round * ranks) }
  /// This rank's windows in a round; nil: it has no shard.
  func windows(inRound round: Int) -> Range<Int>? {
    rank < shards(inRound: round) ? windows(ofShard: round * ranks + rank) : nil
  }
  private func windows(ofShard shard: Int) -> Range<Int> {
    lengths.count * shard / count..<lengths.count * (shard + 1) / count
  }

  /// This rank's windows, in the order of its rows.
  var windows: [Int] { (0..<rounds).flatMap { windows(inRound: $0).map(Array.init) ?? [] } }
  var rows: Int { windows.reduce(0) { $0 + lengths[$1] } }
  /// Rows of all ranks.
  var allRows: Int { lengths.reduce(0, +) }

  /// As another rank sees it.
  func seen(by rank: Int) -> CalibrationShards {
    CalibrationShards(lengths: lengths, count: count, rank: rank, ranks: ranks)
  }

  /// The number among all rows of each of this rank's rows.
  var rowNumbers: [Int] {
    var starts = [0]
    for length in lengths { starts.append(starts[starts.count - 1] + length) }
    return windows.flatMap { starts[$0]..<starts[$0 + 1] }
  }

  /// The rank of each window.
  private var owners: [Int] {
    var owners = [Int](repeating: 0, count: lengths.count)
    for shard in 0..<count { for window in windows(ofShard: shard) { owners[window] = shard % ranks } }
    return owners
  }

  // MARK: Rows of all ranks on rank 0

  /// Bytes that are on their way at a time.
  static let transportBytes = 32 << 20

  /// Consecutive windows whose rows are moved together.
  private func batches(width: Int) -> [Range<Int>] {
    var result: [Range<Int>] = []
    var (first, rows) = (0, 0)
    for (window, length) in lengths.enumerated() {
      if window > first, (rows + length) * width > CalibrationShards.transportBytes {
        result.append(first..<window)
        (first, rows) = (window, 0)
      }
      rows += length
    }
    if first < lengths.count { result.append(first..<lengths.count) }
    return result
  }

  /// Brings the rows of all windows to rank 0, in the order of the windows.
  /// - Parameters:
  ///   - own: rows of this rank.
  ///   - width: bytes of a row.
  ///   - write: gets them on rank 0, some windows at a time.
  func collect(
    _ own: UnsafeRawPointer, width: Int, _ communicator: any Communicator,
    write: (UnsafeRawBufferPointer) throws -> Void
  ) throws {
    if ranks == 1 {
      return try write(UnsafeRawBufferPointer(start: own, count: allRows * width))
    }
    let owners = owners
    let mine = Set(windows)
    let offsets = ownOffsets()
    for batch in batches(width: width) {
      let sent = AlignedBuffer<UInt8>(
        count: batch.filter(mine.contains).reduce(0) { $0 + lengths[$1] } * width)
      var offset = 0
      for window in batch where mine.contains(window) {
        let bytes = lengths[window] * width
        UnsafeMutableRawPointer(sent.pointer + offset).copyMemory(
          from: own + (offsets[window] ?? 0) * width, byteCount: bytes)
        offset += bytes
      }
      var counts = [Int](repeating: 0, count: ranks)
      for window in batch { counts[owners[window]] += lengths[window] * width }
      let received = AlignedBuffer<UInt8>(count: rank == 0 ? counts.reduce(0, +) : 0)
      try communicator.exchange(
        UnsafeRawBufferPointer(sent.buffer), counts: (0..<ranks).map { $0 == 0 ? sent.count : 0 },
        into: UnsafeMutableRawBufferPointer(received.buffer),
        receivedCounts: rank == 0 ? counts : counts.map { _ in 0 })
      guard rank == 0 else { continue }
      var places = (0..<ranks).map { counts[..<$0].reduce(0, +) }
      for window in batch {
        let bytes = lengths[window] * width
        try write(UnsafeRawBufferPointer(start: received.pointer + places[owners[window]], count: bytes))
        places[owners[window]] += bytes
      }
    }
  }

  /// Brings the rows of the windows from rank 0 to the ranks that have them.
  /// - Parameters:
  ///   - all: on rank 0 the rows of all windows, nil elsewhere.
  ///   - own: becomes the rows of this rank.
  ///   - width: bytes of a row.
  func deal(
    _ all: UnsafeRawPointer?, into own: UnsafeMutableRawPointer, width: Int, _ communicator: any Communicator
  ) throws {
    if ranks == 1 {
      if let all { own.copyMemory(from: all, byteCount: allRows * width) }
      return
    }
    let owners = owners
    let offsets = ownOffsets()
    var starts = [0]
    for length in lengths { starts.append(starts[starts.count - 1] + length) }
    for batch in batches(width: width) {
      var counts = [Int](repeating: 0, count: ranks)
      for window in batch { counts[owners[window]] += lengths[window] * width }
      let sent = AlignedBuffer<UInt8>(count: rank == 0 ? counts.reduce(0, +) : 0)
      if let all {
        var places = (0..<ranks).map { counts[..<$0].reduce(0, +) }
        for window in batch {
          let bytes = lengths[window] * width
          UnsafeMutableRawPointer(sent.pointer + places[owners[window]]).copyMemory(
            from: all + starts[window] * width, byteCount: bytes)
          places[owners[window]] += bytes
        }
      }
      let received = AlignedBuffer<UInt8>(count: counts[rank])
      try communicator.exchange(
        UnsafeRawBufferPointer(sent.buffer), counts: rank == 0 ? counts : counts.map { _ in 0 },
        into: UnsafeMutableRawBufferPointer(received.buffer),
        receivedCounts: (0..<ranks).map { $0 == 0 ? counts[rank] : 0 })
      var place = 0
      for window in batch where owners[window] == rank {
        let bytes = lengths[window] * width
        (own + (offsets[window] ?? 0) * width).copyMemory(from: received.pointer + place, byteCount: bytes)
        place += bytes
      }
    }
  }

  /// This rank's row where each of its windows starts.
  private func ownOffsets() -> [Int: Int] {
    var offsets: [Int: Int] = [:]
    var row = 0
    for window in windows {
      offsets[window] = row
      row += lengths[window]
    }
    return offsets
  }
}
