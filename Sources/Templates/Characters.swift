/// Characters as Python's `str` sees them: code points, and Python's own classes of them.

/// Decodes the character at an offset of valid UTF-8.
@inline(__always)
func decodeScalar(_ bytes: [UInt8], at offset: Int) -> (scalar: Unicode.Scalar, length: Int) {
  let first = UInt32(bytes[offset])
  if first < 0x80 { return (Unicode.Scalar(UInt8(first)), 1) }
  let length = first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4
  guard offset + length <= bytes.count else { return ("\u{FFFD}", bytes.count - offset) }
  var value = first & (length == 2 ? 0x1F : length == 3 ? 0x0F : 0x07)
  for index in 1..<length { value = value << 6 | UInt32(bytes[offset + index] & 0x3F) }
  return (Unicode.Scalar(value) ?? "\u{FFFD}", length)
}

/// Whether a byte begins a character of UTF-8.
@inline(__always) func beginsScalar(_ byte: UInt8) -> Bool { byte & 0xC0 != 0x80 }

/// Appends the UTF-8 bytes of a character.
func appendScalar(_ scalar: Unicode.Scalar, to bytes: inout [UInt8]) {
  if scalar.isASCII {
    bytes.append(UInt8(scalar.value))
  } else {
    bytes.append(contentsOf: UTF8.encode(scalar)!)
  }
}

extension [UInt8] {
  /// The number of characters in a range of UTF-8.
  func scalarCount(_ range: Range<Int>) -> Int {
    withUnsafeBufferPointer { buffer in
      var count = 0
      for index in range { count &+= beginsScalar(buffer[index]) ? 1 : 0 }
      return count
    }
  }

  var isASCII: Bool {
    withUnsafeBufferPointer { buffer in
      var all: UInt8 = 0
      for byte in buffer { all |= byte }
      return all < 0x80
    }
  }

  /// The offset of the character before `offset`, which must be above 0.
  func scalarStart(before offset: Int) -> Int {
    var start = offset - 1
    while start > 0, !beginsScalar(self[start]) { start -= 1 }
    return start
  }

  /// The length in bytes of the white space character at an offset, or 0.
  func whitespaceLength(at offset: Int) -> Int {
    guard offset < count else { return 0 }
    if self[offset] < 0x80 { return isASCIIWhitespace(self[offset]) ? 1 : 0 }
    let (scalar, length) = decodeScalar(self, at: offset)
    return scalar.isPythonSpace ? length : 0
  }

  /// The end of the white space that begins at an offset.
  func whitespaceEnd(from offset: Int) -> Int {
    var end = offset
    while case let length = whitespaceLength(at: end), length > 0 { end += length }
    return end
  }

  /// The start of the white space that ends at an offset, not before `lowest`.
  func whitespaceStart(before offset: Int, lowest: Int) -> Int {
    var start = offset
    while start > lowest {
      let previous = scalarStart(before: start)
      if whitespaceLength(at: previous) == 0 { break }
      start = previous
    }
    return start
  }

  /// Whether these bytes stand at an offset of `whole`.
  func isFound(in whole: [UInt8], at offset: Int) -> Bool {
    guard offset >= 0, count <= whole.count - offset else { return false }
    for index in indices where self[index] != whole[offset + index] { return false }
    return true
  }
}

@inline(__always) func isASCIIWhitespace(_ byte: UInt8) -> Bool {
  byte == 0x20 || (0x09...0x0D).contains(byte) || (0x1C...0x1F).contains(byte)
}

extension Unicode.Scalar {
  /// `str.isspace`, which is also what `strip` and the `\s` of regular expressions go by.
  var isPythonSpace: Bool {
    switch value {
    case 0x09...0x0D, 0x1C...0x20, 0x85, 0xA0, 0x1680, 0x2000...0x200A, 0x2028, 0x2029, 0x202F, 0x205F,
      0x3000:
      true
    default: false
    }
  }

  /// The ends of lines of `str.splitlines`.
  var isPythonLineBreak: Bool {
    switch value {
    case 0x0A...0x0D, 0x1C...0x1E, 0x85, 0x2028, 0x2029: true
    default: false
    }
  }

  /// `str.isprintable`: what `repr` does not escape.
  var isPythonPrintable: Bool {
    if value < 0x7F { return value >= 0x20 }
    switch properties.generalCategory {
    case .control, .format, .surrogate, .privateUse, .unassigned, .lineSeparator, .paragraphSeparator,
      .spaceSeparator:
      return false
    default: return true
    }
  }

  var isPythonAlpha: Bool {
    if isASCII { return (value | 0x20) >= 0x61 && (value | 0x20) <= 0x7A }
    switch properties.generalCategory {
    case .uppercaseLetter, .lowercaseLetter, .titlecaseLetter, .modifierLetter, .otherLetter: return true
    default: return false
    }
  }

  var isPythonDecimal: Bool { isASCII ? (0x30...0x39).contains(value) : properties.numericType == .decimal }
  var isPythonDigit: Bool { isPythonDecimal || properties.numericType == .digit }
  var isPythonNumeric: Bool { properties.numericType != nil }
  var isPythonAlnum: Bool { isPythonAlpha || isPythonNumeric }

  /// `\w` of regular expressions.
  var isWordCharacter: Bool { value == 0x5F || isPythonAlnum }

  var isPythonUpper: Bool { properties.isUppercase }
  var isPythonLower: Bool { properties.isLowercase }
  var isPythonTitle: Bool { properties.generalCategory == .titlecaseLetter }
  var isPythonCased: Bool { isPythonUpper || isPythonLower || isPythonTitle }

  /// Whether an identifier may go on with this character.
  var continuesIdentifier: Bool { isASCII ? isWordCharacter : properties.isXIDContinue }
  /// Whether an identifier may begin with this character.
  var beginsIdentifier: Bool {
    isASCII ? value == 0x5F || isPythonAlpha : properties.isXIDStart
  }
}

/// The ASCII characters that are compared with.
enum Byte {
  static let newline = UInt8(ascii: "\n")
  static let carriageReturn = UInt8(ascii: "\r")
  static let openBrace = UInt8(ascii: "{")
  static let closeBrace = UInt8(ascii: "}")
  static let openParenthesis = UInt8(ascii: "(")
  static let closeParenthesis = UInt8(ascii: ")")
  static let openBracket = UInt8(ascii: "[")
  static let closeBracket = UInt8(ascii: "]")
  static let percent = UInt8(ascii: "%")
  static let hash = UInt8(ascii: "#")
  static let minus = UInt8(ascii: "-")
  static let plus = UInt8(ascii: "+")
  static let dot = UInt8(ascii: ".")
  static let underscore = UInt8(ascii: "_")
  static let backslash = UInt8(ascii: "\\")
  static let quote = UInt8(ascii: "'")
  static let doubleQuote = UInt8(ascii: "\"")
  static let space = UInt8(ascii: " ")
  static let zero = UInt8(ascii: "0")
  static let letterB = UInt8(ascii: "b")
  static let letterE = UInt8(ascii: "e")
  static let letterO = UInt8(ascii: "o")
  static let letterX = UInt8(ascii: "x")
}
