/// A word of the template language.
struct Token {
  enum Kind: Equatable {
    case data([UInt8])
    case variableBegin, variableEnd, blockBegin, blockEnd
    case name(String)
    case string([UInt8])
    case integer(Int)
    case largeInteger(String)
    case float(Double)
    /// An operator or a punctuation mark, by its spelling.
    case symbol(String)
    case end
  }

  let kind: Kind
  let line: Int
}

/// Cuts a template's source into tokens, with the white space rules of `trim_blocks` and `lstrip_blocks`.
struct Lexer {
  private let source: [UInt8]
  private var position = 0
  private var line = 1
  private var countedUntil = 0
  /// Whether what was read last ended with the end of a line.
  private var isLineStart = true
  private var tokens: [Token] = []

  static func tokens(of source: String) throws -> [Token] {
    var lexer = Lexer(normalizingNewlines: source)
    try lexer.scanTemplate()
    lexer.emit(.end)
    return lexer.tokens
  }

  /// All ends of lines become `\n`, and one at the end of the source is dropped.
  private init(normalizingNewlines text: String) {
    var bytes: [UInt8] = []
    bytes.reserveCapacity(text.utf8.count)
    var previous: UInt8 = 0
    for byte in text.utf8 {
      if byte == Byte.newline, previous == Byte.carriageReturn {
        previous = byte
        continue
      }
      bytes.append(byte == Byte.carriageReturn ? Byte.newline : byte)
      previous = byte
    }
    if bytes.last == Byte.newline { bytes.removeLast() }
    source = bytes
  }

  // MARK: Between tags

  private mutating func scanTemplate() throws {
    while position < source.count {
      guard let begin = nextTag(from: position) else {
        emit(.data(Array(source[position...])))
        position = source.count
        return
      }
      if let end = rawBegin(at: begin) {
        emitData(upTo: begin, sign: sign(at: begin + 2), isVariable: false)
        position = end
        isLineStart = source[end - 1] == Byte.newline
        try scanRaw()
        continue
      }
      let kind = source[begin + 1]
      let sign = sign(at: begin + 2)
      emitData(upTo: begin, sign: sign, isVariable: kind == Byte.openBrace)
      position = begin + (sign == nil ? 2 : 3)
      isLineStart = false
      switch kind {
      case Byte.hash: try scanComment()
      case Byte.openBrace: try scanTag(isVariable: true)
      default: try scanTag(isVariable: false)
      }
    }
  }

  /// The offset of the next `{{`, `{%` or `{#`.
  private func nextTag(from start: Int) -> Int? {
    var index = start
    while index + 1 < source.count {
      if source[index] == Byte.openBrace,
        [Byte.openBrace, Byte.percent, Byte.hash].contains(source[index + 1])
      {
        return index
      }
      index += 1
    }
    return nil
  }

  private func sign(at offset: Int) -> UInt8? {
    guard offset < source.count, source[offset] == Byte.minus || source[offset] == Byte.plus else {
      return nil
    }
    return source[offset]
  }

  private mutating func emitData(upTo end: Int, sign: UInt8?, isVariable: Bool) {
    var textEnd = end
    if sign == Byte.minus {
      textEnd = source.whitespaceStart(before: end, lowest: position)
    } else if sign == nil, !isVariable {
      var lineStart = end
      while lineStart > position, source[lineStart - 1] != Byte.newline { lineStart -= 1 }
      if lineStart > position || isLineStart,
        source.whitespaceStart(before: end, lowest: lineStart) == lineStart
      {
        textEnd = lineStart
      }
    }
    if textEnd > position { emit(.data(Array(source[position..<textEnd]))) }
  }

  /// The end of `{% raw %}`, if it stands at an offset.
  private func rawBegin(at begin: Int) -> Int? {
    guard source[begin + 1] == Byte.percent else { return nil }
    return tagEnd(named: rawName, from: begin + (sign(at: begin + 2) == nil ? 2 : 3), trimsNewline: false)
  }

