/// What the split patterns ask of a character. Every character is in exactly one class.
enum CharacterClass: UInt8 {
  /// `\p{L}`
  case letter
  /// `\p{N}`
  case number
  /// CR or LF; white space too
  case newline
  /// Unicode White_Space other than CR and LF
  case space
  case other

  var isWhitespace: Bool { self == .space || self == .newline }
}

/// Classes of all characters: a table for the basic plane, the standard library's properties beyond it.
enum CharacterClasses {
  private static let basicPlane: [CharacterClass] = (0..<0x10000).map { value in
    Unicode.Scalar(UInt32(value)).map(compute) ?? .other
  }

  static func compute(_ scalar: Unicode.Scalar) -> CharacterClass {
    if scalar == "\n" || scalar == "\r" { return .newline }
    if scalar.properties.isWhitespace { return .space }
    switch scalar.properties.generalCategory {
    case .uppercaseLetter, .lowercaseLetter, .titlecaseLetter, .modifierLetter, .otherLetter: return .letter
    case .decimalNumber, .letterNumber, .otherNumber: return .number
    default: return .other
    }
  }

  /// `\w` of Unicode's regular expressions: alphabetic characters, marks, digits, joining punctuation and joiners.
  static func isWord(_ value: UInt32) -> Bool {
    guard let scalar = Unicode.Scalar(value) else { return false }
    switch scalar.properties.generalCategory {
    case .nonspacingMark, .spacingMark, .enclosingMark, .decimalNumber, .connectorPunctuation: return true
    default: return scalar.properties.isAlphabetic || scalar.properties.isJoinControl
    }
  }

  /// Calls `body` with the table, so that a scan looks it up without retaining it each time.
  static func withTable<Result>(_ body: (UnsafeBufferPointer<CharacterClass>) throws -> Result) rethrows
    -> Result
  {
    try basicPlane.withUnsafeBufferPointer(body)
  }
}

/// Reads characters and their classes from valid UTF-8.
struct TextCursor {
  let bytes: UnsafeBufferPointer<UInt8>
  let table: UnsafeBufferPointer<CharacterClass>

  /// The character at byte `index`: its value, class, and the byte after it. Nil at the end.
  @inline(__always)
  func character(at index: Int) -> (value: UInt32, kind: CharacterClass, next: Int)? {
    guard index < bytes.count else { return nil }
    let first = UInt32(bytes[index])
    if first < 0x80 { return (first, table[Int(first)], index + 1) }
    if first < 0xE0 {
      let value = (first & 0x1F) << 6 | continuation(index + 1)
      return (value, table[Int(value)], index + 2)
    }
    if first < 0xF0 {
      let value = (first & 0x0F) << 12 | continuation(index + 1) << 6 | continuation(index + 2)
      return (value, table[Int(value)], index + 3)
    }
    let value =
      (first & 0x07) << 18 | continuation(index + 1) << 12 | continuation(index + 2) << 6
      | continuation(index + 3)
    return (value, Unicode.Scalar(value).map(CharacterClasses.compute) ?? .other, index + 4)
  }

  /// The first byte at or after `index` whose character is not a letter.
  @inline(__always)
  func letterEnd(from index: Int) -> Int {
    guard let base = bytes.baseAddress else { return index }
    let start = UnsafeRawPointer(base)
    var end = index
    while end + 8 <= bytes.count {
      let letters = asciiLetters(start.loadUnaligned(fromByteOffset: end, as: UInt64.self))
      end += letters
      if letters == 8 { continue }
      if base[end] < 0x80 { return end }
      end = wideLetterEnd(from: end)
      if end < bytes.count && base[end] >= 0x80 { return end }
    }
    return self.end(of: .letter, from: end)
  }

  /// How many of eight bytes are ASCII letters before the first that is not.
  @inline(__always)
  private func asciiLetters(_ word: UInt64) -> Int {
    let high: UInt64 = 0x8080_8080_8080_8080
    let lower = (word | 0x2020_2020_2020_2020) & ~high
    // Bit 7 of each byte: at least `a`; more than `z`.
    let fromA = lower + 0x1F1F_1F1F_1F1F_1F1F
    let pastZ = lower + 0x0505_0505_0505_0505
    let others = ~(fromA & ~pastZ & ~word) & high
    return others.trailingZeroBitCount >> 3
  }

  /// As `letterEnd`, and it stops before ASCII.
  @inline(never)
  private func wideLetterEnd(from index: Int) -> Int {
    var end = index
    while end < bytes.count && bytes[end] >= 0x80, let c = character(at: end), c.kind == .letter {
      end = c.next
    }
    return end
  }

  @inline(__always)
  private func continuation(_ index: Int) -> UInt32 { UInt32(bytes[index]) & 0x3F }

  /// The first byte at or after `index` whose character is not in `kind`.
  @inline(__always)
  func end(of kind: CharacterClass, from index: Int) -> Int {
    var end = index
    while let c = character(at: end), c.kind == kind { end = c.next }
    return end
  }
}
