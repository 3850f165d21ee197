import Files

/// What the pieces of one text became, for when they come again: a table of fixed size, the newest piece wins.
///
/// An entry says what there is to know of a short piece that is one token; of others it refers to the text and to the ids
/// already put out, so it costs nothing to make.
final class PieceCache {
  fileprivate struct Entry: BitwiseCopyable {
    var key: Key
    var idCount: Int32
    /// The only id, or where the ids start among those put out.
    var id: Int
  }
  private let entries: UnsafeMutableBufferPointer<Entry>

  /// - Parameter textLength: bytes that will be encoded; a short text gets a small table.
  init(textLength: Int) {
    var size = 64
    while size < 8192 && size * 64 < textLength { size *= 2 }
    entries = .allocate(capacity: size)
    entries.initialize(repeating: Entry(key: Key(low: 0, high: 0, length: 0), idCount: 0, id: 0))
  }

  deinit { entries.deallocate() }

  /// Valid as long as the cache.
  var view: View { View(entries: entries.baseAddress!, mask: entries.count - 1) }

  /// A piece: up to sixteen bytes themselves, of more a hash and where they are.
  struct Key: BitwiseCopyable {
    fileprivate var low: UInt64
    fileprivate var high: UInt64
    /// 0: no piece.
    fileprivate var length: UInt32

    fileprivate init(low: UInt64, high: UInt64, length: UInt32) {
      (self.low, self.high, self.length) = (low, high, length)
    }

    /// - Parameters:
    ///   - count: not 0, less than 2³¹.
    ///   - limit: how many bytes can be read from `start` on.
    ///   - isWhole: false for a part of a piece, which is not the same as a piece of the same bytes.
    @inline(__always)
    init(_ start: UnsafePointer<UInt8>, count: Int, limit: Int, isWhole: Bool) {
      length = UInt32(truncatingIfNeeded: count) | (isWhole ? 0 : 0x8000_0000)
      guard count <= 16 else {
        low = ByteTable.key(UnsafeBufferPointer(start: start, count: count)).hash
        high = UInt64(UInt(bitPattern: start))
        return
      }
      let bytes = UnsafeRawPointer(start)
      if limit >= 16 {
        // Sixteen bytes at once, and away with those behind the piece.
        low = bytes.loadUnaligned(as: UInt64.self) & (~0 &>> UInt64(64 - 8 * min(count, 8)))
        let high = bytes.loadUnaligned(fromByteOffset: 8, as: UInt64.self)
        self.high = count > 8 ? high & (~0 &>> UInt64(128 - 8 * count)) : 0
      } else {
        (low, high) = (0, 0)
        for i in 0..<min(count, 8) { low |= UInt64(start[i]) << UInt64(8 * i) }
        if count > 8 { for i in 8..<count { high |= UInt64(start[i]) << UInt64(8 * i - 64) } }
      }
    }

    @inline(__always)
    fileprivate var hash: Int {
      let far = isLong ? 0 : high
      let (high, low) = (low ^ 0x9E37_79B9_7F4A_7C15).multipliedFullWidth(
        by: far ^ UInt64(length) ^ 0xD6E8_FEB8_6659_FD93)
      return Int(truncatingIfNeeded: (high ^ low) & 0x7FFF_FFFF)
    }

    private var isLong: Bool { length & 0x7FFF_FFFF > 16 }

    @inline(__always)
    fileprivate func equals(_ other: Key) -> Bool {
      guard low == other.low && length == other.length else { return false }
      if high == other.high { return true }
      return isLong && hasSameBytes(as: other)
    }

    private func hasSameBytes(as other: Key) -> Bool {
      guard let a = UnsafePointer<UInt8>(bitPattern: UInt(high)),
        let b = UnsafePointer<UInt8>(bitPattern: UInt(other.high))
      else { return false }
      for i in 0..<Int(length & 0x7FFF_FFFF) where a[i] != b[i] { return false }
      return true
    }
  }

  /// The cache without a reference to it.
  struct View {
    fileprivate let entries: UnsafeMutablePointer<Entry>
    fileprivate let mask: Int

    /// Appends the ids of an equal piece seen before; false: none is remembered.
    @inline(__always)
    func recall(_ key: Key, into ids: inout IDBuffer) -> Bool {
      let entry = entries + (key.hash & mask)
      guard entry.pointee.key.equals(key) else { return false }
      if entry.pointee.idCount == 1 {
        ids.append(Int32(truncatingIfNeeded: entry.pointee.id))
      } else {
        ids.append(again: entry.pointee.id, count: Int(entry.pointee.idCount))
      }
      return true
    }

    /// Remembers that a piece, which stays where it is, became the ids from `first` on.
    @inline(__always)
    func remember(_ key: Key, first: Int, ids: borrowing IDBuffer) {
      let count = ids.count - first
      entries[key.hash & mask] = Entry(
        key: key, idCount: Int32(truncatingIfNeeded: count), id: count == 1 ? Int(ids[first]) : first)
    }
  }
}
