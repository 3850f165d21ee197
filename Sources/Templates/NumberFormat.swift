/// The format of a number or string between its flags and its type, shared by `%` and `str.format`.
struct NumberFormat {
  enum Alignment { case left, right, center, afterSign }

  var fill = Text(" ", .template)
  var alignment: Alignment?
  /// What stands before a number that is not negative.
  var plusSign = ""
  var isAlternative = false
  var width = 0
  var grouping: Character?
  var precision: Int?
  var type: Unicode.Scalar?
}

extension Interpreter {
  /// Text with as many fill characters around it as its width asks for.
  func padded(_ text: Text, _ format: NumberFormat, signLength: Int = 0, fallback: NumberFormat.Alignment)
    throws -> Text
  {
    let missing = format.width - (try length(of: text))
    if missing <= 0 { return text }
    try make(
      byteCount: text.byteCount
        + (missing.multipliedReportingOverflow(by: format.fill.byteCount).partialValue))
    let alignment = format.alignment ?? fallback
    let before =
      switch alignment {
      case .left: 0
      case .center: missing / 2
      case .right, .afterSign: missing
      }
    var builder = TextBuilder()
    if alignment == .afterSign { builder.append(text, 0..<signLength) }
    builder.append(try repeated(format.fill, count: before))
    builder.append(text, (alignment == .afterSign ? signLength : 0)..<text.byteCount)
    builder.append(try repeated(format.fill, count: missing - before))
    return builder.finish()
  }

  /// A number with its sign, and the length of the sign and of a prefix such as `0x`.
  private func signed(_ digits: String, isNegative: Bool, prefix: String = "", _ format: NumberFormat) throws
    -> Text
  {
    let sign = (isNegative ? "-" : format.plusSign) + prefix
    return try padded(
      Text(sign + digits, .template), format, signLength: sign.utf8.count, fallback: .right)
  }

  /// An integer in base 2, 8, 10 or 16.
  func formatted(_ value: Int, _ format: NumberFormat) throws -> Text {
    let (radix, prefix) =
      switch format.type {
      case "b": (2, "0b")
      case "o": (8, "0o")
      case "x": (16, "0x")
      case "X": (16, "0X")
      default: (10, "")
      }
    var digits = String(value.magnitude, radix: radix, uppercase: format.type == "X")
    if let precision = format.precision, digits.utf8.count < precision {
      try make(byteCount: precision)
      digits = String(repeating: "0", count: precision - digits.utf8.count) + digits
    }
    return try signed(
      grouped(digits, every: radix == 10 ? 3 : 4, format), isNegative: value < 0,
      prefix: format.isAlternative ? prefix : "", format)
  }

  /// Digits with separators. Zeros that fill up the width get separators too.
  private func grouped(_ digits: String, every size: Int, _ format: NumberFormat) -> String {
    guard let separator = format.grouping else { return digits }
    var result: [Character] = []
    for (index, digit) in digits.reversed().enumerated() {
      if index > 0, index % size == 0 { result.append(separator) }
      result.append(digit)
    }
    return String(result.reversed())
  }

  /// A float as `%e`, `%f`, `%g` or `%` write it.
  func formatted(_ value: Double, _ format: NumberFormat) throws -> Text {
    let isNegative = value.sign == .minus && !value.isNaN
    let type = format.type ?? "g"
    let isUppercase = type.properties.isUppercase
    guard value.isFinite else {
      let name = value.isNaN ? "nan" : "inf"
      let text = (isUppercase ? name.uppercased() : name) + (type == "%" ? "%" : "")
      return try signed(text, isNegative: isNegative, format)
    }
    let precision = format.precision ?? 6
    // The digits are made one by one, and the exact ones of the number itself are some thousand operations.
    try make(byteCount: precision.multipliedReportingOverflow(by: 16).partialValue)
    try look(at: 16384)
    var text: String
    switch type {
    case "f", "F": text = point(in: value.fixedDescription(precision), format, precision)
    case "%": text = (value * 100).fixedDescription(precision) + "%"
    case "e", "E": text = scientific(value, precision, format)
    default: text = general(value, max(1, precision), format)
    }
    if format.grouping != nil {
      let whole = text.prefix { $0.isNumber }
      text = grouped(String(whole), every: 3, format) + text.dropFirst(whole.count)
    }
    if isUppercase { text = text.uppercased() }
    return try signed(text, isNegative: isNegative, format)
  }

  private func point(in text: String, _ format: NumberFormat, _ precision: Int) -> String {
    format.isAlternative && precision == 0 ? text + "." : text
  }

  private func scientific(_ value: Double, _ precision: Int, _ format: NumberFormat) -> String {
    let (digits, exponent) = DecimalDigits(value).scientific(precision + 1)
    let mantissa =
      digits.prefix(1) + (precision > 0 ? "." + digits.dropFirst() : format.isAlternative ? "." : "")
    return mantissa + "e" + pythonExponent(exponent)
  }

  private func general(_ value: Double, _ precision: Int, _ format: NumberFormat) -> String {
    let (digits, exponent) = DecimalDigits(value).scientific(precision)
    if exponent < -4 || exponent >= precision {
      let fraction = withoutZeros(String(digits.dropFirst()), format)
      return digits.prefix(1) + (fraction.isEmpty ? "" : "." + fraction) + "e" + pythonExponent(exponent)
    }
    let fixed = DecimalDigits(value).fixed(precision - 1 - exponent)
    let fraction = withoutZeros(fixed.fraction, format)
    return fixed.whole + (fraction.isEmpty && !format.isAlternative ? "" : "." + fraction)
  }

  private func withoutZeros(_ fraction: String, _ format: NumberFormat) -> String {
    if format.isAlternative { return fraction }
    var fraction = Substring(fraction)
    while fraction.last == "0" { fraction.removeLast() }
    return String(fraction)
  }
}
