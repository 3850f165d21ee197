/// `str.format`: text with replacement fields in braces.
extension Interpreter {
  func formatted(_ format: Text, _ arguments: Arguments) throws -> Text {
    var formatter = BraceFormatter(interpreter: self, arguments: arguments)
    return try formatter.run(format, level: 2)
  }
}

private struct BraceFormatter {
  let interpreter: Interpreter
  let arguments: Arguments
  /// The next field without a number; absent once a field has a number.
  private var nextField: Int? = 0
  private var hasNumbers = false

  init(interpreter: Interpreter, arguments: Arguments) {
    self.interpreter = interpreter
    self.arguments = arguments
  }

  /// - Parameter level: How deep fields may still be nested: a field may stand inside of a field's format.
  mutating func run(_ format: Text, level: Int) throws -> Text {
    guard level > 0 else { throw TemplateError.evaluation("the fields of a format are nested too deep") }
    let bytes = format.bytes
    var builder = TextBuilder()
    var position = 0
    while position < bytes.count {
      let byte = bytes[position]
      if byte != Byte.openBrace && byte != Byte.closeBrace {
        let end =
          bytes[position...].firstIndex { $0 == Byte.openBrace || $0 == Byte.closeBrace } ?? bytes.count
        builder.append(format, position..<end)
        position = end
      } else if position + 1 < bytes.count, bytes[position + 1] == byte {
        builder.append(format, position..<(position + 1))
        position += 2
      } else if byte == Byte.closeBrace {
        throw TemplateError.evaluation("the format has a single '}'")
      } else {
        let end = try fieldEnd(in: bytes, from: position + 1)
        builder.append(try field(format.piece((position + 1)..<end), level: level))
        position = end + 1
      }
      try interpreter.step()
      try interpreter.check(builder)
    }
    return try interpreter.finish(builder)
  }

  private func fieldEnd(in bytes: [UInt8], from start: Int) throws -> Int {
    var depth = 1
    for index in start..<bytes.count {
      if bytes[index] == Byte.openBrace { depth += 1 }
      if bytes[index] == Byte.closeBrace { depth -= 1 }
      if depth == 0 { return index }
    }
    throw TemplateError.evaluation("the format has a single '{'")
  }

  private mutating func field(_ field: Text, level: Int) throws -> Text {
    let bytes = field.bytes
    var nameEnd = 0
    var isBracketed = false
    while nameEnd < bytes.count {
      if bytes[nameEnd] == Byte.openBracket { isBracketed = true }
      if bytes[nameEnd] == Byte.closeBracket { isBracketed = false }
      if !isBracketed, [UInt8(ascii: "!"), UInt8(ascii: ":")].contains(bytes[nameEnd]) { break }
      nameEnd += 1
    }
    var value = try self.value(of: field.piece(0..<nameEnd))
    var position = nameEnd
    if position < bytes.count, bytes[position] == UInt8(ascii: "!") {
      guard position + 1 < bytes.count else {
        throw TemplateError.evaluation("a conversion is missing after '!'")
      }
      value = .text(try converted(value, bytes[position + 1]))
      position += 2
    }
    if position == bytes.count { return try interpreter.string(of: value) }
    guard bytes[position] == UInt8(ascii: ":") else {
      throw TemplateError.evaluation("':' must follow the conversion of a field")
    }
    let specification = try run(field.piece((position + 1)..<bytes.count), level: level - 1)
    return try interpreter.formatted(value, specification)
  }

  private func converted(_ value: Value, _ conversion: UInt8) throws -> Text {
    switch conversion {
    case UInt8(ascii: "s"): return try interpreter.string(of: value)
    case UInt8(ascii: "r"): return try interpreter.string(of: value, representing: true)
    case UInt8(ascii: "a"): return try interpreter.string(of: value, representing: true).escapingNonASCII()
    default: throw TemplateError.evaluation("unknown conversion '!\(Unicode.Scalar(conversion))' in a format")
    }
  }

