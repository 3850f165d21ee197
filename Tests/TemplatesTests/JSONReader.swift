import Templates

/// A small JSON reader that keeps the order of members. For the goldens only.
struct JSONReader {
  let bytes: [UInt8]
  var position = 0
  init(_ text: String) { bytes = Array(text.utf8) }

  mutating func value() -> TemplateValue {
    skip()
    switch bytes[position] {
    case UInt8(ascii: "{"):
      position += 1
      var members: [TemplateMember] = []
      skip()
      while bytes[position] != UInt8(ascii: "}") {
        skip()
        let key = string()
        skip()
        position += 1
        members.append(TemplateMember(key, value()))
        skip()
        if bytes[position] == UInt8(ascii: ",") { position += 1 }
        skip()
      }
      position += 1
      return .object(members)
    case UInt8(ascii: "["):
      position += 1
      var items: [TemplateValue] = []
      skip()
      while bytes[position] != UInt8(ascii: "]") {
        items.append(value())
        skip()
        if bytes[position] == UInt8(ascii: ",") { position += 1 }
        skip()
      }
      position += 1
      return .array(items)
    case UInt8(ascii: "\""): return .string(string())
    case UInt8(ascii: "t"):
      position += 4
      return .boolean(true)
    case UInt8(ascii: "f"):
      position += 5
      return .boolean(false)
    case UInt8(ascii: "n"):
      position += 4
      return .null
    default:
      let start = position
      while position < bytes.count, "+-.eE0123456789NaInfity".utf8.contains(bytes[position]) { position += 1 }
      let text = String(decoding: bytes[start..<position], as: UTF8.self)
      if let integer = Int(text) { return .integer(integer) }
      if text.allSatisfy({ $0.isNumber || $0 == "-" }) { return .largeInteger(text) }
      return .number(
        Double(text == "NaN" ? "nan" : text == "Infinity" ? "inf" : text == "-Infinity" ? "-inf" : text) ?? 0)
    }
  }

  private mutating func skip() {
    while position < bytes.count, [0x20, 0x0A, 0x0D, 0x09].contains(bytes[position]) { position += 1 }
  }

  private mutating func string() -> String {
    position += 1
    var result: [UInt8] = []
    while bytes[position] != UInt8(ascii: "\"") {
      if bytes[position] == UInt8(ascii: "\\") {
        position += 1
        switch bytes[position] {
        case UInt8(ascii: "n"): result.append(10)
        case UInt8(ascii: "t"): result.append(9)
        case UInt8(ascii: "r"): result.append(13)
        case UInt8(ascii: "b"): result.append(8)
        case UInt8(ascii: "f"): result.append(12)
        case UInt8(ascii: "u"):
          var unit = hex()
          if (0xD800..<0xDC00).contains(unit), bytes[position + 1] == UInt8(ascii: "\\") {
            position += 2
            unit = 0x10000 + (unit - 0xD800) << 10 + hex() - 0xDC00
          }
          result.append(contentsOf: String(Unicode.Scalar(unit) ?? "\u{FFFD}").utf8)
        default: result.append(bytes[position])
        }
        position += 1
      } else {
        result.append(bytes[position])
        position += 1
      }
    }
    position += 1
    return String(decoding: result, as: UTF8.self)
  }

  private mutating func hex() -> UInt32 {
    let text = String(decoding: bytes[(position + 1)..<(position + 5)], as: UTF8.self)
    position += 4
    return UInt32(text, radix: 16) ?? 0xFFFD
  }
}

extension TemplateValue {
  subscript(key: String) -> TemplateValue? {
    guard case .object(let members) = self else { return nil }
    return members.last { $0.key == key }?.value
  }
  var string: String? { if case .string(let text) = self { text } else { nil } }
}
