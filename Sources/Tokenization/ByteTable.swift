/// Byte strings to ids and back: one flat pool of bytes and an open-addressing hash table over it.
///
/// A slot holds enough to decide without looking elsewhere: for up to eight bytes the string itself, for longer ones a
/// 64-bit hash that is confirmed in the pool.
struct ByteTable: Sendable {
  private struct Slot: BitwiseCopyable {
    var key: UInt64
    /// 0: free.
    var length: UInt32
    var id: Int32
  }

  private var pool: [UInt8] = []
  /// Token `id` is `pool[starts[id] ..< starts[id + 1]]`.
  private var starts: [Int32] = [0]
  /// A power of two, at most half full.
  private var slots: [Slot]
  private(set) var longest = 0

  /// - Parameter capacity: how many tokens will be added at most.
  init(capacity: Int) {
    var size = 1024
    while size < capacity * 2 { size *= 2 }
    slots = [Slot](repeating: Slot(key: 0, length: 0, id: 0), count: size)
  }

  var count: Int { starts.count - 1 }

  /// The bytes of `id`.
  func bytes(of id: Int) -> ArraySlice<UInt8> { pool[Int(starts[id])..<Int(starts[id + 1])] }

  /// Adds the token, which is not empty, with id `count`; false when the bytes are there already.
  mutating func append(_ token: some Sequence<UInt8>) -> Bool {
    let start = pool.count
    pool.append(contentsOf: token)
    let end = pool.count
    let id = count
    let (existing, slot, key) = pool.withUnsafeBufferPointer { all in
      find(UnsafeBufferPointer(rebasing: all[start..<end]))
    }
    starts.append(Int32(end))
    longest = max(longest, end - start)
    guard existing == nil else { return false }
    slots[slot] = Slot(key: key, length: UInt32(end - start), id: Int32(id))
    return true
  }

  /// The id of a byte string, or nil.
  @inline(__always)
  func id(of token: UnsafeBufferPointer<UInt8>) -> Int? {
    token.count > longest || token.isEmpty ? nil : find(token).id
  }

  @inline(__always)
  private func find(_ token: UnsafeBufferPointer<UInt8>) -> (id: Int?, slot: Int, key: UInt64) {
    let key = ByteTable.key(token)
    let mask = slots.count - 1
    return slots.withUnsafeBufferPointer { slots in
      var place = ByteTable.place(key, token.count) & mask
      while true {
        let slot = slots[place]
        if slot.length == 0 { return (nil, place, key) }
        if slot.key == key && Int(slot.length) == token.count
          && (token.count <= 8 || isEqual(token, Int(slot.id)))
        {
          return (Int(slot.id), place, key)
        }
        place = (place + 1) & mask
      }
    }
  }

  private func isEqual(_ token: UnsafeBufferPointer<UInt8>, _ id: Int) -> Bool {
    pool.withUnsafeBufferPointer { pool in
      let start = Int(starts[id])
      for i in 0..<token.count where pool[start + i] != token[i] { return false }
      return true
    }
  }

  /// Up to eight bytes: the bytes themselves, told apart together with the length. More: a hash of all.
  @inline(__always)
  private static func key(_ token: UnsafeBufferPointer<UInt8>) -> UInt64 {
    guard let start = token.baseAddress else { return 0 }
    let base = UnsafeRawPointer(start)
    let count = token.count
    if count < 4 {
      return UInt64(token[0]) | UInt64(token[count >> 1]) << 8 | UInt64(token[count - 1]) << 16
    }
    if count <= 8 {
      return UInt64(base.loadUnaligned(as: UInt32.self))
        | UInt64(base.loadUnaligned(fromByteOffset: count - 4, as: UInt32.self)) << 32
    }
    var h: UInt64 = 0x9E37_79B9_7F4A_7C15
    var i = 0
    while i < count - 8 {
      h = mixed(h ^ base.loadUnaligned(fromByteOffset: i, as: UInt64.self))
      i += 8
    }
    return mixed(h ^ base.loadUnaligned(fromByteOffset: count - 8, as: UInt64.self))
  }

  @inline(__always)
  private static func mixed(_ x: UInt64) -> UInt64 {
    let (high, low) = x.multipliedFullWidth(by: 0xD6E8_FEB8_6659_FD93)
    return high ^ low
  }

  @inline(__always)
  private static func place(_ key: UInt64, _ count: Int) -> Int {
    Int(truncatingIfNeeded: mixed(key &+ UInt64(count) &* 0x9E37_79B9_7F4A_7C15) & 0x7FFF_FFFF_FFFF_FFFF)
  }
}
