import Files

/// Byte strings to ids and back: one flat pool of bytes and an open-addressing hash table over it.
///
/// A slot holds enough to decide without looking elsewhere: for up to eight bytes the string itself, for longer ones a
/// 64-bit hash that is confirmed in the pool. A copy shares the memory: tokens are added before the table is copied.
struct ByteTable: Sendable {
  fileprivate struct Slot: BitwiseCopyable {
    var key: UInt64
    var length: UInt32
    var id: Int32
  }

  private let pool: TableMemory<UInt8>
  private let starts: TableMemory<Int32>
  private let slots: TableMemory<Slot>
  private let tags: TableMemory<UInt8>
  private(set) var count = 0
  private var longest = 0

  /// - Parameters:
  ///   - capacity: how many tokens will be added at most.
  ///   - byteCapacity: how many bytes they have in all at most.
  init(capacity: Int, byteCapacity: Int) {
    var size = 1024
    while size < capacity * 2 { size *= 2 }
    pool = TableMemory(count: byteCapacity)
    starts = TableMemory(repeating: 0, count: capacity + 1)
    slots = TableMemory(repeating: Slot(key: 0, length: 0, id: 0), count: size)
    tags = TableMemory(repeating: 0, count: size)
  }

  /// Valid as long as the table.
  var view: View {
    View(
      pool: UnsafePointer(pool.pointer), starts: UnsafePointer(starts.pointer),
      slots: UnsafePointer(slots.pointer), tags: UnsafePointer(tags.pointer), mask: slots.count - 1,
      longest: longest)
  }

  /// The bytes of `id`; valid as long as the table.
  func bytes(of id: Int) -> UnsafeBufferPointer<UInt8> {
    let (start, end) = (Int(starts.pointer[id]), Int(starts.pointer[id + 1]))
    return UnsafeBufferPointer(start: pool.pointer + start, count: end - start)
  }

  /// Adds the token, which is not empty, with id `count`; false when the bytes are there already.
  mutating func append(_ token: [UInt8]) -> Bool {
    let start = Int(starts.pointer[count])
    let end = start + token.count
    precondition(end <= pool.count && count + 1 < starts.count && !token.isEmpty)
    for (offset, byte) in token.enumerated() { pool.pointer[start + offset] = byte }
    let added = UnsafeBufferPointer(start: pool.pointer + start, count: token.count)
    let key = ByteTable.key(added)
    let found = view.find(added, key)
    let id = count
    starts.pointer[id + 1] = Int32(end)
    count += 1
    longest = max(longest, token.count)
    guard found.id < 0 else { return false }
    slots.pointer[found.slot] = Slot(key: key.bytes, length: UInt32(token.count), id: Int32(id))
    tags.pointer[found.slot] = key.tag
    return true
  }

  /// The id of a byte string, or nil.
  func id(of token: UnsafeBufferPointer<UInt8>) -> Int? {
    guard !token.isEmpty else { return nil }
    let id = view.id(of: token, ByteTable.key(token))
    return id < 0 ? nil : Int(id)
  }

  /// What a lookup computes first.
  struct Key: BitwiseCopyable {
    /// Up to eight bytes: the bytes themselves, told apart together with the length. More: a hash of all.
    fileprivate var bytes: UInt64
    var hash: UInt64
    /// Never 0.
    fileprivate var tag: UInt8 { UInt8(truncatingIfNeeded: hash >> 56) | 1 }
  }

  /// The key of a string that is not empty.
  @inline(__always)
  static func key(_ token: UnsafeBufferPointer<UInt8>) -> Key {
    let bytes = shortKey(token)
    return Key(bytes: bytes, hash: mixed(bytes &+ UInt64(token.count) &* 0x9E37_79B9_7F4A_7C15))
  }

  @inline(__always)
  private static func shortKey(_ token: UnsafeBufferPointer<UInt8>) -> UInt64 {
    guard let start = token.baseAddress else { return 0 }
    let base = UnsafeRawPointer(start)
    let count = token.count
    if count < 4 {
      return UInt64(start[0]) | UInt64(start[count >> 1]) << 8 | UInt64(start[count - 1]) << 16
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

  /// Lookups, without a reference to the table.
  struct View: BitwiseCopyable {
    fileprivate let pool: UnsafePointer<UInt8>
    /// Token `id` is `pool[starts[id] ..< starts[id + 1]]`.
    fileprivate let starts: UnsafePointer<Int32>
    /// A power of two, at most half full.
    fileprivate let slots: UnsafePointer<Slot>
    /// For every slot a byte of its hash, 0 when it is free: most strings that are no tokens are told from these alone,
    /// which fit a second-level cache where the slots do not.
    fileprivate let tags: UnsafePointer<UInt8>
    fileprivate let mask: Int
    fileprivate let longest: Int

    /// The id of a string that is not empty; −1: none.
    @inline(__always)
    func id(of token: UnsafeBufferPointer<UInt8>, _ key: Key) -> Int32 {
      token.count > longest ? -1 : find(token, key).id
    }

    @inline(__always)
    fileprivate func find(_ token: UnsafeBufferPointer<UInt8>, _ key: Key) -> (id: Int32, slot: Int) {
      var place = Int(truncatingIfNeeded: key.hash & 0x7FFF_FFFF) & mask
      while true {
        let tag = tags[place]
        if tag == 0 { return (-1, place) }
        if tag == key.tag {
          let slot = slots[place]
          if slot.key == key.bytes && Int(slot.length) == token.count
            && (token.count <= 8 || isEqual(token, Int(slot.id)))
          {
            return (slot.id, place)
          }
        }
        place = (place + 1) & mask
      }
    }

    private func isEqual(_ token: UnsafeBufferPointer<UInt8>, _ id: Int) -> Bool {
      let start = Int(starts[id])
      for i in 0..<token.count where pool[start + i] != token[i] { return false }
      return true
    }
  }
}
