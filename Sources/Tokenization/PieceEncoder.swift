/// Encodes the pieces of one text one after the other.
struct PieceEncoder: ~Copyable {
  private let table: RankTable
  private let characters: UnsafePointer<CharacterTable.Entry>
  private let cache: PieceCache
  private let recalled: PieceCache.View
  private let textEnd: UnsafePointer<UInt8>
  private(set) var ids: IDBuffer

  /// - Parameters:
  ///   - characters: valid, as the table, as long as the encoder is used.
  ///   - text: all of the text, not empty; it stays where it is.
  init(
    _ table: RankTable, _ characters: UnsafePointer<CharacterTable.Entry>, text: UnsafeBufferPointer<UInt8>
  ) {
    self.table = table
    self.characters = characters
    cache = PieceCache(textLength: text.count)
    recalled = cache.view
    textEnd = text.baseAddress! + text.count
    ids = IDBuffer(capacity: text.count / 2 + 16)
  }

  mutating func append(_ id: Int) {
    ids.reserve(1)
    ids.append(Int32(truncatingIfNeeded: id))
  }

  /// Encodes a part of the text that holds no special token.
  mutating func encode(_ text: UnsafeBufferPointer<UInt8>) {
    CharacterClasses.withTable { classes in
      let cursor = TextCursor(bytes: text, table: classes)
      var start = 0
      while start < text.count {
        let end = cursor.cl100kEnd(start, digits: 1)
        encodePiece(UnsafeBufferPointer(rebasing: text[start..<end]))
        start = end
      }
    }
  }

  @inline(__always)
  private mutating func encodePiece(_ piece: UnsafeBufferPointer<UInt8>) {
    let count = piece.count
    // A piece has at most as many ids as bytes; `append` of three writes two more.
    ids.reserve(count + 2)
    if count == 1 { return ids.append(table.bytes[Int(piece[0])]) }
    if count == 2 {
      let pair = table.pairs[Int(piece[0]) << 8 | Int(piece[1])]
      if pair >= 0 { return ids.append(pair) }
      ids.append(table.bytes[Int(piece[0])])
      return ids.append(table.bytes[Int(piece[1])])
    }
    if piece[count - 1] < 0x80 { return encodeAtOnce(piece, isWhole: true) }
    encodeByCharacters(piece)
  }

  /// Cuts a piece where nothing can merge.
  private mutating func encodeByCharacters(_ piece: UnsafeBufferPointer<UInt8>) {
    let count = piece.count
    /// Where what is not encoded yet starts, and its only character, if it is one.
    var start = 0
    var only: UnsafePointer<CharacterTable.Entry>?
    var i = 0
    while i < count {
      let first = Int(piece[i])
      let length = first < 0x80 ? 1 : first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4
      guard length < 4 else {
        only = nil
        i += 4
        continue
      }
      let value =
        length == 3
        ? (first & 0x0F) << 12 | Int(piece[i + 1] & 0x3F) << 6 | Int(piece[i + 2] & 0x3F)
        : length == 2 ? (first & 0x1F) << 6 | Int(piece[i + 1] & 0x3F) : first
      let entry = characters + value
      if i == 0 {
        only = entry
      } else if entry.pointee.canMerge(after: piece[i - 1]) {
        only = nil
      } else {
        encodePart(piece, start..<i, only)
        (start, only) = (i, entry)
      }
      i += length
    }
    if start == 0 { return encodeAtOnce(piece, isWhole: true) }
    encodePart(piece, start..<count, only)
  }

  @inline(__always)
  private mutating func encodePart(
    _ piece: UnsafeBufferPointer<UInt8>, _ range: Range<Int>, _ only: UnsafePointer<CharacterTable.Entry>?
  ) {
    if let only {
      ids.append(only.pointee.ids, count: only.pointee.idCount)
    } else {
      encodeAtOnce(UnsafeBufferPointer(rebasing: piece[range]), isWhole: false)
    }
  }

  /// - Parameter isWhole: a whole piece that is a token becomes it without merging; a part of one is merged.
  @inline(__always)
  private mutating func encodeAtOnce(_ piece: UnsafeBufferPointer<UInt8>, isWhole: Bool) {
    guard let start = piece.baseAddress, piece.count <= Int(Int32.max) else {
      return merge(piece, isWhole: isWhole)
    }
    let key = PieceCache.Key(start, count: piece.count, limit: textEnd - start, isWhole: isWhole)
    if recalled.recall(key, into: &ids) { return }
    let first = ids.count
    merge(piece, isWhole: isWhole)
    recalled.remember(key, first: first, ids: ids)
  }

  @inline(never)
  private mutating func merge(_ piece: UnsafeBufferPointer<UInt8>, isWhole: Bool) {
    if isWhole {
      let id = table.id(of: piece)
      if id >= 0 { return ids.append(id) }
    }
    if piece.count <= RankTable.shortLimit { return table.mergeShort(piece, into: &ids) }
    let parts = piece.enumerated().map { (id: table.bytes[Int($0.element)], start: Int32($0.offset)) }
    var merged: [Int] = []
    BytePairMerger(table: table).merge(parts, text: piece, into: &merged)
    for id in merged { ids.append(Int32(truncatingIfNeeded: id)) }
  }
}