  /// The end of a tag that holds one name only.
  private func tagEnd(named name: [UInt8], from start: Int, trimsNewline: Bool) -> Int? {
    var index = source.whitespaceEnd(from: start)
    guard name.isFound(in: source, at: index) else { return nil }
    index = source.whitespaceEnd(from: index + name.count)
    if !trimsNewline, index < source.count, source[index] == Byte.plus { return nil }
    return closing(blockClosing, at: index, allowsPlus: trimsNewline, trimsNewline: trimsNewline)
  }

  /// The end of a closing bracket with its white space control, if it stands at an offset.
  private func closing(_ bracket: [UInt8], at offset: Int, allowsPlus: Bool, trimsNewline: Bool) -> Int? {
    if bracket.isFound(in: source, at: offset) {
      let end = offset + bracket.count
      return trimsNewline && end < source.count && source[end] == Byte.newline ? end + 1 : end
    }
    guard offset < source.count, bracket.isFound(in: source, at: offset + 1) else { return nil }
    let end = offset + 1 + bracket.count
    if source[offset] == Byte.minus { return source.whitespaceEnd(from: end) }
    return allowsPlus && source[offset] == Byte.plus ? end : nil
  }

  private mutating func scanComment() throws {
    if position >= source.count { return }
    for index in position..<source.count {
      if let end = closing(commentClosing, at: index, allowsPlus: true, trimsNewline: true) {
        finishTag(at: end)
        return
      }
    }
    throw failure("a comment has no end")
  }

  private mutating func scanRaw() throws {
    if position >= source.count { return }
    var index = position
    while let begin = nextTag(from: index) {
      index = begin + 1
      guard source[begin + 1] == Byte.percent else { continue }
      let sign = sign(at: begin + 2)
      let nameStart = begin + (sign == nil ? 2 : 3)
      guard let end = tagEnd(named: endRawName, from: nameStart, trimsNewline: true) else { continue }
      emitData(upTo: begin, sign: sign, isVariable: false)
      finishTag(at: end)
      return
    }
    throw failure("a raw block has no end")
  }

  private mutating func finishTag(at end: Int) {
    position = end
    isLineStart = source[end - 1] == Byte.newline
  }

  // MARK: Inside of tags

  private mutating func scanTag(isVariable: Bool) throws {
    emit(isVariable ? .variableBegin : .blockBegin)
    var open: [UInt8] = []
    while position < source.count {
      if open.isEmpty,
        let end = closing(
          isVariable ? variableClosing : blockClosing, at: position, allowsPlus: !isVariable,
          trimsNewline: !isVariable)
      {
        emit(isVariable ? .variableEnd : .blockEnd)
        finishTag(at: end)
        return
      }
      try scanToken(&open)
    }
  }

  private mutating func scanToken(_ open: inout [UInt8]) throws {
    let byte = source[position]
    if source.whitespaceLength(at: position) > 0 {
      position = source.whitespaceEnd(from: position)
    } else if isDigit(byte) {
      try scanNumber()
    } else if byte == Byte.quote || byte == Byte.doubleQuote {
      try scanString(byte)
    } else if case (let scalar, let length) = decodeScalar(source, at: position), scalar.beginsIdentifier {
      scanName(from: position + length)
    } else {
      try scanSymbol(&open)
    }
  }

  private mutating func scanName(from start: Int) {
    var end = start
    while end < source.count, case (let scalar, let length) = decodeScalar(source, at: end),
      scalar.continuesIdentifier
    {
      end += length
    }
    emit(.name(String(decoding: source[position..<end], as: UTF8.self)))
    position = end
  }

