/// `format % values`, the formatting of C with Python's additions.
extension Interpreter {
  func formatted(_ format: Text, with values: Value) throws -> Text {
    var formatter = PercentFormatter(interpreter: self, format: format, values: values)
    return try formatter.run()
  }
}

private struct PercentFormatter {
  let interpreter: Interpreter
  let format: Text
  private let mapping: Dict?
  /// Whether the value has items, so that the format need not use it.
  private let hasItems: Bool
  private var arguments: [Value]
  private var used = 0
  private var position = 0
  private var builder = TextBuilder()

  init(interpreter: Interpreter, format: Text, values: Value) {
    self.interpreter = interpreter
    self.format = format
    if case .dict(let dict) = values { mapping = dict } else { mapping = nil }
    if case .tuple(let items) = values { arguments = items.values } else { arguments = [values] }
    switch values {
    case .list, .dict, .range, .undefined: hasItems = true
    default: hasItems = false
    }
  }

  mutating func run() throws -> Text {
    let bytes = format.bytes
    while let next = try interpreter.find([Byte.percent], in: bytes, position..<bytes.count) {
      builder.append(format, position..<next)
      position = next + 1
      try convert()
      try interpreter.check(builder)
    }
    builder.append(format, position..<bytes.count)
    if used < arguments.count, !hasItems {
      throw TemplateError.evaluation("the format has fewer places than there are values")
    }
    return try interpreter.finish(builder)
  }

  private func byte() throws -> UInt8 {
    guard position < format.byteCount else { throw TemplateError.evaluation("the format ends after '%'") }
    return format.bytes[position]
  }

  private mutating func next() throws -> Value {
    guard used < arguments.count else {
      throw TemplateError.evaluation("the format has more places than there are values")
    }
    used += 1
    return arguments[used - 1]
  }

  private mutating func convert() throws {
    if try byte() == Byte.percent {
      builder.append("%", format.origin(at: position))
      position += 1
      return
    }
    var number = NumberFormat()
    var value: Value?
    if try byte() == Byte.openParenthesis { value = try mapped() }
    try parseFlags(&number)
    if let width = try parseCount() {
      number.width = abs(width)
      if width < 0 { number.alignment = .left }
    }
    if try byte() == Byte.dot {
      position += 1
      number.precision = max(0, try parseCount() ?? 0)
    }
    while "hlL".utf8.contains(try byte()) { position += 1 }
    let type = Unicode.Scalar(try byte())
    position += 1
    number.type = type
    builder.append(try converted(try value ?? next(), number))
  }

  private mutating func mapped() throws -> Value {
    guard let mapping else { throw TemplateError.evaluation("a format with names needs a mapping") }
    var depth = 1
    let start = position + 1
    while depth > 0 {
      position += 1
      switch try byte() {
      case Byte.openParenthesis: depth += 1
      case Byte.closeParenthesis: depth -= 1
      default: break
      }
    }
    let name = format.piece(start..<position)
    position += 1
    guard let value = mapping.value(name) else {
      throw TemplateError.evaluation("the format's name '\(name.string)' has no value")
    }
    used = arguments.count
    return value
  }

  private mutating func parseFlags(_ number: inout NumberFormat) throws {
    while true {
      switch try byte() {
      case Byte.minus: number.alignment = .left
      case Byte.plus: number.plusSign = "+"
      case Byte.space: if number.plusSign.isEmpty { number.plusSign = " " }
      case Byte.hash: number.isAlternative = true
      case Byte.zero: if number.alignment == nil { number.alignment = .afterSign }
      default: return
      }
      position += 1
    }
  }

  private mutating func parseCount() throws -> Int? {
    if try byte() == UInt8(ascii: "*") {
      position += 1
      guard let count = try next().integer else { throw TemplateError.evaluation("'*' needs an integer") }
      guard count.magnitude <= Int32.max else { throw TemplateError.evaluation("a width is too large") }
      return count
    }
    var count: Int?
    while case let byte = try byte(), isDigit(byte) {
      count = (count ?? 0) * 10 + Int(byte - Byte.zero)
      if count! > Int32.max { throw TemplateError.evaluation("a width is too large") }
      position += 1
    }
    return count
  }

  private func converted(_ value: Value, _ format: NumberFormat) throws -> Text {
    var format = format
    switch format.type {
    case "s", "r", "a":
      if format.alignment == .afterSign { format.alignment = .right }
      var text = try interpreter.string(of: value, representing: format.type != "s")
      if format.type == "a" { text = text.escapingNonASCII() }
      if let precision = format.precision { text = text.prefix(scalars: precision) }
      return try interpreter.padded(text, format, fallback: .right)
    case "c": return try interpreter.padded(try character(value), format, fallback: .right)
    default: break
    }
    if format.alignment == .afterSign { format.fill = Text("0", .template) }
    switch format.type {
    case "d", "i", "u":
      if case .float(let value) = value {
        guard let integer = Int(exactly: value.rounded(.towardZero)) else {
          throw TemplateError.integerTooLarge(line: 0)
        }
        return try interpreter.formatted(integer, format)
      }
      return try interpreter.formatted(try integer(value), format)
    case "x", "X", "o": return try interpreter.formatted(try integer(value), format)
    case "e", "E", "f", "F", "g", "G":
      guard let number = value.double else { throw mismatch(value) }
      return try interpreter.formatted(number, format)
    default:
      throw TemplateError.evaluation(
        "the format has an unknown conversion '%\(format.type.map(String.init) ?? "")'")
    }
  }

  private func integer(_ value: Value) throws -> Int {
    guard let integer = value.integer else { throw mismatch(value) }
    return integer
  }

  private func character(_ value: Value) throws -> Text {
    if case .text(let text) = value, text.bytes.scalarCount(0..<text.byteCount) == 1 { return text }
    guard let code = value.integer, let scalar = UInt32(exactly: code).flatMap(Unicode.Scalar.init) else {
      throw mismatch(value)
    }
    return Text(String(scalar), .template)
  }

  private func mismatch(_ value: Value) -> TemplateError {
    if case .undefined(let undefined) = value { return undefined.error }
    if case .large = value { return .integerTooLarge(line: 0) }
    return .evaluation("a format for numbers cannot take '\(value.typeName)'")
  }
}

extension Text {
  func prefix(scalars count: Int) -> Text { piece(0..<byteOffset(ofScalar: count)) }

  /// What `ascii` makes of a representation.
  func escapingNonASCII() -> Text {
    if bytes.isASCII { return self }
    var builder = TextBuilder()
    forEachScalar { scalar, range, origin in
      if scalar.isASCII {
        builder.append(self, range)
      } else {
        builder.append(escapeSequence(of: scalar), origin)
      }
    }
    return builder.finish()
  }
}
