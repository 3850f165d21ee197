/// The merges of a `tokenizer.json`: an open-addressing hash table of pairs of ids.
struct PairTable: MergeTable, Sendable {
  private struct Slot: BitwiseCopyable {
    var left: Int32
    var right: Int32
    /// −1: free.
    var rank: Int32
    var id: Int32
  }
  /// A power of two, at most half full.
  private var slots: [Slot]

  /// - Parameter capacity: how many pairs will be inserted at most.
  init(capacity: Int) {
    var size = 64
    while size < capacity * 2 { size *= 2 }
    slots = Array(repeating: Slot(left: 0, right: 0, rank: -1, id: 0), count: size)
  }

  /// Adds a pair, unless it is already present.
  mutating func insert(left: Int32, right: Int32, rank: Int32, id: Int32) {
    let place = find(left, right)
    if slots[place].rank < 0 { slots[place] = Slot(left: left, right: right, rank: rank, id: id) }
  }

  @inline(__always)
  func merge(left: Int32, right: Int32, text: UnsafeBufferPointer<UInt8>, range: Range<Int>) -> (
    rank: Int32, id: Int32
  )? {
    let slot = slots[find(left, right)]
    return slot.rank < 0 ? nil : (slot.rank, slot.id)
  }

  @inline(__always)
  private func find(_ left: Int32, _ right: Int32) -> Int {
    let key = UInt64(UInt32(bitPattern: left)) << 32 | UInt64(UInt32(bitPattern: right))
    let (high, low) = key.multipliedFullWidth(by: 0x9E37_79B9_7F4A_7C15)
    let mask = slots.count - 1
    var place = Int(truncatingIfNeeded: (high ^ low) & 0x7FFF_FFFF) & mask
    while slots[place].rank >= 0 && (slots[place].left != left || slots[place].right != right) {
      place = (place + 1) & mask
    }
    return place
  }
}