  /// The value of `name.attribute[item]…`.
  private mutating func value(of name: Text) throws -> Value {
    let bytes = name.bytes
    var position = bytes.firstIndex { $0 == Byte.dot || $0 == Byte.openBracket } ?? bytes.count
    var value = try argument(name.piece(0..<position))
    while position < bytes.count {
      let isAttribute = bytes[position] == Byte.dot
      let start = position + 1
      let end: Int
      if isAttribute {
        end = bytes[start...].firstIndex { $0 == Byte.dot || $0 == Byte.openBracket } ?? bytes.count
      } else {
        guard let bracket = bytes[start...].firstIndex(of: Byte.closeBracket) else {
          throw TemplateError.evaluation("a field of a format lacks ']'")
        }
        end = bracket
      }
      guard end > start else { throw TemplateError.evaluation("a field of a format has an empty name") }
      let part = name.piece(start..<end)
      value =
        isAttribute
        ? try interpreter.member(Member(part), of: value) : try interpreter.item(key(part), of: value)
      position = isAttribute ? end : end + 1
    }
    return value
  }

  private func key(_ part: Text) -> Value {
    part.bytes.allSatisfy(isDigit) ? Int(part.string).map { .int($0) } ?? .text(part) : .text(part)
  }

  private mutating func argument(_ name: Text) throws -> Value {
    if !name.isEmpty, !name.bytes.allSatisfy(isDigit) {
      guard let argument = arguments.named.first(where: { $0.name == name.string }) else {
        throw TemplateError.evaluation("the format's field '\(name.string)' has no value")
      }
      return argument.value
    }
    let index: Int
    if name.isEmpty {
      guard !hasNumbers, let next = nextField else {
        throw TemplateError.evaluation("a format cannot have fields both with and without numbers")
      }
      index = next
      nextField = next + 1
    } else {
      guard hasNumbers || nextField == 0 else {
        throw TemplateError.evaluation("a format cannot have fields both with and without numbers")
      }
      hasNumbers = true
      index = Int(name.string) ?? .max
    }
    guard index < arguments.positional.count else {
      throw TemplateError.evaluation("the format's field \(index) has no value")
    }
    return arguments.positional[index]
  }
}

/// Format specifications: `[[fill]align][sign][#][0][width][grouping][.precision][type]`.
extension Interpreter {
  fileprivate func formatted(_ value: Value, _ specification: Text) throws -> Text {
    if specification.isEmpty { return try string(of: value) }
    let format = try parse(specification)
    switch value {
    case .text(let text): return try formatted(text, format)
    case .int(let integer): return try formatted(integer: integer, format)
    case .bool(let truth): return try formatted(integer: truth ? 1 : 0, format)
    case .float(let double): return try formatted(float: double, format)
    case .large: throw TemplateError.integerTooLarge(line: 0)
    default: throw TemplateError.evaluation("a '\(value.typeName)' has no formats")
    }
  }

  private func formatted(_ text: Text, _ format: NumberFormat) throws -> Text {
    guard format.type == nil || format.type == "s", format.plusSign.isEmpty, !format.isAlternative,
      format.grouping == nil, format.alignment != .afterSign
    else { throw TemplateError.evaluation("this format is not for strings") }
    let cut = format.precision.map { text.prefix(scalars: $0) } ?? text
    return try padded(cut, format, fallback: .left)
  }

  private func formatted(integer: Int, _ format: NumberFormat) throws -> Text {
    switch format.type {
    case nil, "d", "n", "b", "o", "x", "X":
      guard format.precision == nil else { throw TemplateError.evaluation("integers have no precision") }
      return try zeroFilled(format) { try formatted(integer, $0) }
    case "c":
      guard let scalar = UInt32(exactly: integer).flatMap(Unicode.Scalar.init) else {
        throw TemplateError.evaluation("\(integer) is no character")
      }
      return try padded(Text(String(scalar), .template), format, fallback: .left)
    default: return try formatted(float: Double(integer), format)
    }
  }

  private func formatted(float: Double, _ format: NumberFormat) throws -> Text {
    switch format.type {
    case "e", "E", "f", "F", "g", "G", "n", "%": return try zeroFilled(format) { try formatted(float, $0) }
    case nil:
      guard let precision = format.precision else { return try shortest(float, format) }
      return try zeroFilled(format) { try general(float, precision, $0) }
    default: throw TemplateError.evaluation("this format is not for floats")
    }
  }

