import Foundation

/// What a BERT tokenizer asks of a character, as the `tokenizers` library answers it.
///
/// The library's tables are of fixed versions of Unicode: general categories of 8.0, decompositions and combining classes of 9.0
/// (in both, younger characters are unassigned), lower case and white space of today. The standard library knows in which version
/// a character was assigned; the few characters whose category changed since are listed here.
struct BertCharacters: Sendable {
  static let shared = BertCharacters()

  struct Traits: OptionSet, BitwiseCopyable, Sendable {
    let rawValue: UInt8
    /// Taken away by cleaning: control, format and private-use characters, U+0000 and U+FFFD.
    static let removed = Traits(rawValue: 1)
    static let space = Traits(rawValue: 2)
    /// ASCII punctuation and symbols, and the categories P*.
    static let punctuation = Traits(rawValue: 4)
    /// Category Mn, which stripping accents takes away.
    static let nonspacing = Traits(rawValue: 8)
    /// A combining class other than 0.
    static let reorders = Traits(rawValue: 16)
    static let decomposes = Traits(rawValue: 32)
    static let lowercases = Traits(rawValue: 64)
    /// Of the blocks that get spaces around each character.
    static let ideograph = Traits(rawValue: 128)
  }

  static let scalarCount: UInt32 = 0x110000
  static let hangul: ClosedRange<UInt32> = 0xAC00...0xD7A3
  /// As the library has them: 2B920, where the original BERT has 2B820, and none of the later extensions.
  static let ideographs: [ClosedRange<UInt32>] = [
    0x4E00...0x9FFF, 0x3400...0x4DBF, 0x20000...0x2A6DF, 0x2A700...0x2B73F, 0x2B740...0x2B81F,
    0x2B920...0x2CEAF, 0xF900...0xFAFF, 0x2F800...0x2FA1F,
  ]

  private let traits = TableMemory(repeating: Traits(), count: Int(scalarCount))
  /// Canonical decompositions in full, without those of Hangul, which are computed.
  private let decompositions: [UInt32: [UInt32]]

  private static let addedPunctuation: Set<UInt32> = [0x166D, 0x111C9]
  private static let addedNonspacing: Set<UInt32> = [0x1734, 0x1171E]
  private static let removedNonspacing: Set<UInt32> = [0x1885, 0x1886, 0xA9BD, 0x111C9]

  private init() {
    // Elsewhere characters have no traits, or those of their whole range.
    let ranges: [Range<UInt32>] = [
      0..<0x3400, 0x4DC0..<0x4E00, 0xA000..<0xAC00, 0xD7A4..<0xD800, 0xF900..<0x17000, 0x18B00..<0x20000,
      0x2F800..<0x2FA20, 0xE0000..<0xE0200,
    ]
    var mayDecompose: [Unicode.Scalar] = []
    for value in ranges.joined() {
      guard let scalar = Unicode.Scalar(value) else { continue }
      traits.pointer[Int(value)] = BertCharacters.traits(scalar)
      if value >= 0x80 { mayDecompose.append(scalar) }
    }
    decompositions = BertCharacters.decompositions(of: mayDecompose)
    for value in decompositions.keys { traits.pointer[Int(value)].insert(.decomposes) }
    for value in BertCharacters.hangul { traits.pointer[Int(value)].insert(.decomposes) }
    for value in BertCharacters.ideographs.joined() { traits.pointer[Int(value)].insert(.ideograph) }
    let privateUse: [ClosedRange<UInt32>] = [0xE000...0xF8FF, 0xF0000...0xFFFFD, 0x100000...0x10FFFD]
    for value in privateUse.joined() { traits.pointer[Int(value)].insert(.removed) }
  }

  private static func isAssigned(_ scalar: Unicode.Scalar, in version: Int) -> Bool {
    scalar.properties.age.map { $0.major < version || $0.major == version && $0.minor == 0 } ?? false
  }

