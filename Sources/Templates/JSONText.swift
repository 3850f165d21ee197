/// JSON as `json.dumps` of Python writes it.
struct JSONStyle {
  var ensuresASCII = false
  /// One level of indentation; absent for everything on one line.
  var indent: Text?
  var itemSeparator = Text(", ", .data)
  var keySeparator = Text(": ", .data)
  var sortsKeys = false
}

extension Interpreter {
  /// The filter `tojson`. Its output is data, but for strings that are the template's own.
  func json(_ value: Value, _ arguments: Arguments) throws -> Value {
    let options = try arguments.bound(
      to: ["ensure_ascii", "indent", "separators", "sort_keys"], of: "tojson")
    var style = JSONStyle()
    style.ensuresASCII = try options[0].map { try isTrue($0) } ?? false
    style.sortsKeys = try options[3].map { try isTrue($0) } ?? false
    if let indent = options[1], !indent.isNone {
      style.indent = try indentation(indent)
      style.itemSeparator = Text(",", .data)
    }
    if let separators = options[2], !separators.isNone {
      let parts = try values(of: separators)
      guard parts.count == 2, case .text(let item) = parts[0], case .text(let key) = parts[1] else {
        throw TemplateError.evaluation("the separators of tojson must be two strings")
      }
      style.itemSeparator = item
      style.keySeparator = key
    }
    var writer = JSONTextWriter(interpreter: self, style: style)
    try writer.write(value)
    return .text(try finish(writer.builder))
  }

  private func indentation(_ value: Value) throws -> Text {
    switch value {
    case .text(let text): return text
    default:
      guard let width = value.integer else {
        throw TemplateError.evaluation("the indentation of tojson must be an integer or a string")
      }
      return try repeated(Text(" ", .data), count: width)
    }
  }
}

private struct JSONTextWriter {
  let interpreter: Interpreter
  let style: JSONStyle
  var builder = TextBuilder()
  private var level = 0

  init(interpreter: Interpreter, style: JSONStyle) {
    self.interpreter = interpreter
    self.style = style
  }

  mutating func write(_ value: Value) throws {
    try interpreter.step()
    try interpreter.check(builder)
    switch value {
    case .text(let text):
      try interpreter.look(at: text.byteCount * 4)
      write(text)
    case .list(let items), .tuple(let items): try interpreter.nested { try write(items.values) }
    case .dict(let dict): try interpreter.nested { try write(dict) }
    case .undefined(let undefined): throw undefined.error
    default:
      guard let scalar = scalar(value) else {
        throw TemplateError.evaluation("a '\(value.typeName)' cannot be written as JSON")
      }
      builder.append(scalar, .data)
    }
  }

  private func scalar(_ value: Value) -> String? {
    switch value {
    case .none: "null"
    case .bool(let value): value ? "true" : "false"
    case .int(let value): String(value)
    case .large(let digits): digits
    case .float(let value):
      value.isNaN
        ? "NaN" : value.isInfinite ? (value < 0 ? "-Infinity" : "Infinity") : value.pythonDescription
    default: nil
    }
  }

  private mutating func write(_ values: [Value]) throws {
    if values.isEmpty {
      builder.append("[]", .data)
      return
    }
    builder.append("[", .data)
    level += 1
    for (index, value) in values.enumerated() {
      try separate(isFirst: index == 0)
      try write(value)
    }
    level -= 1
    try breakLine()
    builder.append("]", .data)
  }

  private mutating func write(_ dict: Dict) throws {
    if dict.count == 0 {
      builder.append("{}", .data)
      return
    }
    builder.append("{", .data)
    level += 1
    for (index, position) in try order(of: dict).enumerated() {
      try separate(isFirst: index == 0)
      try write(key: dict.keys[position])
      builder.append(style.keySeparator)
      try write(dict.values[position])
    }
    level -= 1
    try breakLine()
    builder.append("}", .data)
  }

  private func order(of dict: Dict) throws -> [Int] {
    guard style.sortsKeys else { return Array(0..<dict.count) }
    return try interpreter.sorted(Array(0..<dict.count)) {
      try interpreter.isLess(dict.keys[$0], dict.keys[$1])
    }
  }

  private mutating func write(key: Value) throws {
    if case .text(let text) = key {
      try interpreter.look(at: text.byteCount * 4)
      write(text)
    } else if let scalar = scalar(key) {
      builder.append("\"\(scalar)\"", .data)
    } else {
      throw TemplateError.evaluation("a '\(key.typeName)' cannot be a key of JSON")
    }
  }

  private mutating func separate(isFirst: Bool) throws {
    if !isFirst { builder.append(style.itemSeparator) }
    try breakLine()
  }

  private mutating func breakLine() throws {
    guard let indent = style.indent else { return }
    builder.append("\n", .data)
    for _ in 0..<level {
      builder.append(indent)
      try interpreter.check(builder)
    }
    try interpreter.look(at: indent.byteCount * level)
  }

  private mutating func write(_ text: Text) {
    builder.append("\"", .data)
    let bytes = text.bytes
    text.forEachRun(in: 0..<text.byteCount) { range, origin in
      var start = range.lowerBound
      var offset = start
      while offset < range.upperBound {
        let byte = bytes[offset]
        if byte >= 0x80
          ? !style.ensuresASCII : (byte >= 0x20 && byte != Byte.doubleQuote && byte != Byte.backslash)
        {
          offset += 1
          continue
        }
        builder.append(text, start..<offset)
        let (scalar, length) = decodeScalar(bytes, at: offset)
        builder.append(escaped(scalar), origin)
        offset += length
        start = offset
      }
      builder.append(text, start..<offset)
    }
    builder.append("\"", .data)
  }

  private func escaped(_ scalar: Unicode.Scalar) -> String {
    switch scalar {
    case "\"": "\\\""
    case "\\": "\\\\"
    case "\n": "\\n"
    case "\r": "\\r"
    case "\t": "\\t"
    case "\u{08}": "\\b"
    case "\u{0C}": "\\f"
    default: UTF16.encode(scalar)!.reduce(into: "") { $0 += escaped(unit: $1) }
    }
  }

  private func escaped(unit: UInt16) -> String {
    let digits = String(unit, radix: 16)
    return "\\u" + String(repeating: "0", count: 4 - digits.utf8.count) + digits
  }
}
