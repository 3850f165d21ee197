#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

/// Truth, equality, order and arithmetic as in Python.
extension Interpreter {
  func isTrue(_ value: Value) throws -> Bool {
    switch value {
    case .undefined, .none: false
    case .bool(let value): value
    case .int(let value): value != 0
    case .float(let value): value != 0
    case .text(let text): !text.isEmpty
    case .list(let items), .tuple(let items): !items.values.isEmpty
    case .dict(let dict): dict.count > 0
    case .view(let view): view.dict.count > 0
    case .range(let range): range.count > 0
    case .loop(let loop): try count(of: loop) > 0
    case .large, .iteration, .namespace, .cycler, .function: true
    }
  }

  // MARK: Equality

  func isEqual(_ left: Value, _ right: Value) throws -> Bool {
    try step()
    switch (left, right) {
    case (.text(let left), .text(let right)):
      guard left.byteCount == right.byteCount else { return false }
      try look(at: left.byteCount)
      return left.bytes == right.bytes
    case (.list(let left), .list(let right)), (.tuple(let left), .tuple(let right)):
      return try nested { try isEqual(left, right) }
    case (.dict(let left), .dict(let right)): return try nested { try isEqual(left, right) }
    case (.range(let left), .range(let right)):
      return left.count == right.count
        && (left.count == 0 || left.start == right.start && (left.count == 1 || left.step == right.step))
    default: return HashKey(value: left) == HashKey(value: right)
    }
  }

  private func isEqual(_ left: Items, _ right: Items) throws -> Bool {
    if left === right { return true }
    guard left.values.count == right.values.count else { return false }
    for (left, right) in zip(left.values, right.values) where try !isEqual(left, right) { return false }
    return true
  }

  private func isEqual(_ left: Dict, _ right: Dict) throws -> Bool {
    if left === right { return true }
    guard left.count == right.count else { return false }
    for (index, key) in left.keys.enumerated() {
      try look(at: right.count)
      guard let value = right.value(forKey: key), try isEqual(left.values[index], value) else { return false }
    }
    return true
  }

  /// Whether a value can be a key, as far as that can be told within the limits.
  func isHashable(_ value: Value) throws -> Bool {
    try step()
    switch value {
    case .list, .dict: return false
    case .view(let view): return view.kind == .values
    case .text(let text):
      try look(at: text.byteCount)
      return true
    case .tuple(let items): return try nested { try items.values.allSatisfy { try isHashable($0) } }
    default: return true
    }
  }

  func requireHashable(_ value: Value) throws {
    guard try isHashable(value) else {
      throw TemplateError.evaluation("a '\(value.typeName)' cannot be a key of a dictionary")
    }
  }

  // MARK: Order

  func compare(_ operation: ComparisonOperator, _ left: Value, _ right: Value) throws -> Bool {
    switch operation {
    case .equal: try isEqual(left, right)
    case .notEqual: try !isEqual(left, right)
    case .less: try isLess(left, right, "<")
    case .greater: try isLess(right, left, ">")
    case .lessOrEqual: try isLessOrEqual(left, right, "<=")
    case .greaterOrEqual: try isLessOrEqual(right, left, ">=")
    case .isIn: try contains(right, left)
    case .isNotIn: try !contains(right, left)
    }
  }

  func isLess(_ left: Value, _ right: Value, _ symbol: String = "<") throws -> Bool {
    try isOrdered(left, right, symbol) { $0 < $1 }
  }

  private func isLessOrEqual(_ left: Value, _ right: Value, _ symbol: String) throws -> Bool {
    try isOrdered(left, right, symbol) { $0 <= $1 }
  }

  /// Decides by comparing the first pair that differs, or else the lengths: `order` gets -1, 0 or 1, and 0.
  private func isOrdered(
    _ left: Value, _ right: Value, _ symbol: String, _ order: (Int, Int) -> Bool
  ) throws -> Bool {
    try step()
    switch (left, right) {
    case (.text(let left), .text(let right)):
      try look(at: min(left.byteCount, right.byteCount))
      return order(left.comparison(with: right), 0)
    case (.list(let left), .list(let right)), (.tuple(let left), .tuple(let right)):
      for (left, right) in zip(left.values, right.values) where try !isEqual(left, right) {
        return try nested { try isOrdered(left, right, symbol, order) }
      }
      return order(left.values.count, right.values.count)
    case (.undefined(let undefined), _), (_, .undefined(let undefined)): throw undefined.error
    default: break
    }
    guard let first = left.number, let second = right.number else {
      if case .large = left { throw TemplateError.integerTooLarge(line: 0) }
      if case .large = right { throw TemplateError.integerTooLarge(line: 0) }
      throw TemplateError.evaluation(
        "'\(symbol)' cannot compare '\(left.typeName)' with '\(right.typeName)'")
    }
    if first == second { return order(0, 0) }
    return first.isLess(than: second) ? order(-1, 0) : second.isLess(than: first) ? order(1, 0) : false
  }