  private static func traits(_ scalar: Unicode.Scalar) -> Traits {
    let properties = scalar.properties
    let value = scalar.value
    var traits: Traits = []
    // A property is asked only where the category allows it: a hundred thousand characters are looked at.
    let category = properties.generalCategory
    switch category {
    case .control:
      if value != 9 && value != 10 && value != 13 { traits.insert(.removed) }
      if properties.isWhitespace { traits.insert(.space) }
    case .format: if isAssigned(scalar, in: 8) { traits.insert(.removed) }
    case .spaceSeparator, .lineSeparator, .paragraphSeparator: traits.insert(.space)
    case .openPunctuation, .closePunctuation, .dashPunctuation, .connectorPunctuation, .initialPunctuation,
      .finalPunctuation, .otherPunctuation:
      if isAssigned(scalar, in: 8) { traits.insert(.punctuation) }
    case .nonspacingMark, .spacingMark:
      if category == .nonspacingMark && isAssigned(scalar, in: 8) && !removedNonspacing.contains(value) {
        traits.insert(.nonspacing)
      }
      if properties.canonicalCombiningClass != .notReordered && isAssigned(scalar, in: 9) {
        traits.insert(.reorders)
      }
    case .uppercaseLetter, .titlecaseLetter, .letterNumber, .otherSymbol:
      if properties.changesWhenLowercased { traits.insert(.lowercases) }
    default: break
    }
    if value == 0 || value == 0xFFFD { traits.insert(.removed) }
    switch value {
    case 33...47, 58...64, 91...96, 123...126: traits.insert(.punctuation)
    default: break
    }
    if addedPunctuation.contains(value) { traits.insert(.punctuation) }
    if addedNonspacing.contains(value) { traits.insert(.nonspacing) }
    return traits
  }

  /// All at once: a call for each character would take a hundred times as long.
  private static func decompositions(of scalars: [Unicode.Scalar]) -> [UInt32: [UInt32]] {
    var text = ""
    for scalar in scalars {
      text.unicodeScalars.append(scalar)
      text.unicodeScalars.append("\n")
    }
    let parts = Array(text.decomposedStringWithCanonicalMapping.unicodeScalars).split(separator: "\n")
    precondition(parts.count == scalars.count)
    var found: [UInt32: [UInt32]] = [:]
    for (scalar, part) in zip(scalars, parts) where part.count != 1 || part.first != scalar {
      if isAssigned(scalar, in: 9) { found[scalar.value] = part.map(\.value) }
    }
    return found
  }

  /// Of a code point.
  @inline(__always)
  func traits(_ value: UInt32) -> Traits { traits.pointer[Int(value)] }

  /// The traits that all 256 characters of a page have; nil: they differ.
  func traits(ofPage number: Int) -> Traits? {
    let page = UnsafeBufferPointer(start: traits.pointer + number << 8, count: 256)
    return page.allSatisfy { $0 == page[0] } ? page[0] : nil
  }

  /// NFD of one character.
  func decomposition(_ value: UInt32) -> [UInt32] {
    guard BertCharacters.hangul.contains(value) else { return decompositions[value] ?? [value] }
    let index = value - BertCharacters.hangul.lowerBound
    let jamo = [0x1100 + index / 588, 0x1161 + index % 588 / 28]
    return index % 28 == 0 ? jamo : jamo + [0x11A7 + index % 28]
  }

  func combiningClass(_ value: UInt32) -> UInt8 {
    guard traits(value).contains(.reorders), let scalar = Unicode.Scalar(value) else { return 0 }
    return scalar.properties.canonicalCombiningClass.rawValue
  }

  /// Of one character alone: no rule for a sigma at the end of a word.
  func lowercase(_ value: UInt32) -> [UInt32] {
    guard traits(value).contains(.lowercases), let scalar = Unicode.Scalar(value) else { return [value] }
    return scalar.properties.lowercaseMapping.unicodeScalars.map(\.value)
  }
}
