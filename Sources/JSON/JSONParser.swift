import Files

/// Why a text is not the JSON it should be.
package struct JSONError: Error, Equatable, CustomStringConvertible, Sendable {
  package var byteOffset: Int
  package var detail: String
  package var description: String { "not valid JSON at byte \(byteOffset): \(detail)" }
}

extension JSONValue {
  /// Parses one JSON document (RFC 8259), strictly: no duplicate keys, no text after it, valid UTF-8.
  ///
  /// - Parameter maximumDepth: nesting beyond it is refused, so that hostile input cannot exhaust the stack.
  /// - Complexity: O(bytes).
  package static func parse(_ bytes: UnsafeRawBufferPointer, maximumDepth: Int = 128) throws(JSONError)
    -> JSONValue
  {
    var parser = JSONParser(bytes: bytes, maximumDepth: maximumDepth)
    parser.skipSpace()
    let value = try parser.value(depth: 0)
    parser.skipSpace()
    guard parser.position == bytes.count else { throw parser.error("text after the end of the document") }
    return value
  }

  package static func parse(_ bytes: [UInt8], maximumDepth: Int = 128) throws(JSONError) -> JSONValue {
    let result: Result<JSONValue, JSONError> = bytes.withUnsafeBytes { buffer in
      do throws(JSONError) { return .success(try parse(buffer, maximumDepth: maximumDepth)) } catch {
        return .failure(error)
      }
    }
    return try result.get()
  }

  package static func parse(_ text: String) throws(JSONError) -> JSONValue { try parse(Array(text.utf8)) }

  /// Parses a whole file.
  /// - Throws: ``FileError`` naming the file, and the byte where the text goes wrong.
  package static func parse(file path: String, maximumByteCount: Int = 1 << 30) throws -> JSONValue {
    let file = try MappedFile(path: path)
    guard file.byteCount <= maximumByteCount else {
      throw FileError(
        .badContent, path: path, reason: .tooLarge(found: file.byteCount, limit: maximumByteCount))
    }
    do {
      return try withExtendedLifetime(file) { try parse(file.bytes) }
    } catch let error as JSONError {
      let foreign = withExtendedLifetime(file) { ForeignContent(file.bytes) }
      throw FileError(.badContent, path: path, detail: foreign?.description ?? error.description)
    }
  }
}

private struct JSONParser {
  let bytes: UnsafeRawBufferPointer
  let maximumDepth: Int
  var position = 0

  init(bytes: UnsafeRawBufferPointer, maximumDepth: Int) {
    self.bytes = bytes
    self.maximumDepth = maximumDepth
    if bytes.count >= 3 && bytes[0] == 0xEF && bytes[1] == 0xBB && bytes[2] == 0xBF { position = 3 }
  }

  func error(_ detail: String, at offset: Int? = nil) -> JSONError {
    JSONError(byteOffset: offset ?? position, detail: detail)
  }

  var current: UInt8? { position < bytes.count ? bytes[position] : nil }

  mutating func skipSpace() {
    while let byte = current, byte == 0x20 || byte == 0x0A || byte == 0x0D || byte == 0x09 { position += 1 }
  }

  mutating func value(depth: Int) throws(JSONError) -> JSONValue {
    guard depth <= maximumDepth else { throw error("nested deeper than \(maximumDepth) levels") }
    guard let byte = current else { throw error("the text ends where a value should start") }
    switch byte {
    case UInt8(ascii: "{"): return try object(depth: depth)
    case UInt8(ascii: "["): return try array(depth: depth)
    case UInt8(ascii: "\""): return .string(try string())
    case UInt8(ascii: "t"): return try literal("true", .bool(true))
    case UInt8(ascii: "f"): return try literal("false", .bool(false))
    case UInt8(ascii: "n"): return try literal("null", .null)
    // Python writes these words and reads them, in configuration files among others. As numbers they are not finite, so that
    // whoever needs the field refuses it by name.
    case UInt8(ascii: "N"): return try literal("NaN", .number("NaN"))
    case UInt8(ascii: "I"): return try literal("Infinity", .number("Infinity"))
    case UInt8(ascii: "-") where position + 1 < bytes.count && bytes[position + 1] == UInt8(ascii: "I"):
      return try literal("-Infinity", .number("-Infinity"))
    case UInt8(ascii: "-"), UInt8(ascii: "0")...UInt8(ascii: "9"): return .number(try number())
    default: throw error("unexpected byte 0x\(String(byte, radix: 16))")
    }
  }

  mutating func literal(_ word: StaticString, _ value: JSONValue) throws(JSONError) -> JSONValue {
    let count = word.utf8CodeUnitCount
    guard position + count <= bytes.count else { throw error("incomplete word") }
    for index in 0..<count where bytes[position + index] != word.utf8Start[index] {
      throw error("unexpected word; expected \(word)")
    }
    position += count
    return value
  }