  private mutating func scanSymbol(_ open: inout [UInt8]) throws {
    if position + 1 < source.count {
      let pair = String(decoding: source[position...position + 1], as: UTF8.self)
      if ["//", "**", "==", "!=", ">=", "<="].contains(pair) {
        emit(.symbol(pair))
        position += 2
        return
      }
    }
    let byte = source[position]
    guard byte < 0x80, "+-/*%~[](){}<>=.:|,;".utf8.contains(byte) else {
      throw failure("unexpected character '\(decodeScalar(source, at: position).scalar)'")
    }
    switch byte {
    case Byte.openBrace: open.append(Byte.closeBrace)
    case Byte.openParenthesis: open.append(Byte.closeParenthesis)
    case Byte.openBracket: open.append(Byte.closeBracket)
    case Byte.closeBrace, Byte.closeParenthesis, Byte.closeBracket:
      guard open.popLast() == byte else { throw failure("unexpected '\(Unicode.Scalar(byte))'") }
    default: break
    }
    emit(.symbol(String(Unicode.Scalar(byte))))
    position += 1
  }

  // MARK: Numbers

  private mutating func scanNumber() throws {
    let isAfterDot = position > 0 && source[position - 1] == Byte.dot
    if !isAfterDot, let end = floatEnd() {
      let digits = source[position..<end].filter { $0 != Byte.underscore }
      emit(.float(Double(String(decoding: digits, as: UTF8.self)) ?? 0))
      position = end
      return
    }
    let (end, radix) = integerEnd()
    let prefix = radix == 10 ? 0 : 2
    let digits = String(
      decoding: source[(position + prefix)..<end].filter { $0 != Byte.underscore }, as: UTF8.self)
    if let value = Int(digits, radix: radix) {
      emit(.integer(value))
    } else if radix == 10 {
      emit(.largeInteger(digits))
    } else {
      throw failure("the integer \(digits) does not fit in 64 bits")
    }
    position = end
  }

  /// The end of digits with single underscores between them.
  private func digitsEnd(from start: Int, _ isMember: (UInt8) -> Bool = isDigit) -> Int? {
    guard start < source.count, isMember(source[start]) else { return nil }
    var end = start + 1
    while end < source.count {
      if isMember(source[end]) {
        end += 1
      } else if source[end] == Byte.underscore, end + 1 < source.count, isMember(source[end + 1]) {
        end += 2
      } else {
        break
      }
    }
    return end
  }

  private func floatEnd() -> Int? {
    guard let whole = digitsEnd(from: position) else { return nil }
    var end = whole
    if end < source.count, source[end] == Byte.dot, let fraction = digitsEnd(from: end + 1) { end = fraction }
    if end < source.count, source[end] | 0x20 == Byte.letterE {
      let signed = sign(at: end + 1) == nil ? end + 1 : end + 2
      if let exponent = digitsEnd(from: signed) { return exponent }
    }
    return end > whole ? end : nil
  }

  private func integerEnd() -> (end: Int, radix: Int) {
    if source[position] == Byte.zero {
      if position + 1 < source.count {
        let letter = source[position + 1] | 0x20
        let radix = letter == Byte.letterB ? 2 : letter == Byte.letterO ? 8 : letter == Byte.letterX ? 16 : 10
        if radix != 10 {
          var start = position + 2
          if start < source.count, source[start] == Byte.underscore { start += 1 }
          if let end = digitsEnd(from: start, { isDigit($0, radix: radix) }) { return (end, radix) }
        }
      }
      return (digitsEnd(from: position) { $0 == Byte.zero } ?? position + 1, 10)
    }
    return (digitsEnd(from: position) ?? position + 1, 10)
  }

  // MARK: Strings

  private mutating func scanString(_ mark: UInt8) throws {
    var end = position + 1
    while end < source.count, source[end] != mark { end += source[end] == Byte.backslash ? 2 : 1 }
    guard end < source.count else { throw failure("a string has no end") }
    let content = Array(source[(position + 1)..<end])
    emit(.string(content.contains(Byte.backslash) ? try unescaped(content) : content))
    position = end + 1
  }