  /// Without a type and a precision: `str`, with a sign and a width.
  private func shortest(_ float: Double, _ format: NumberFormat) throws -> Text {
    var text = float.pythonDescription
    if format.grouping != nil { throw TemplateError.unsupported("grouping of a float without a type") }
    let isNegative = text.hasPrefix("-")
    if isNegative { text.removeFirst() }
    let sign = isNegative ? "-" : format.plusSign
    return try padded(
      Text(sign + text, .template), format, signLength: sign.utf8.count, fallback: .right)
  }

  /// Without a type but with a precision: like `g`, but with a digit after the point.
  private func general(_ float: Double, _ precision: Int, _ format: NumberFormat) throws -> Text {
    var plain = format
    plain.type = "g"
    plain.width = 0
    var text = try formatted(float, plain).string
    let exponent =
      float == 0 || !float.isFinite ? 0 : DecimalDigits(float).scientific(max(1, precision)).exponent
    if float.isFinite, exponent >= max(1, precision) - 1, !text.contains("e") {
      plain.type = "e"
      plain.precision = max(0, precision - 1)
      text = try formatted(float, plain).string
      if let e = text.firstIndex(of: "e") {
        var mantissa = text[..<e]
        while mantissa.contains("."), mantissa.last == "0" || mantissa.last == "." { mantissa.removeLast() }
        text = String(mantissa + text[e...])
      }
    } else if float.isFinite, !text.contains("e"), !text.contains(".") {
      text += ".0"
    }
    let signLength =
      text.hasPrefix("-") || !format.plusSign.isEmpty && text.hasPrefix(format.plusSign) ? 1 : 0
    return try padded(Text(text, .template), format, signLength: signLength, fallback: .right)
  }

  /// Zeros before a number with grouping are grouped too: they are added as digits.
  private func zeroFilled(_ format: NumberFormat, _ body: (NumberFormat) throws -> Text) throws -> Text {
    guard format.grouping != nil, format.alignment == .afterSign, format.fill.string == "0" else {
      return try body(format)
    }
    throw TemplateError.unsupported("filling a grouped number with zeros")
  }

  private func parse(_ specification: Text) throws -> NumberFormat {
    var format = NumberFormat()
    let bytes = specification.bytes
    var position = 0
    let fillLength = decodeScalar(bytes, at: 0).length
    if fillLength < bytes.count, let alignment = alignment(bytes[fillLength]) {
      format.fill = specification.piece(0..<fillLength)
      format.alignment = alignment
      position = fillLength + 1
    } else if let alignment = alignment(bytes[0]) {
      format.alignment = alignment
      position = 1
    }
    func skip(_ byte: UInt8) -> Bool {
      guard position < bytes.count, bytes[position] == byte else { return false }
      position += 1
      return true
    }
    func number() throws -> Int? {
      var value: Int?
      while position < bytes.count, isDigit(bytes[position]) {
        value = (value ?? 0) * 10 + Int(bytes[position] - Byte.zero)
        if value! > Int32.max { throw TemplateError.evaluation("a width is too large") }
        position += 1
      }
      return value
    }
    if skip(Byte.plus) {
      format.plusSign = "+"
    } else if skip(Byte.space) {
      format.plusSign = " "
    } else {
      _ = skip(Byte.minus)
    }
    format.isAlternative = skip(Byte.hash)
    if skip(Byte.zero), format.alignment == nil {
      format.fill = Text("0", .template)
      format.alignment = .afterSign
    }
    format.width = try number() ?? 0
    if skip(UInt8(ascii: ",")) {
      format.grouping = ","
    } else if skip(Byte.underscore) {
      format.grouping = "_"
    }
    if skip(Byte.dot) {
      guard let precision = try number() else {
        throw TemplateError.evaluation("a precision is missing after '.'")
      }
      format.precision = precision
    }
    if position < bytes.count {
      let (scalar, length) = decodeScalar(bytes, at: position)
      format.type = scalar
      position += length
    }
    guard position == bytes.count else {
      throw TemplateError.evaluation("'\(specification.string)' is no format")
    }
    return format
  }

  private func alignment(_ byte: UInt8) -> NumberFormat.Alignment? {
    switch byte {
    case UInt8(ascii: "<"): .left
    case UInt8(ascii: ">"): .right
    case UInt8(ascii: "^"): .center
    case UInt8(ascii: "="): .afterSign
    default: nil
    }
  }
}
