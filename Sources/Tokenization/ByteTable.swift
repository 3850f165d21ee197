/// Byte strings to ids and back: one flat pool of bytes and an open-addressing hash table over it.
struct ByteTable: Sendable {
  private var pool: [UInt8] = []
  /// Token `id` is `pool[starts[id] ..< starts[id + 1]]`.
  private var starts: [Int32] = [0]
  /// ids + 1; 0 is free. A power of two, at most half full.
  private var slots: [Int32]
  private(set) var longest = 0

  /// - Parameter capacity: how many tokens will be added at most.
  init(capacity: Int) {
    var size = 1024
    while size < capacity * 2 { size *= 2 }
    slots = [Int32](repeating: 0, count: size)
  }

  var count: Int { starts.count - 1 }

  /// The bytes of `id`.
  func bytes(of id: Int) -> ArraySlice<UInt8> { pool[Int(starts[id])..<Int(starts[id + 1])] }

  /// Adds the token with id `count`; false when the bytes are there already.
  mutating func append(_ token: some Sequence<UInt8>) -> Bool {
    let start = pool.count
    pool.append(contentsOf: token)
    let end = pool.count
    let id = count
    let exists = pool.withUnsafeBufferPointer { all in
      find(UnsafeBufferPointer(rebasing: all[start..<end])).id != nil
    }
    starts.append(Int32(end))
    longest = max(longest, end - start)
    if exists { return false }
    let slot = pool.withUnsafeBufferPointer { all in
      find(UnsafeBufferPointer(rebasing: all[start..<end])).slot
    }
    slots[slot] = Int32(id + 1)
    return true
  }

  /// The id of a byte string, or nil.
  @inline(__always)
  func id(of token: UnsafeBufferPointer<UInt8>) -> Int? {
    token.count > longest ? nil : find(token).id
  }

  private func find(_ token: UnsafeBufferPointer<UInt8>) -> (id: Int?, slot: Int) {
    let mask = slots.count - 1
    var slot = Int(truncatingIfNeeded: ByteTable.hash(token)) & mask
    return slots.withUnsafeBufferPointer { slots in
      starts.withUnsafeBufferPointer { starts in
        pool.withUnsafeBufferPointer { pool in
          while slots[slot] != 0 {
            let id = Int(slots[slot] - 1)
            let start = Int(starts[id])
            let length = Int(starts[id + 1]) - start
            if length == token.count {
              var same = true
              for i in 0..<length where pool[start + i] != token[i] {
                same = false
                break
              }
              if same { return (id, slot) }
            }
            slot = (slot + 1) & mask
          }
          return (nil, slot)
        }
      }
    }
  }

  /// Eight bytes at a time, multiplied and folded; tokens are short.
  @inline(__always)
  private static func hash(_ token: UnsafeBufferPointer<UInt8>) -> UInt64 {
    var h: UInt64 = 0x9E37_79B9_7F4A_7C15 ^ UInt64(token.count)
    var i = 0
    while i < token.count {
      var word: UInt64 = 0
      let n = min(8, token.count - i)
      for j in 0..<n { word |= UInt64(token[i + j]) << UInt64(8 * j) }
      let (high, low) = (h ^ word).multipliedFullWidth(by: 0xD6E8_FEB8_6659_FD93)
      h = high ^ low
      i += n
    }
    return h ^ h >> 32
  }
}
