/// The tests that are written after `is`.
enum TestName: String, CaseIterable, Sendable {
  case odd, even, divisibleby, defined, undefined, filter, test, none, boolean, `false`, `true`, integer,
    float, lower,
    upper, string, mapping, number, sequence, iterable, callable, sameas, escaped, `in`, eq, equalto, ne, gt,
    greaterthan, ge, lt, lessthan, le
  case equalSymbol = "=="
  case notEqualSymbol = "!="
  case greaterSymbol = ">"
  case greaterOrEqualSymbol = ">="
  case lessSymbol = "<"
  case lessOrEqualSymbol = "<="

  static let named = Dictionary(uniqueKeysWithValues: allCases.map { ($0.rawValue, $0) })

  fileprivate var comparison: ComparisonOperator? {
    switch self {
    case .eq, .equalto, .equalSymbol: .equal
    case .ne, .notEqualSymbol: .notEqual
    case .gt, .greaterthan, .greaterSymbol: .greater
    case .ge, .greaterOrEqualSymbol: .greaterOrEqual
    case .lt, .lessthan, .lessSymbol: .less
    case .le, .lessOrEqualSymbol: .lessOrEqual
    case .in: .isIn
    default: nil
    }
  }
}

extension Interpreter {
  func test(_ test: TestName, _ value: Value, _ arguments: Arguments) throws -> Bool {
    if let comparison = test.comparison {
      return try compare(comparison, value, try arguments.positional(1...1, of: test.rawValue)[0])
    }
    switch test {
    case .divisibleby:
      let divisor = try arguments.bound(to: ["num"], required: 1, of: "divisibleby")[0]!
      return try isEqual(try compute(.modulo, value, divisor), .int(0))
    case .sameas:
      return try isSame(value, try arguments.bound(to: ["other"], required: 1, of: "sameas")[0]!)
    default: break
    }
    _ = try arguments.bound(to: [], of: test.rawValue)
    switch test {
    case .odd: return try isEqual(try compute(.modulo, value, .int(2)), .int(1))
    case .even: return try isEqual(try compute(.modulo, value, .int(2)), .int(0))
    case .lower: return try isCased(try string(of: value)) { $0.isPythonLower }
    case .upper: return try isCased(try string(of: value)) { $0.isPythonUpper }
    case .filter, .test:
      try requireHashable(value)
      guard case .text(let name) = value else { return false }
      return test == .filter ? FilterName.named[name.string] != nil : TestName.named[name.string] != nil
    default: return testType(test, value)
    }
  }

  private func testType(_ test: TestName, _ value: Value) -> Bool {
    switch (test, value) {
    case (.defined, _): !value.isUndefined
    case (.undefined, .undefined), (.none, .none), (.boolean, .bool), (.integer, .int), (.integer, .large),
      (.float, .float), (.number, .int), (.number, .large), (.number, .float), (.number, .bool),
      (.string, .text),
      (.mapping, .dict), (.callable, .function), (.callable, .undefined), (.callable, .loop),
      (.true, .bool(true)), (.false, .bool(false)):
      true
    case (.escaped, .text(let text)): text.isMarkup
    case (.sequence, .text), (.sequence, .list), (.sequence, .tuple), (.sequence, .dict), (.sequence, .range),
      (.sequence, .undefined):
      true
    case (.iterable, .none), (.iterable, .bool), (.iterable, .int), (.iterable, .large), (.iterable, .float),
      (.iterable, .namespace), (.iterable, .cycler), (.iterable, .function):
      false
    case (.iterable, _): true
    default: false
    }
  }

  /// Whether two values are one object. Equal numbers and strings may or may not be one object in Python; they are here.
  private func isSame(_ left: Value, _ right: Value) throws -> Bool {
    switch (left, right) {
    case (.none, .none): true
    case (.bool(let left), .bool(let right)): left == right
    case (.int(let left), .int(let right)): left == right
    case (.text(let left), .text(let right)): left.bytes == right.bytes
    case (.float(let left), .float(let right)): left == right
    case (.undefined(let left), .undefined(let right)): left === right
    default: left.identity != nil && left.identity == right.identity
    }
  }
}
