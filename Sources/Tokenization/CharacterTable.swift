/// For every character of the basic plane what it becomes when nothing before or after it merges with it, and whether
/// something before it can.
///
/// Bytes merge only into tokens. Where no token has the character with the byte before it, no merge reaches across, and
/// both sides merge as if they stood alone: so a run of Chinese falls into characters and a few short words.
struct CharacterTable: Sendable {
  struct Entry: BitwiseCopyable {
    /// Of the bytes that may stand before the character in a token, bit `byte & 63`. Different bytes share a bit: it may
    /// be set without need, never missing.
    var before: UInt64 = 0
    var ids: (Int32, Int32, Int32) = (0, 0, 0)
    var idCount: Int32 = 0

    @inline(__always)
    func canMerge(after byte: UInt8) -> Bool { before >> UInt64(byte & 63) & 1 != 0 }
  }
  private let memory = TableMemory(repeating: Entry(), count: 0x10000)
  private var entries: UnsafeMutablePointer<Entry> { memory.pointer }

  /// Valid as long as the table.
  var view: UnsafePointer<Entry> { UnsafePointer(entries) }

  init(_ ranks: ByteTable, _ merges: RankTable) {
    for id in 0..<ranks.count { noteCharacters(in: ranks.bytes(of: id)) }
    for value in 0..<0x10000 { setIDs(value, merges) }
  }

  /// Marks every character that starts inside a token with the byte before it.
  private func noteCharacters(in token: UnsafeBufferPointer<UInt8>) {
    for start in token.indices.dropFirst() {
      let first = Int(token[start])
      guard first < 0x80 || (0xC0..<0xF0).contains(first) else { continue }
      let length = first < 0x80 ? 1 : first < 0xE0 ? 2 : 3
      var value = first & (length == 1 ? 0x7F : length == 2 ? 0x1F : 0x0F)
      var missing = length - 1
      for byte in token[(start + 1)...].prefix(missing) where byte & 0xC0 == 0x80 {
        value = value << 6 | Int(byte & 0x3F)
        missing -= 1
      }
      // A token that ends inside a character marks all characters that could complete it. (A token that is not valid UTF-8
      // here never occurs in a text, so its marks do no harm.)
      let bit = UInt64(1) << UInt64(token[start - 1] & 63)
      let possible = value << (6 * missing)..<(value + 1) << (6 * missing)
      for character in possible { entries[character].before |= bit }
    }
  }

  private func setIDs(_ value: Int, _ merges: RankTable) {
    let byte = merges.bytes
    if value < 0x80 {
      entries[value].ids.0 = byte[value]
      entries[value].idCount = 1
      return
    }
    let last = 0x80 | value & 0x3F
    if value < 0x800 {
      let first = 0xC0 | value >> 6
      let pair = merges.pairs[first << 8 | last]
      entries[value].ids = pair >= 0 ? (pair, 0, 0) : (byte[first], byte[last], 0)
      entries[value].idCount = pair >= 0 ? 1 : 2
      return
    }
    let (first, middle) = (0xE0 | value >> 12, 0x80 | value >> 6 & 0x3F)
    let (left, right) = (merges.pairs[first << 8 | middle], merges.pairs[middle << 8 | last])
    entries[value].ids = (byte[first], byte[middle], byte[last])
    entries[value].idCount = 3
    guard left >= 0 || right >= 0 else { return }
    let isLeft = left >= 0 && (right < 0 || left < right)
    entries[value].ids = isLeft ? (left, byte[last], 0) : (byte[first], right, 0)
    entries[value].idCount = 2
    withUnsafeTemporaryAllocation(of: UInt8.self, capacity: 3) { bytes in
      (bytes[0], bytes[1], bytes[2]) = (UInt8(first), UInt8(middle), UInt8(last))
      let all = merges.ranks.id(of: UnsafeBufferPointer(bytes), ByteTable.key(UnsafeBufferPointer(bytes)))
      guard all >= 0 else { return }
      entries[value].ids = (all, 0, 0)
      entries[value].idCount = 1
    }
  }
}