  /// `item in container`.
  func contains(_ container: Value, _ item: Value) throws -> Bool {
    switch container {
    case .text(let text):
      guard case .text(let part) = item else {
        throw TemplateError.evaluation("'in' a string needs a string on its left, not '\(item.typeName)'")
      }
      return try find(part.bytes, in: text.bytes, 0..<text.byteCount) != nil
    case .dict(let dict):
      if case .text(let key) = item {
        try look(at: dict.count + key.byteCount)
        return dict.value(key) != nil
      }
      try requireHashable(item)
      try look(at: dict.count)
      return dict.position(of: item) != nil
    case .view(let view) where view.kind == .keys: return try contains(.dict(view.dict), item)
    case .range(let range):
      guard let number = item.number else { return false }
      guard case .int(let value) = number, range.count > 0 else { return false }
      let (low, high) = range.step > 0 ? (range.start, range.stop - 1) : (range.stop + 1, range.start)
      return low <= value && value <= high && (value - range.start) % range.step == 0
    default:
      let items = try iterate(container)
      while let candidate = try next(of: items) {
        if try isEqual(candidate, item) { return true }
      }
      return false
    }
  }

  // MARK: Arithmetic

  func compute(_ operation: ArithmeticOperator, _ left: Value, _ right: Value) throws -> Value {
    switch operation {
    case .add:
      if let sum = try joined(left, right) { return sum }
    case .multiply:
      if let product = try repeated(left, right) { return product }
    case .modulo:
      if case .text(let format) = left { return .text(try formatted(format, with: right)) }
    default: break
    }
    switch (left, right) {
    case (.undefined(let undefined), _), (_, .undefined(let undefined)): throw undefined.error
    case (.large, _), (_, .large): throw TemplateError.integerTooLarge(line: 0)
    default: break
    }
    if let first = left.integer, let second = right.integer { return try compute(operation, first, second) }
    if let first = left.double, let second = right.double { return try compute(operation, first, second) }
    throw TemplateError.evaluation(
      "'\(operation.rawValue)' cannot take '\(left.typeName)' and '\(right.typeName)'")
  }

  private func joined(_ left: Value, _ right: Value) throws -> Value? {
    switch (left, right) {
    case (.text(let left), .text(let right)):
      let isMarkup = left.isMarkup || right.isMarkup
      var builder = TextBuilder()
      builder.reserve(left.byteCount + right.byteCount)
      builder.append(isMarkup ? try escaped(left) : left)
      builder.append(isMarkup ? try escaped(right) : right)
      return .text(try finish(builder, isMarkup: isMarkup))
    case (.list(let left), .list(let right)): return try list(try joined(left, right))
    case (.tuple(let left), .tuple(let right)): return try tuple(try joined(left, right))
    default: return nil
    }
  }

  private func joined(_ left: Items, _ right: Items) throws -> [Value] {
    try make(itemCount: left.values.count + right.values.count)
    return left.values + right.values
  }

  private func repeated(_ left: Value, _ right: Value) throws -> Value? {
    if let count = right.integer { return try repeated(left, count: count) }
    if let count = left.integer { return try repeated(right, count: count) }
    return nil
  }

  private func repeated(_ value: Value, count: Int) throws -> Value? {
    switch value {
    case .text(let text): return .text(try repeated(text, count: count))
    case .list(let items): return try list(try repeated(items, count: count))
    case .tuple(let items): return try tuple(try repeated(items, count: count))
    default: return nil
    }
  }

  func repeated(_ text: Text, count: Int) throws -> Text {
    let count = max(0, count)
    let size = text.byteCount.multipliedReportingOverflow(by: count)
    try make(byteCount: size.overflow ? .max : size.partialValue)
    if size.partialValue == 0 { return text.piece(0..<0) }
    if case .uniform(let origin) = text.marks, text.byteCount == 1 {
      return Text(bytes: Array(repeating: text.bytes[0], count: count), origin)
    }
    var builder = TextBuilder()
    builder.reserve(size.partialValue)
    for _ in 0..<count { builder.append(text) }
    return builder.finish(isMarkup: text.isMarkup)
  }

  private func repeated(_ items: Items, count: Int) throws -> [Value] {
    if count <= 0 || items.values.isEmpty { return [] }
    let size = items.values.count.multipliedReportingOverflow(by: count)
    try make(itemCount: size.overflow ? .max : size.partialValue)
    return Array(repeatElement(items.values, count: count).joined())
  }

