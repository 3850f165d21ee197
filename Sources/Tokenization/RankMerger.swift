/// A vocabulary whose ids are ranks, for merging. Points into `Ranks`, so that copying it retains nothing.
struct RankTable: MergeTable {
  let ranks: ByteTable.View
  /// Id of each single byte.
  let bytes: UnsafePointer<Int32>
  /// Id of each pair of bytes, first byte high; −1: no token.
  let pairs: UnsafePointer<Int32>

  @inline(__always)
  func merge(left: Int32, right: Int32, text: UnsafeBufferPointer<UInt8>, range: Range<Int>) -> (
    rank: Int32, id: Int32
  )? {
    let id = self.id(of: UnsafeBufferPointer(rebasing: text[range]))
    return id < 0 ? nil : (id, id)
  }

  /// The id of two bytes or more; −1: no token.
  @inline(__always)
  func id(of token: UnsafeBufferPointer<UInt8>) -> Int32 {
    token.count == 2
      ? pairs[Int(token[0]) << 8 | Int(token[1])] : ranks.id(of: token, ByteTable.key(token))
  }

  /// Pieces up to this length are merged here.
  static var shortLimit: Int { 64 }

  /// Merges 2 to `shortLimit` bytes: the pair of lowest rank again and again, leftmost on ties.
  ///
  /// Which bytes start a part is a set of bits; a pair is its rank with the byte it starts at below, so that the least
  /// is the next to merge. Nothing moves when two parts become one.
  func mergeShort(_ text: UnsafeBufferPointer<UInt8>, into output: inout IDBuffer) {
    let count = text.count
    let vectors = (count + 7) / 8
    withUnsafeTemporaryAllocation(of: SIMD8<Int32>.self, capacity: vectors * 2) { memory in
      let columns = memory.baseAddress!
      columns.initialize(repeating: SIMD8(repeating: .max), count: vectors * 2)
      columns.withMemoryRebound(to: Int32.self, capacity: vectors * 16) { pairs in
        let ids = pairs + vectors * 8
        for i in 0..<count { ids[i] = bytes[Int(text[i])] }
        for i in 0..<count - 1 {
          let rank = self.pairs[Int(text[i]) << 8 | Int(text[i + 1])]
          if rank >= 0 { pairs[i] = rank << 6 | Int32(i) }
        }
        let parts = merge(text, pairs: pairs, ids: ids, vectors: vectors)
        var left = parts
        while left != 0 {
          output.append(ids[left.trailingZeroBitCount])
          left &= left - 1
        }
      }
    }
  }

  /// - Returns: where the parts start that are left.
  @inline(__always)
  private func merge(
    _ text: UnsafeBufferPointer<UInt8>, pairs: UnsafeMutablePointer<Int32>, ids: UnsafeMutablePointer<Int32>,
    vectors: Int
  ) -> UInt64 {
    let count = text.count
    var parts: UInt64 = ~0 &>> UInt64(64 - count)
    /// The first part after `index`, or the end.
    @inline(__always) func next(_ index: Int) -> Int {
      // `>>` gives 0 for 64.
      let after = parts >> UInt64(index + 1)
      return after == 0 ? count : index + 1 + after.trailingZeroBitCount
    }
    @inline(__always) func look(_ start: Int, _ end: Int) {
      let rank = id(of: UnsafeBufferPointer(rebasing: text[start..<end]))
      pairs[start] = rank < 0 ? .max : rank << 6 | Int32(start)
    }
    while true {
      let least = self.least(pairs, vectors)
      guard least != .max else { return parts }
      let start = Int(least & 63)
      let gone = next(start)
      ids[start] = least >> 6
      parts &= ~(1 << UInt64(gone))
      pairs[gone] = .max
      let end = next(start)
      if end < count { look(start, next(end)) } else { pairs[start] = .max }
      if start > 0 { look(63 - (parts & (1 << UInt64(start) - 1)).leadingZeroBitCount, end) }
    }
  }

  @inline(__always)
  private func least(_ pairs: UnsafeMutablePointer<Int32>, _ vectors: Int) -> Int32 {
    let base = UnsafeRawPointer(pairs)
    var least = base.load(as: SIMD8<Int32>.self)
    for i in 1..<max(vectors, 1) {
      let more = base.load(fromByteOffset: 32 * i, as: SIMD8<Int32>.self)
      least.replace(with: more, where: more .< least)
    }
    let four = pointwiseMin(least.lowHalf, least.highHalf)
    let two = pointwiseMin(four.lowHalf, four.highHalf)
    return min(two.x, two.y)
  }
}
