/// `str` and `repr` of values.
extension Interpreter {
  /// The text that a value prints as.
  func string(of value: Value, representing: Bool = false) throws -> Text {
    switch value {
    case .text(let text) where !representing: return text
    case .undefined where !representing: return .empty
    // Numbers have no origin. Alone they are no special token, and templates build names of tokens with them.
    case .none: return Text("None", .template)
    case .bool(let value): return Text(value ? "True" : "False", .template)
    case .int(let value): return Text(String(value), .template)
    case .float(let value): return Text(value.pythonDescription, .template)
    case .large(let digits): return Text(digits, .data)
    default:
      var builder = TextBuilder()
      try represent(value, &builder)
      return try finish(builder)
    }
  }

  private func represent(_ value: Value, _ builder: inout TextBuilder) throws {
    try step()
    try check(builder)
    switch value {
    case .text(let text):
      try classify(byteCount: text.byteCount)
      if text.isMarkup { builder.append("Markup(", .data) }
      text.represent(&builder)
      if text.isMarkup { builder.append(")", .data) }
    case .undefined: builder.append("Undefined", .data)
    case .list(let items): try nested { try represent(items.values, "[", "]", &builder) }
    case .tuple(let items):
      try nested { try represent(items.values, "(", items.values.count == 1 ? ",)" : ")", &builder) }
    case .dict(let dict): try nested { try represent(dict.keys, dict.values, &builder) }
    case .range(let range):
      let step = range.step == 1 ? "" : ", \(range.step)"
      builder.append("range(\(range.start), \(range.stop)\(step))", .data)
    case .view:
      builder.append(value.typeName + "(", .data)
      try nested { try represent(try values(of: value), "[", "]", &builder) }
      builder.append(")", .data)
    case .namespace(let namespace):
      builder.append("<Namespace ", .data)
      try nested { try represent(namespace.members.keys, namespace.members.values, &builder) }
      builder.append(">", .data)
    case .loop(let loop): builder.append("<LoopContext \(loop.index0 + 1)/\(try count(of: loop))>", .data)
    case .iteration: builder.append("<generator object>", .data)
    case .cycler: builder.append("<Cycler object>", .data)
    case .function(let function): try represent(function, &builder)
    case .none, .bool, .int, .float, .large:
      builder.append(bytes: try string(of: value).bytes, .data)
    }
  }

  private func represent(_ function: Function, _ builder: inout TextBuilder) throws {
    guard case .macro(let macro) = function.kind else {
      builder.append("<function>", .data)
      return
    }
    let name = macro.definition.name.map { "'\($0)'" } ?? "anonymous"
    builder.append("<Macro \(name)>", .data)
  }

  private func represent(
    _ values: [Value], _ open: String, _ close: String, _ builder: inout TextBuilder
  ) throws {
    builder.append(open, .data)
    for (index, value) in values.enumerated() {
      if index > 0 { builder.append(", ", .data) }
      try represent(value, &builder)
    }
    builder.append(close, .data)
  }

  private func represent(_ keys: [Value], _ values: [Value], _ builder: inout TextBuilder) throws {
    builder.append("{", .data)
    for (index, key) in keys.enumerated() {
      if index > 0 { builder.append(", ", .data) }
      try represent(key, &builder)
      builder.append(": ", .data)
      try represent(values[index], &builder)
    }
    builder.append("}", .data)
  }
}

extension Text {
  /// Appends this string in quotes, with escape sequences for what cannot be printed.
  fileprivate func represent(_ builder: inout TextBuilder) {
    let mark = bytes.contains(Byte.quote) && !bytes.contains(Byte.doubleQuote) ? Byte.doubleQuote : Byte.quote
    builder.append(byte: mark, .data)
    forEachScalar { scalar, range, origin in
      switch scalar {
      case "\\": builder.append("\\\\", origin)
      case "\n": builder.append("\\n", origin)
      case "\r": builder.append("\\r", origin)
      case "\t": builder.append("\\t", origin)
      default:
        if scalar.value == UInt32(mark) {
          builder.append("\\" + String(scalar), origin)
        } else if scalar.isPythonPrintable {
          builder.append(self, range)
        } else {
          builder.append(escapeSequence(of: scalar), origin)
        }
      }
    }
    builder.append(byte: mark, .data)
  }
}

extension Double {
  /// `repr`: the shortest digits that read back as this number; an exponent below 1e-4 and from 1e16 on.
  var pythonDescription: String {
    if isNaN { return "nan" }
    if isInfinite { return self < 0 ? "-inf" : "inf" }
    let (digits, exponent) = shortestDigits
    let sign = self.sign == .minus ? "-" : ""
    if exponent < -4 || exponent >= 16 {
      let fraction = digits.count > 1 ? "." + digits.dropFirst() : ""
      return sign + digits.prefix(1) + fraction + "e" + pythonExponent(exponent)
    }
    if exponent < 0 { return sign + "0." + String(repeating: "0", count: -exponent - 1) + digits }
    let whole = exponent + 1
    if digits.count <= whole {
      return sign + digits + String(repeating: "0", count: whole - digits.count) + ".0"
    }
    return sign + digits.prefix(whole) + "." + digits.dropFirst(whole)
  }

  /// The shortest decimal digits that read back as the magnitude, and the power of ten of the first one.
  private var shortestDigits: (digits: String, exponent: Int) {
    if self == 0 { return ("0", 0) }
    let parts = magnitude.description.split(separator: "e")
    let mantissa = parts[0].split(separator: ".")
    var exponent = parts.count > 1 ? Int(parts[1])! : 0
    var digits = mantissa.joined()
    exponent += mantissa[0].count - 1
    let leading = digits.prefix { $0 == "0" }.count
    digits.removeFirst(leading)
    exponent -= leading
    while digits.last == "0", digits.count > 1 { digits.removeLast() }
    return (digits, exponent)
  }
}

/// An exponent with its sign and at least two digits.
func pythonExponent(_ exponent: Int) -> String {
  let digits = String(abs(exponent))
  return (exponent < 0 ? "-" : "+") + (digits.utf8.count < 2 ? "0" : "") + digits
}
