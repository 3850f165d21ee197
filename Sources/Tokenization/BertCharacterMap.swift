import Synchronization

/// What each character becomes in a BERT tokenizer, normalizer and pre-tokenizer together: one lookup for a character.
struct BertCharacterMap: Sendable {
  /// The kind in the low three bits; above them, for kinds that replace, where the replacement is in the pool.
  typealias Entry = UInt32
  enum Kind {
    /// A part of a word, as it is.
    static let word: Entry = 0
    static let removed: Entry = 1
    /// Ends a word.
    static let space: Entry = 2
    /// A word of its own, as it is.
    static let isolated: Entry = 3
    /// A part of a word, replaced.
    static let replaced: Entry = 4
    /// A word of its own, replaced.
    static let replacedIsolated: Entry = 5
    /// More than one character decides, or it becomes parts of several kinds.
    static let other: Entry = 7
    static let mask: Entry = 7
  }

  /// For each byte of ASCII below 256 the byte that a word gets, or else 256 times the kind; 256 times `other` for the bytes of
  /// longer characters.
  private let ascii = TableMemory<UInt16>(repeating: UInt16(Kind.other) << 8, count: 256)
  /// Page of 256 characters by the value above its last eight bits.
  private let pages: TableMemory<UInt16>
  private let entries: TableMemory<Entry>
  /// Replacements: a byte with the count of bytes, one with that of characters, and the bytes.
  private let pool: TableMemory<UInt8>

  /// Valid as long as the map.
  struct View: BitwiseCopyable {
    let ascii: UnsafePointer<UInt16>
    fileprivate let pages: UnsafePointer<UInt16>
    fileprivate let entries: UnsafePointer<Entry>
    fileprivate let pool: UnsafePointer<UInt8>

    @inline(__always)
    subscript(value: UInt32) -> Entry {
      entries[Int(pages[Int(value >> 8)]) << 8 | Int(value & 0xFF)]
    }

    @inline(__always)
    func replacement(_ entry: Entry) -> (bytes: UnsafePointer<UInt8>, byteCount: Int, characterCount: Int) {
      let start = pool + Int(entry >> 3)
      return (start + 2, Int(start[0]), Int(start[1]))
    }
  }

  var view: View {
    View(
      ascii: UnsafePointer(ascii.pointer), pages: UnsafePointer(pages.pointer),
      entries: UnsafePointer(entries.pointer), pool: UnsafePointer(pool.pointer))
  }

  private static let made = Mutex<[BertNormalizer: BertCharacterMap]>([:])

  /// The map for a normalizer, made once in a process: there are 16 at most.
  static func shared(for normalizer: BertNormalizer) -> BertCharacterMap {
    var normalizer = normalizer
    normalizer.stripsAccents = normalizer.removesMarks
    return made.withLock { made in
      if let map = made[normalizer] { return map }
      let map = BertCharacterMap(normalizer)
      made[normalizer] = map
      return map
    }
  }

  private init(_ normalizer: BertNormalizer) {
    var pool: [UInt8] = []
    var entries: [Entry] = []
    let pageCount = Int(BertCharacters.scalarCount >> 8)
    pages = TableMemory(repeating: 0, count: pageCount)
    // Most pages hold words as they are, or ideographs, and nothing else.
    var placeOfTraits: [UInt8: UInt16] = [:]
    for number in 0..<pageCount {
      let common = BertCharacters.shared.traits(ofPage: number)
      if let common, let known = placeOfTraits[common.rawValue] {
        pages.pointer[number] = known
        continue
      }
      let place = UInt16(entries.count >> 8)
      for low in 0..<256 {
        entries.append(BertCharacterMap.entry(UInt32(number << 8 | low), normalizer, &pool))
      }
      pages.pointer[number] = place
      if let common, common.isSubset(of: [.removed, .ideograph]) { placeOfTraits[common.rawValue] = place }
    }
    self.entries = TableMemory(count: entries.count)
    self.entries.pointer.initialize(from: entries, count: entries.count)
    self.pool = TableMemory(count: pool.count + 2)
    self.pool.pointer.initialize(from: pool, count: pool.count)
    for byte in 0..<128 {
      let entry = entries[Int(pages.pointer[0]) << 8 | byte]
      switch entry & Kind.mask {
      case Kind.word: ascii.pointer[byte] = UInt16(byte)
      case Kind.replaced where pool[Int(entry >> 3)] == 1:
        ascii.pointer[byte] = UInt16(pool[Int(entry >> 3) + 2])
      default: ascii.pointer[byte] = UInt16(entry & Kind.mask) << 8
      }
    }
  }

  private static func entry(_ value: UInt32, _ normalizer: BertNormalizer, _ pool: inout [UInt8]) -> Entry {
    let characters = BertCharacters.shared
    let traits = characters.traits(value)
    // Most characters: the steps below leave them alone.
    if traits.isEmpty { return Kind.word }
    if traits.contains(.removed) && normalizer.cleansText { return Kind.removed }
    if traits == .ideograph { return normalizer.spacesIdeographs ? Kind.isolated : Kind.word }
    var result = normalizer.normalized([value])
    let isSpaced = normalizer.spacesIdeographs && traits.contains(.ideograph) && result.count == 3
    if isSpaced { result = [result[1]] }
    if result.isEmpty { return Kind.removed }
    if normalizer.removesMarks && result.contains(where: { characters.traits($0).contains(.reorders) }) {
      return Kind.other
    }
    let separates = result.map { characters.traits($0).isDisjoint(with: [.space, .punctuation]) }
    if separates.contains(false) {
      guard result.count == 1 else { return Kind.other }
      if characters.traits(result[0]).contains(.space) { return Kind.space }
    }
    let isIsolated = isSpaced || separates[0] == false
    if result == [value] { return isIsolated ? Kind.isolated : Kind.word }
    var bytes: [UInt8] = []
    for value in result { bytes.append(scalar: value) }
    guard bytes.count < 256 else { return Kind.other }
    let place = Entry(pool.count)
    pool += [UInt8(bytes.count), UInt8(result.count)] + bytes
    return place << 3 | (isIsolated ? Kind.replacedIsolated : Kind.replaced)
  }
}
