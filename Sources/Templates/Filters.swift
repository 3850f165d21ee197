/// The filters that are written after `|`.
enum FilterName: String, CaseIterable, Sendable {
  case abs, attr, batch, capitalize, center, count, d, `default`, dictsort, e, escape, first, float,
    forceescape, format,
    groupby, indent, int, items, join, last, length, list, lower, map, max, min, reject, rejectattr, replace,
    reverse,
    round, safe, select, selectattr, slice, sort, string, sum, title, tojson, trim, truncate, unique, upper,
    urlencode,
    wordcount

  static let named = Dictionary(uniqueKeysWithValues: allCases.map { ($0.rawValue, $0) })
}

extension Interpreter {
  func apply(_ filter: FilterName, to value: Value, _ arguments: Arguments) throws -> Value {
    switch filter {
    case .capitalize, .center, .e, .escape, .forceescape, .format, .indent, .lower, .replace, .safe, .string,
      .title, .tojson, .trim, .truncate, .upper, .urlencode, .wordcount:
      return try applyTextFilter(filter, to: value, arguments)
    case .abs, .float, .int, .round: return try applyNumberFilter(filter, to: value, arguments)
    case .attr:
      guard case .text(let name)? = try arguments.bound(to: ["name"], required: 1, of: "attr")[0] else {
        throw TemplateError.evaluation("attr() needs the name of an attribute")
      }
      return try attribute(Member(name), of: value)
        ?? .undefined(Undefined(.member(name.string, of: value.typeName)))
    case .d, .default:
      let options = try arguments.bound(to: ["default_value", "boolean"], of: "default")
      let isMissing = try value.isUndefined || options[1].map({ try isTrue($0) }) == true && !isTrue(value)
      return isMissing ? options[0] ?? .literal("") : value
    case .count, .length:
      _ = try arguments.bound(to: [], of: "length")
      return .int(try length(of: value))
    default: return try applySequenceFilter(filter, to: value, arguments)
    }
  }

  // MARK: Numbers

  @inline(never)
  private func applyNumberFilter(_ filter: FilterName, to value: Value, _ arguments: Arguments) throws
    -> Value
  {
    switch filter {
    case .int:
      let options = try arguments.bound(to: ["default", "base"], of: "int")
      return try integer(from: value, fallback: options[0] ?? .int(0), base: options[1])
    case .float:
      let fallback = try arguments.bound(to: ["default"], of: "float")[0] ?? .float(0)
      return try float(from: value).map { .float($0) } ?? fallback
    case .round: return try round(value, arguments)
    default:
      _ = try arguments.bound(to: [], of: "abs")
      switch value {
      case .float(let value): return .float(value.magnitude)
      case .large(let digits): return .large(digits.hasPrefix("-") ? String(digits.dropFirst()) : digits)
      default:
        guard let integer = value.integer else {
          throw TemplateError.evaluation("abs cannot take '\(value.typeName)'")
        }
        return integer < 0 ? try negate(.int(integer)) : .int(integer)
      }
    }
  }

  private func integer(from value: Value, fallback: Value, base: Value?) throws -> Value {
    switch value {
    case .undefined(let undefined): throw undefined.error
    case .int, .large: return value
    case .bool(let truth): return .int(truth ? 1 : 0)
    case .float(let float):
      if float.isNaN { return fallback }
      guard let integer = Int(exactly: float.rounded(.towardZero)) else {
        throw TemplateError.integerTooLarge(line: 0)
      }
      return .int(integer)
    case .text(let text):
      try look(at: text.byteCount)
      guard let base = (base ?? .int(10)).integer else {
        throw TemplateError.evaluation("a base must be an integer")
      }
      if let integer = text.integer(base: base) { return integer }
      guard let float = text.float, float.isFinite else { return fallback }
      guard let integer = Int(exactly: float.rounded(.towardZero)) else {
        throw TemplateError.integerTooLarge(line: 0)
      }
      return .int(integer)
    default: return fallback
    }
  }

  private func float(from value: Value) throws -> Double? {
    switch value {
    case .undefined(let undefined): throw undefined.error
    case .text(let text):
      try look(at: text.byteCount)
      return text.float
    case .large(let digits): return Double(digits)
    default: return value.double
    }
  }