  private func compute(_ operation: ArithmeticOperator, _ left: Int, _ right: Int) throws -> Value {
    switch operation {
    case .add: return try exact(left.addingReportingOverflow(right))
    case .subtract: return try exact(left.subtractingReportingOverflow(right))
    case .multiply: return try exact(left.multipliedReportingOverflow(by: right))
    case .divide:
      try refuseZero(right == 0)
      return .float(Double(left) / Double(right))
    case .floorDivide:
      try refuseZero(right == 0)
      let (quotient, overflow) = left.dividedReportingOverflow(by: right)
      if overflow { throw TemplateError.integerTooLarge(line: 0) }
      let isRoundedUp = left % right != 0 && (left < 0) != (right < 0)
      return .int(isRoundedUp ? quotient - 1 : quotient)
    case .modulo:
      try refuseZero(right == 0)
      return .int(right == -1 ? 0 : remainder(left, right))
    case .power: return try power(left, right)
    }
  }

  /// The remainder with the sign of the divisor.
  private func remainder(_ left: Int, _ right: Int) -> Int {
    let remainder = left % right
    return remainder != 0 && (remainder < 0) != (right < 0) ? remainder + right : remainder
  }

  private func exact(_ result: (partialValue: Int, overflow: Bool)) throws -> Value {
    if result.overflow { throw TemplateError.integerTooLarge(line: 0) }
    return .int(result.partialValue)
  }

  private func refuseZero(_ isZero: Bool) throws {
    if isZero { throw TemplateError.evaluation("division by zero") }
  }

  private func power(_ base: Int, _ exponent: Int) throws -> Value {
    if exponent < 0 { return try compute(.power, Double(base), Double(exponent)) }
    if base == 0 || base == 1 { return .int(exponent == 0 ? 1 : base) }
    if base == -1 { return .int(exponent % 2 == 0 ? 1 : -1) }
    var result = 1
    // Any other base overflows after at most 63 multiplications.
    for _ in 0..<min(exponent, 64) {
      let (product, overflow) = result.multipliedReportingOverflow(by: base)
      if overflow { throw TemplateError.integerTooLarge(line: 0) }
      result = product
    }
    return .int(result)
  }

  private func compute(_ operation: ArithmeticOperator, _ left: Double, _ right: Double) throws -> Value {
    switch operation {
    case .add: return .float(left + right)
    case .subtract: return .float(left - right)
    case .multiply: return .float(left * right)
    case .divide:
      try refuseZero(right == 0)
      return .float(left / right)
    case .floorDivide:
      try refuseZero(right == 0)
      return .float(floorDivision(left, right).quotient)
    case .modulo:
      try refuseZero(right == 0)
      return .float(floorDivision(left, right).remainder)
    case .power:
      try refuseZero(left == 0 && right < 0)
      if left < 0, left.isFinite, right.isFinite, right != right.rounded() {
        throw TemplateError.unsupported("a complex number, the power of a negative number")
      }
      let result = pow(left, right)
      guard result.isFinite || !left.isFinite || !right.isFinite else {
        throw TemplateError.evaluation("the result of '**' is too large")
      }
      return .float(result)
    }
  }

  /// Division towards minus infinity, as in `float_divmod` of Python.
  private func floorDivision(_ left: Double, _ right: Double) -> (quotient: Double, remainder: Double) {
    var remainder = left.truncatingRemainder(dividingBy: right)
    var quotient = (left - remainder) / right
    if remainder != 0 {
      if (right < 0) != (remainder < 0) {
        remainder += right
        quotient -= 1
      }
    } else {
      remainder = Double(signOf: right, magnitudeOf: 0)
    }
    if quotient == 0 { return (Double(signOf: left / right, magnitudeOf: 0), remainder) }
    let rounded = quotient.rounded(.down)
    return (quotient - rounded > 0.5 ? rounded + 1 : rounded, remainder)
  }

  func negate(_ value: Value) throws -> Value {
    switch value {
    case .undefined(let undefined): throw undefined.error
    case .float(let value): return .float(-value)
    case .large(let digits): return .large(digits.hasPrefix("-") ? String(digits.dropFirst()) : "-" + digits)
    default:
      guard let integer = value.integer else {
        throw TemplateError.evaluation("'-' cannot take '\(value.typeName)'")
      }
      return try compute(.subtract, 0, integer)
    }
  }

  func plus(_ value: Value) throws -> Value {
    switch value {
    case .undefined(let undefined): throw undefined.error
    case .float, .large: return value
    default:
      guard let integer = value.integer else {
        throw TemplateError.evaluation("'+' cannot take '\(value.typeName)'")
      }
      return .int(integer)
    }
  }
}

extension Value {
  /// The value of a number as a float.
  var double: Double? {
    switch self {
    case .float(let value): value
    default: integer.map(Double.init)
    }
  }
}

extension Double {
  fileprivate init(signOf sign: Double, magnitudeOf magnitude: Double) {
    self = Double(sign: sign.sign, exponent: 0, significand: 1) * magnitude
  }
}