  /// Replaces the escape sequences of Python's string literals.
  private func unescaped(_ content: [UInt8]) throws -> [UInt8] {
    var result: [UInt8] = []
    var index = 0
    while index < content.count {
      guard content[index] == Byte.backslash else {
        result.append(content[index])
        index += 1
        continue
      }
      let byte = content[index + 1]
      index += 2
      switch byte {
      case Byte.newline: break
      case Byte.backslash, Byte.quote, Byte.doubleQuote: result.append(byte)
      case UInt8(ascii: "a"): result.append(0x07)
      case Byte.letterB: result.append(0x08)
      case UInt8(ascii: "f"): result.append(0x0C)
      case UInt8(ascii: "n"): result.append(Byte.newline)
      case UInt8(ascii: "r"): result.append(Byte.carriageReturn)
      case UInt8(ascii: "t"): result.append(0x09)
      case UInt8(ascii: "v"): result.append(0x0B)
      case Byte.zero...UInt8(ascii: "7"):
        index -= 1
        let end = content[index..<min(index + 3, content.count)].prefix {
          (Byte.zero...UInt8(ascii: "7")).contains($0)
        }
        try appendScalar(of: Array(end), radix: 8, to: &result)
        index += end.count
      case Byte.letterX, UInt8(ascii: "u"), UInt8(ascii: "U"):
        let length = byte == Byte.letterX ? 2 : byte == UInt8(ascii: "u") ? 4 : 8
        guard index + length <= content.count else {
          throw failure("an escape sequence in a string is cut off")
        }
        try appendScalar(of: Array(content[index..<(index + length)]), radix: 16, to: &result)
        index += length
      case UInt8(ascii: "N"):
        throw TemplateError.unsupported("the escape sequence \\N in a string", line: currentLine())
      case 0x80...:
        // Python writes the character as an escape sequence first, whose backslash the one before it then escapes.
        let (scalar, length) = decodeScalar(content, at: index - 1)
        result.append(contentsOf: Array(escapeSequence(of: scalar).utf8))
        index += length - 1
      default: result.append(contentsOf: [Byte.backslash, byte])
      }
    }
    return result
  }

  private func appendScalar(of digits: [UInt8], radix: Int, to result: inout [UInt8]) throws {
    guard digits.allSatisfy({ isDigit($0, radix: radix) }),
      let value = UInt32(String(decoding: digits, as: UTF8.self), radix: radix),
      let scalar = Unicode.Scalar(value)
    else { throw failure("an escape sequence in a string is no character") }
    Templates.appendScalar(scalar, to: &result)
  }

  // MARK: Lines

  /// The line of the current position. Positions only grow, so each end of a line is counted once.
  private mutating func emit(_ kind: Token.Kind) {
    line += source[countedUntil..<position].reduce(0) { $0 + ($1 == Byte.newline ? 1 : 0) }
    countedUntil = position
    tokens.append(Token(kind: kind, line: line))
  }

  private func currentLine() -> Int {
    line + source[countedUntil..<min(position, source.count)].reduce(0) { $0 + ($1 == Byte.newline ? 1 : 0) }
  }

  private func failure(_ message: String) -> TemplateError { .syntax(message, line: currentLine()) }
}

/// `\xe9`, `\u4e2d` or `\U0001f600`.
func escapeSequence(of scalar: Unicode.Scalar) -> String {
  let digits = String(scalar.value, radix: 16)
  let (letter, width) = scalar.value < 0x100 ? ("x", 2) : scalar.value < 0x10000 ? ("u", 4) : ("U", 8)
  return "\\" + letter + String(repeating: "0", count: width - digits.count) + digits
}

func isDigit(_ byte: UInt8) -> Bool { (Byte.zero...UInt8(ascii: "9")).contains(byte) }

func isDigit(_ byte: UInt8, radix: Int) -> Bool {
  let value: UInt8
  switch byte {
  case Byte.zero...UInt8(ascii: "9"): value = byte - Byte.zero
  case UInt8(ascii: "a")...UInt8(ascii: "z"): value = byte - UInt8(ascii: "a") + 10
  case UInt8(ascii: "A")...UInt8(ascii: "Z"): value = byte - UInt8(ascii: "A") + 10
  default: return false
  }
  return value < radix
}

private let rawName = Array("raw".utf8)
private let endRawName = Array("endraw".utf8)
private let blockClosing = Array("%}".utf8)
private let commentClosing = Array("#}".utf8)
private let variableClosing = Array("}}".utf8)
