/// Finds the tokens of a word, always the longest that fits: a hash table of whole words, and a trie for the others.
///
/// A byte is looked at once for each token that starts before it and could still reach it. A word has a limited number of
/// characters, so the time is linear in the text whatever the vocabulary is.
struct WordPieceVocabulary: Sendable {
  /// An edge of the trie.
  fileprivate struct Slot: BitwiseCopyable {
    /// The node times 256 and the byte, and 1; 0: free.
    var key: UInt64 = 0
    var child: Int32 = 0
    /// The token that ends at the child; −1: none.
    var token: Int32 = -1
  }

  private let words: ByteTable
  private let wordIDs: TableMemory<Int32>
  private let slots: TableMemory<Slot>
  /// For each character of the basic plane the token that is only it, or else the unknown one.
  private let characterIDs: TableMemory<Int32>
  private let unknown: Int32

  /// Nodes that a trie begins at: of tokens at the start of a word, of the others.
  private static let (first, further): (Int, Int) = (0, 1)

  /// - Parameters:
  ///   - tokens: not empty, each once, with their ids below 2²⁴; together at most 2²³ bytes.
  ///   - prefix: what marks a token inside a word.
  ///   - longest: a token of more bytes fits no word.
  init(_ tokens: [(bytes: [UInt8], id: Int)], prefix: [UInt8], unknown: Int, longest: Int) {
    self.unknown = Int32(unknown)
    let byteCount = tokens.reduce(0) { $0 + $1.bytes.count }
    var words = ByteTable(capacity: tokens.count, byteCapacity: byteCount)
    wordIDs = TableMemory(repeating: 0, count: tokens.count)
    characterIDs = TableMemory(repeating: Int32(unknown), count: 0x10000)
    // A token is a path in the one trie or, without its prefix, in the other, or in both.
    var trie = Trie()
    for (bytes, id) in tokens {
      let isNew = words.append(bytes)
      precondition(isNew)
      wordIDs.pointer[words.count - 1] = Int32(id)
      if bytes.count <= 3, let value = WordPieceVocabulary.onlyCharacter(bytes) {
        characterIDs.pointer[Int(value)] = Int32(id)
      }
      if bytes.count <= longest { trie.insert(bytes[...], Int32(id), from: WordPieceVocabulary.first) }
      let rest = bytes.starts(with: prefix) ? bytes.dropFirst(prefix.count) : []
      if !rest.isEmpty && rest.count <= longest {
        trie.insert(rest, Int32(id), from: WordPieceVocabulary.further)
      }
    }
    self.words = words
    slots = trie.slots
  }

  private static func onlyCharacter(_ bytes: [UInt8]) -> UInt32? {
    let scalars = String(decoding: bytes, as: UTF8.self).unicodeScalars
    return scalars.count == 1 ? scalars.first?.value : nil
  }

  private struct Trie {
    /// A power of two, at most three quarters full.
    private(set) var slots = TableMemory(repeating: Slot(), count: 1024)
    private var edgeCount = 0
    private var nodeCount = 2

    mutating func insert(_ bytes: ArraySlice<UInt8>, _ token: Int32, from root: Int) {
      var node = root
      var place = 0
      for byte in bytes {
        place = WordPieceVocabulary.place(node, byte, slots.pointer, slots.count - 1)
        if slots.pointer[place].key == 0 {
          if edgeCount * 4 >= slots.count * 3 {
            grow()
            place = WordPieceVocabulary.place(node, byte, slots.pointer, slots.count - 1)
          }
          slots.pointer[place] = Slot(key: WordPieceVocabulary.key(node, byte), child: Int32(nodeCount))
          nodeCount += 1
          edgeCount += 1
        }
        node = Int(slots.pointer[place].child)
      }
      slots.pointer[place].token = token
    }

    private mutating func grow() {
      let larger = TableMemory(repeating: Slot(), count: slots.count * 2)
      for i in 0..<slots.count where slots.pointer[i].key != 0 {
        let slot = slots.pointer[i]
        let (node, byte) = (Int((slot.key - 1) >> 8), UInt8(truncatingIfNeeded: slot.key - 1))
        larger.pointer[WordPieceVocabulary.place(node, byte, larger.pointer, larger.count - 1)] = slot
      }
      slots = larger
    }
  }

  @inline(__always)
  fileprivate static func key(_ node: Int, _ byte: UInt8) -> UInt64 { UInt64(node) << 8 + UInt64(byte) + 1 }

  /// The slot of an edge, or the free one where it would be.
  @inline(__always)
  fileprivate static func place(
    _ node: Int, _ byte: UInt8, _ slots: UnsafeMutablePointer<Slot>, _ mask: Int
  ) -> Int {
    let key = key(node, byte)
    let (high, low) = key.multipliedFullWidth(by: 0x9E37_79B9_7F4A_7C15)
    var place = Int(truncatingIfNeeded: (high ^ low >> 17) & 0x7FFF_FFFF) & mask
    while slots[place].key != key && slots[place].key != 0 { place = (place + 1) & mask }
    return place
  }

  /// Valid as long as the vocabulary.
  var view: View {
    View(
      words: words.view, wordIDs: UnsafePointer(wordIDs.pointer), slots: slots.pointer,
      mask: slots.count - 1, characterIDs: UnsafePointer(characterIDs.pointer), unknown: unknown)
  }

  struct View {
    fileprivate let words: ByteTable.View
    fileprivate let wordIDs: UnsafePointer<Int32>
    fileprivate let slots: UnsafeMutablePointer<Slot>
    fileprivate let mask: Int
    fileprivate let characterIDs: UnsafePointer<Int32>
    let unknown: Int32

    /// The token of a word that is one character of the basic plane.
    @inline(__always)
    func id(ofCharacter value: UInt32) -> Int32 { characterIDs[Int(value)] }

    /// Appends the ids of a word that is not empty; there is room for as many as it has bytes.
    @inline(__always)
    func encode(_ word: UnsafeBufferPointer<UInt8>, into ids: inout IDBuffer) {
      let entry = words.id(of: word, ByteTable.key(word))
      if entry >= 0 { return ids.append(wordIDs[Int(entry)]) }
      encodeParts(word, into: &ids)
    }

    @inline(never)
    private func encodeParts(_ word: UnsafeBufferPointer<UInt8>, into ids: inout IDBuffer) {
      let mark = ids.count
      var root = WordPieceVocabulary.first
      var start = 0
      while start < word.count {
        var node = root
        var (token, end): (Int32, Int) = (-1, 0)
        for i in start..<word.count {
          let slot = slots[WordPieceVocabulary.place(node, word[i], slots, mask)]
          if slot.key == 0 { break }
          node = Int(slot.child)
          if slot.token >= 0 { (token, end) = (slot.token, i + 1) }
        }
        guard token >= 0 else {
          // Where nothing fits, all of the word is unknown.
          ids.truncate(to: mark)
          return ids.append(unknown)
        }
        ids.append(token)
        start = end
        root = WordPieceVocabulary.further
      }
    }
  }
}
