/// Encodes the parts of one text one after the other, with BERT's normalizer and pre-tokenizer on the way.
struct WordPieceEncoder: ~Copyable {
  private let map: BertCharacterMap.View
  private let vocabulary: WordPieceVocabulary.View
  /// A word of more characters is unknown.
  private let longestWord: Int
  private let word: UnsafeMutablePointer<UInt8>
  private var byteCount = 0
  /// Counts on beyond ``longestWord``, when bytes are no longer kept.
  private var characterCount = 0
  private(set) var ids: IDBuffer

  /// - Parameters:
  ///   - map: valid, as the vocabulary, as long as the encoder is used.
  ///   - textLength: bytes of all of the text.
  init(
    _ map: BertCharacterMap.View, _ vocabulary: WordPieceVocabulary.View, longestWord: Int, textLength: Int
  ) {
    self.map = map
    self.vocabulary = vocabulary
    self.longestWord = longestWord
    // Replacements have less than 256 bytes.
    word = .allocate(capacity: 4 * longestWord + 256)
    ids = IDBuffer(capacity: textLength / 3 + 16)
  }

  deinit { word.deallocate() }

  mutating func append(_ id: Int) {
    ids.reserve(1)
    ids.append(Int32(truncatingIfNeeded: id))
  }

  /// Encodes a part of the text that holds no added token.
  /// - Returns: false when the table cannot tell, and then nothing was appended: ``encode(normalized:)`` can.
  mutating func encode(_ text: UnsafeBufferPointer<UInt8>) -> Bool {
    typealias Kind = BertCharacterMap.Kind
    let mark = ids.count
    let ascii = map.ascii
    var i = 0
    while i < text.count {
      let entry = ascii[Int(text[i])]
      if entry < 0x100 {
        append(word: UInt8(truncatingIfNeeded: entry))
        i += 1
        continue
      }
      if text[i] < 0x80 {
        switch BertCharacterMap.Entry(entry >> 8) {
        case Kind.removed: break
        case Kind.space: flush()
        case Kind.isolated:
          flush()
          ids.reserve(1)
          ids.append(vocabulary.id(ofCharacter: UInt32(text[i])))
        default:
          abandon(mark)
          return false
        }
        i += 1
        continue
      }
      let (value, length) = WordPieceEncoder.character(text, at: i)
      let wide = map[value]
      switch wide & Kind.mask {
      case Kind.word: append(word: text.baseAddress! + i, length, characters: 1)
      case Kind.removed: break
      case Kind.space: flush()
      case Kind.isolated:
        flush()
        if length < 4 {
          ids.reserve(1)
          ids.append(vocabulary.id(ofCharacter: value))
        } else {
          append(word: text.baseAddress! + i, length, characters: 1)
          flush()
        }
      case Kind.replaced:
        let (bytes, count, characters) = map.replacement(wide)
        append(word: bytes, count, characters: characters)
      case Kind.replacedIsolated:
        flush()
        let (bytes, count, characters) = map.replacement(wide)
        append(word: bytes, count, characters: characters)
        flush()
      default:
        abandon(mark)
        return false
      }
      i += length
    }
    flush()
    return true
  }

  /// Encodes text that is normalized already.
  mutating func encode(normalized text: UnsafeBufferPointer<UInt8>) {
    let characters = BertCharacters.shared
    var i = 0
    while i < text.count {
      let (value, length) = WordPieceEncoder.character(text, at: i)
      let traits = characters.traits(value)
      if traits.contains(.space) {
        flush()
      } else if traits.contains(.punctuation) {
        flush()
        append(word: text.baseAddress! + i, length, characters: 1)
        flush()
      } else {
        append(word: text.baseAddress! + i, length, characters: 1)
      }
      i += length
    }
    flush()
  }

  /// The character at byte `index` of valid UTF-8, and how many bytes it has.
  @inline(__always)
  private static func character(_ text: UnsafeBufferPointer<UInt8>, at index: Int) -> (UInt32, Int) {
    let first = UInt32(text[index])
    if first < 0x80 { return (first, 1) }
    let second = UInt32(text[index + 1] & 0x3F)
    if first < 0xE0 { return ((first & 0x1F) << 6 | second, 2) }
    let third = UInt32(text[index + 2] & 0x3F)
    if first < 0xF0 { return ((first & 0x0F) << 12 | second << 6 | third, 3) }
    return ((first & 0x07) << 18 | second << 12 | third << 6 | UInt32(text[index + 3] & 0x3F), 4)
  }

  @inline(__always)
  private mutating func append(word byte: UInt8) {
    if characterCount < longestWord {
      word[byteCount] = byte
      byteCount += 1
    }
    characterCount += 1
  }

  @inline(__always)
  private mutating func append(word bytes: UnsafePointer<UInt8>, _ count: Int, characters: Int) {
    if characterCount < longestWord {
      for i in 0..<count { word[byteCount + i] = bytes[i] }
      byteCount += count
    }
    characterCount += characters
  }

  @inline(__always)
  private mutating func flush() {
    guard characterCount > 0 else { return }
    ids.reserve(byteCount)
    if characterCount > longestWord {
      ids.append(vocabulary.unknown)
    } else {
      vocabulary.encode(UnsafeBufferPointer(start: word, count: byteCount), into: &ids)
    }
    byteCount = 0
    characterCount = 0
  }

  private mutating func abandon(_ mark: Int) {
    ids.truncate(to: mark)
    byteCount = 0
    characterCount = 0
  }
}
