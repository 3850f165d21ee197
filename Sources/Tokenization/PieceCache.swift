/// What the pieces of one text became, for when they come again: a table of fixed size, the newest piece wins.
///
/// It refers to the text and to the ids already put out, so an entry costs nothing to make.
final class PieceCache {
  fileprivate struct Entry: BitwiseCopyable {
    var piece: UnsafePointer<UInt8>?
    var length: Int32
    var idCount: Int32
    var firstID: Int
  }
  private let entries: UnsafeMutableBufferPointer<Entry>

  /// - Parameter textLength: bytes that will be encoded; a short text gets a small table.
  init(textLength: Int) {
    var size = 64
    while size < 8192 && size * 64 < textLength { size *= 2 }
    entries = .allocate(capacity: size)
    entries.initialize(repeating: Entry(piece: nil, length: 0, idCount: 0, firstID: 0))
  }

  deinit { entries.deallocate() }

  /// Valid as long as the cache.
  var view: View { View(entries: entries) }

  /// The cache without a reference to it.
  struct View {
    fileprivate let entries: UnsafeMutableBufferPointer<Entry>
    /// Appends the ids of an equal piece seen before; false: none is remembered.
    @inline(__always)
    func recall(_ piece: UnsafeBufferPointer<UInt8>, hash: UInt64, into ids: inout [Int]) -> Bool {
      let entry = entries[Int(truncatingIfNeeded: hash >> 32) & (entries.count - 1)]
      guard Int(entry.length) == piece.count, let before = entry.piece else { return false }
      for i in 0..<piece.count where piece[i] != before[i] { return false }
      for i in entry.firstID..<entry.firstID + Int(entry.idCount) { ids.append(ids[i]) }
      return true
    }

    /// Remembers that `piece`, which stays where it is, became `ids[firstID...]`.
    @inline(__always)
    func remember(_ piece: UnsafeBufferPointer<UInt8>, hash: UInt64, firstID: Int, ids: [Int]) {
      guard piece.count <= Int(Int32.max) else { return }
      entries[Int(truncatingIfNeeded: hash >> 32) & (entries.count - 1)] = Entry(
        piece: piece.baseAddress, length: Int32(piece.count), idCount: Int32(ids.count - firstID),
        firstID: firstID)
    }
  }
}