  private func round(_ value: Value, _ arguments: Arguments) throws -> Value {
    let options = try arguments.bound(to: ["precision", "method"], of: "round")
    guard let precision = (options[0] ?? .int(0)).integer else {
      throw TemplateError.evaluation("the precision of round must be an integer")
    }
    let method = try options[1].map { try string(of: $0).string } ?? "common"
    guard ["common", "ceil", "floor"].contains(method) else {
      throw TemplateError.evaluation("the method of round must be 'common', 'ceil' or 'floor'")
    }
    if case .undefined(let undefined) = value { throw undefined.error }
    guard let number = value.double else {
      throw TemplateError.evaluation("round cannot take '\(value.typeName)'")
    }
    try look(at: 16384)
    let places = Swift.max(-400, Swift.min(400, precision))
    if method == "common" {
      if let integer = value.integer {
        return places >= 0 ? .int(integer) : try rounded(integer, places: -places)
      }
      return .float(number.rounded(places: places))
    }
    let factor = try compute(.power, .int(10), .int(places))
    let scaled = try compute(.multiply, value, factor).double ?? 0
    let rounded = scaled.rounded(method == "ceil" ? .up : .down)
    guard rounded.isFinite, let divisor = factor.double else {
      throw TemplateError.evaluation("round cannot take \(number.pythonDescription)")
    }
    // The rounded number is an integer in Python, which has no negative zero.
    return .float(rounded == 0 ? 0 : rounded / divisor)
  }

  /// Rounds away the last digits of an integer, halves to even.
  private func rounded(_ value: Int, places: Int) throws -> Value {
    guard places < 19 else { return .int(0) }
    let unit = (0..<places).reduce(1) { power, _ in power * 10 }
    let rest = value % unit
    let base = value - rest
    let isUp = rest.magnitude > unit / 2 || rest.magnitude == unit / 2 && (base / unit) % 2 != 0
    if !isUp { return .int(base) }
    return try compute(.add, .int(base), .int(value < 0 ? -unit : unit))
  }
}

extension Text {
  /// `int(text, base)` of Python.
  func integer(base: Int) -> Value? {
    guard base == 0 || (2...36).contains(base), let parts = signAndDigits else { return nil }
    var base = base
    var (isNegative, digits) = parts
    let prefixes = ["0x": 16, "0o": 8, "0b": 2]
    if let radix = prefixes[digits.prefix(2).lowercased()], base == radix || base == 0 {
      base = radix
      digits = String(digits.dropFirst(2))
      if digits.hasPrefix("_") { digits.removeFirst() }
    } else if base == 0 {
      base = 10
      guard !digits.hasPrefix("0") || digits.allSatisfy({ $0 == "0" || $0 == "_" }) else { return nil }
    }
    guard let plain = digits.withoutUnderscores, plain.utf8.allSatisfy({ isDigit($0, radix: base) }) else {
      return nil
    }
    if let value = Int((isNegative ? "-" : "") + plain, radix: base) { return .int(value) }
    guard base == 10 else { return nil }
    let significant = plain.drop { $0 == "0" }
    return .large((isNegative ? "-" : "") + significant)
  }

  /// `float(text)` of Python.
  var float: Double? {
    guard let (isNegative, digits) = signAndDigits else { return nil }
    let sign = isNegative ? -1.0 : 1.0
    switch digits.lowercased() {
    case "inf", "infinity": return sign * .infinity
    case "nan": return .nan
    default: break
    }
    guard digits.utf8.contains(where: isDigit), let plain = digits.withoutUnderscores,
      plain.utf8.allSatisfy({ isDigit($0) || "+-.eE".utf8.contains($0) })
    else { return nil }
    // Swift wants a digit on both sides of the point.
    var number = plain.hasPrefix(".") ? "0" + plain : plain
    if let point = number.firstIndex(of: ".") {
      let after = number.index(after: point)
      if after == number.endIndex || !(number[after].isASCII && number[after].isNumber) {
        number.insert("0", at: after)
      }
    }
    return Double(number).map { sign * $0 }
  }

  /// The text without white space around it, its sign taken off, and digits of other scripts as ASCII.
  private var signAndDigits: (isNegative: Bool, digits: String)? {
    let start = bytes.whitespaceEnd(from: 0)
    let end = bytes.whitespaceStart(before: byteCount, lowest: start)
    var scalars = String(decoding: bytes[start..<end], as: UTF8.self).unicodeScalars
    let isNegative = scalars.first == "-"
    if isNegative || scalars.first == "+" { scalars.removeFirst() }
    guard let first = scalars.first, first != "-", first != "+" else { return nil }
    var digits = String.UnicodeScalarView()
    for scalar in scalars {
      if !scalar.isASCII, scalar.isPythonDecimal, let value = scalar.properties.numericValue {
        digits.append(Unicode.Scalar(Byte.zero + UInt8(value)))
      } else {
        digits.append(scalar)
      }
    }
    return (isNegative, String(digits))
  }
}

extension String {
  /// The digits without the single underscores between them; `nil` if an underscore is anywhere else.
  fileprivate var withoutUnderscores: String? {
    if !utf8.contains(Byte.underscore) { return isEmpty ? nil : self }
    let bytes = Array(utf8)
    for (index, byte) in bytes.enumerated() where byte == Byte.underscore {
      guard index > 0, index + 1 < bytes.count, isDigit(bytes[index - 1], radix: 36),
        isDigit(bytes[index + 1], radix: 36)
      else { return nil }
    }
    return String(decoding: bytes.filter { $0 != Byte.underscore }, as: UTF8.self)
  }
}