  mutating func object(depth: Int) throws(JSONError) -> JSONValue {
    position += 1
    var object = JSONObject()
    skipSpace()
    if current == UInt8(ascii: "}") {
      position += 1
      return .object(object)
    }
    while true {
      skipSpace()
      let start = position
      guard current == UInt8(ascii: "\"") else { throw error("expected a key in quotes") }
      let key = try string()
      guard object[key] == nil else { throw error("the key \"\(key)\" appears twice", at: start) }
      skipSpace()
      guard current == UInt8(ascii: ":") else { throw error("expected ':' after the key \"\(key)\"") }
      position += 1
      skipSpace()
      object[key] = try value(depth: depth + 1)
      skipSpace()
      switch current {
      case UInt8(ascii: ","): position += 1
      case UInt8(ascii: "}"):
        position += 1
        return .object(object)
      default: throw error("expected ',' or '}'")
      }
    }
  }

  mutating func array(depth: Int) throws(JSONError) -> JSONValue {
    position += 1
    var elements: [JSONValue] = []
    skipSpace()
    if current == UInt8(ascii: "]") {
      position += 1
      return .array(elements)
    }
    while true {
      skipSpace()
      elements.append(try value(depth: depth + 1))
      skipSpace()
      switch current {
      case UInt8(ascii: ","): position += 1
      case UInt8(ascii: "]"):
        position += 1
        return .array(elements)
      default: throw error("expected ',' or ']'")
      }
    }
  }

  mutating func number() throws(JSONError) -> String {
    let start = position
    func isDigit(_ byte: UInt8?) -> Bool { byte.map { $0 >= 0x30 && $0 <= 0x39 } ?? false }
    if current == UInt8(ascii: "-") { position += 1 }
    guard isDigit(current) else { throw error("a number needs a digit") }
    if current == UInt8(ascii: "0") {
      position += 1
    } else {
      while isDigit(current) { position += 1 }
    }
    if current == UInt8(ascii: ".") {
      position += 1
      guard isDigit(current) else { throw error("a digit must follow the decimal point") }
      while isDigit(current) { position += 1 }
    }
    if current == UInt8(ascii: "e") || current == UInt8(ascii: "E") {
      position += 1
      if current == UInt8(ascii: "+") || current == UInt8(ascii: "-") { position += 1 }
      guard isDigit(current) else { throw error("a digit must follow the exponent") }
      while isDigit(current) { position += 1 }
    }
    return String(decoding: UnsafeRawBufferPointer(rebasing: bytes[start..<position]), as: UTF8.self)
  }

  mutating func string() throws(JSONError) -> String {
    let start = position
    position += 1
    var end = position
    // The common case: no escapes, so the bytes are the string.
    while end < bytes.count, bytes[end] != UInt8(ascii: "\""), bytes[end] != UInt8(ascii: "\\"),
      bytes[end] >= 0x20
    {
      end += 1
    }
    guard end < bytes.count else { throw error("a string is not closed", at: start) }
    var units = Array(bytes[position..<end])
    position = end
    while true {
      guard let byte = current else { throw error("a string is not closed", at: start) }
      position += 1
      switch byte {
      case UInt8(ascii: "\""):
        guard let text = String(validating: units, as: UTF8.self) else {
          throw error("a string is not valid UTF-8", at: start)
        }
        return text
      case UInt8(ascii: "\\"): try escape(into: &units)
      case 0..<0x20: throw error("a control character in a string must be escaped", at: position - 1)
      default: units.append(byte)
      }
    }
  }

  mutating func escape(into units: inout [UInt8]) throws(JSONError) {
    guard let byte = current else { throw error("a string is not closed") }
    position += 1
    switch byte {
    case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): units.append(byte)
    case UInt8(ascii: "b"): units.append(0x08)
    case UInt8(ascii: "f"): units.append(0x0C)
    case UInt8(ascii: "n"): units.append(0x0A)
    case UInt8(ascii: "r"): units.append(0x0D)
    case UInt8(ascii: "t"): units.append(0x09)
    case UInt8(ascii: "u"):
      var value = try hexadecimal4()
      if (0xD800..<0xDC00).contains(value), position + 1 < bytes.count, bytes[position] == UInt8(ascii: "\\"),
        bytes[position + 1] == UInt8(ascii: "u")
      {
        let afterHigh = position
        position += 2
        let low = try hexadecimal4()
        if (0xDC00..<0xE000).contains(low) {
          value = 0x10000 + (value - 0xD800) << 10 + (low - 0xDC00)
        } else {
          position = afterHigh
        }
      }
      // A lone surrogate has no UTF-8: U+FFFD stands for it, as Python's errors="replace" does.
      let scalar = Unicode.Scalar(value) ?? "\u{FFFD}"
      units.append(contentsOf: UTF8.encode(scalar)!)
    default: throw error("unknown escape \\\(Character(Unicode.Scalar(byte)))", at: position - 1)
    }
  }

  mutating func hexadecimal4() throws(JSONError) -> UInt32 {
    guard position + 4 <= bytes.count else { throw error("\\u needs four hexadecimal digits") }
    var value: UInt32 = 0
    for _ in 0..<4 {
      guard let digit = Character(Unicode.Scalar(bytes[position])).hexDigitValue, bytes[position] < 0x80
      else {
        throw error("\\u needs four hexadecimal digits")
      }
      value = value << 4 | UInt32(digit)
      position += 1
    }
    return value
  }
}
