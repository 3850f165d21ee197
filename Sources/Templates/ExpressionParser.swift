/// Expressions, from the loosest operators to the tightest.
extension Parser {
  func make(_ kind: Expression.Kind) throws -> Expression {
    let expression = Expression(kind)
    guard expression.depth <= limits.nesting else {
      throw TemplateError.nestingTooDeep(limit: limits.nesting, line: line)
    }
    return expression
  }

  /// Parses an expression, or several with commas between them, which make a tuple.
  func parseTuple(
    allowsConditional: Bool = true, ends: Set<String> = [], allowsEmpty: Bool = false
  ) throws -> Expression {
    var items: [Expression] = []
    var isTuple = false
    while !isEndOfTuple(ends) {
      items.append(allowsConditional ? try parseExpression() : try nested { try parseOr() })
      guard skip(symbol: ",") else { break }
      isTuple = true
    }
    if !isTuple, let only = items.first { return only }
    guard isTuple || allowsEmpty else { throw failure("expected an expression, found \(describe(current))") }
    return try make(.tuple(items))
  }

  private func isEndOfTuple(_ ends: Set<String>) -> Bool {
    switch current {
    case .variableEnd, .blockEnd, .symbol(")"): true
    case .name(let name): ends.contains(name)
    default: false
    }
  }

  func parseExpression() throws -> Expression {
    try nested { try parseConditional() }
  }

  private func parseConditional() throws -> Expression {
    let unknown = unknownNames.count
    var value = try parseOr()
    while skip(name: "if") {
      let test = try parseOr()
      let otherwise = skip(name: "else") ? try parseExpression() : nil
      value = try make(.conditional(test: test, then: value, otherwise: otherwise))
      // Filters that are missing in a branch count only once the branch is taken.
      unknownNames.removeLast(unknownNames.count - unknown)
    }
    return value
  }

  private func parseOr() throws -> Expression {
    let first = try parseAnd()
    guard current == .name("or") else { return first }
    var operands = [first]
    while skip(name: "or") { operands.append(try parseAnd()) }
    return try make(.or(operands))
  }

  private func parseAnd() throws -> Expression {
    let first = try parseNot()
    guard current == .name("and") else { return first }
    var operands = [first]
    while skip(name: "and") { operands.append(try parseNot()) }
    return try make(.and(operands))
  }

  private func parseNot() throws -> Expression {
    guard skip(name: "not") else { return try parseComparison() }
    return try make(.not(try nested { try parseNot() }))
  }

  private func parseComparison() throws -> Expression {
    let first = try parseSum()
    var operations: [(operation: ComparisonOperator, operand: Expression)] = []
    while let operation = comparisonOperator() { operations.append((operation, try parseSum())) }
    return operations.isEmpty ? first : try make(.comparison(first, operations))
  }

  private func comparisonOperator() -> ComparisonOperator? {
    switch current {
    case .symbol(let symbol):
      guard let operation = ComparisonOperator(rawValue: symbol) else { return nil }
      advance()
      return operation
    case .name("in"):
      advance()
      return .isIn
    case .name("not") where following == .name("in"):
      advance()
      advance()
      return .isNotIn
    default: return nil
    }
  }

  private func parseSum() throws -> Expression {
    try parseArithmetic(["+", "-"]) { try self.parseConcatenation() }
  }

  private func parseConcatenation() throws -> Expression {
    let first = try parseProduct()
    guard current == .symbol("~") else { return first }
    var operands = [first]
    while skip(symbol: "~") { operands.append(try parseProduct()) }
    return try make(.concatenation(operands))
  }

  private func parseProduct() throws -> Expression {
    try parseArithmetic(["*", "/", "//", "%"]) { try self.parsePower() }
  }

  /// Powers are grouped from the left, unlike in Python.
  private func parsePower() throws -> Expression {
    try parseArithmetic(["**"]) { try self.parseUnary() }
  }

  private func parseArithmetic(_ symbols: [String], _ parseOperand: () throws -> Expression) throws
    -> Expression
  {
    let first = try parseOperand()
    var operations: [(operation: ArithmeticOperator, operand: Expression)] = []
    while case .symbol(let symbol) = current, symbols.contains(symbol),
      let operation = ArithmeticOperator(rawValue: symbol)
    {
      advance()
      operations.append((operation, try parseOperand()))
    }
    return operations.isEmpty ? first : try make(.arithmetic(first, operations))
  }

  private func parseUnary(allowsFilters: Bool = true) throws -> Expression {
    var value: Expression
    if skip(symbol: "-") {
      value = try make(.negate(try nested { try parseUnary(allowsFilters: false) }))
    } else if skip(symbol: "+") {
      value = try make(.plus(try nested { try parseUnary(allowsFilters: false) }))
    } else {
      value = try parsePrimary()
    }
    value = try parsePostfix(of: value)
    return allowsFilters ? try parseFiltersAndTests(of: value) : value
  }

  // MARK: Primary expressions

  private func parsePrimary() throws -> Expression {
    switch current {
    case .name(let name):
      advance()
      switch name {
      case "true", "True": return try make(.bool(true))
      case "false", "False": return try make(.bool(false))
      case "none", "None": return try make(.none)
      default: return try make(.name(load(name)))
      }
    case .string: return try parseString()
    case .integer(let value):
      advance()
      return try make(.int(value))
    case .largeInteger(let digits):
      advance()
      return try make(.large(digits))
    case .float(let value):
      advance()
      return try make(.float(value))
    case .symbol("("):
      advance()
      let value = try parseTuple(allowsEmpty: true)
      try expect(.symbol(")"))
      return value
    case .symbol("["): return try make(.list(try parseItems(upTo: "]") { try self.parseExpression() }))
    case .symbol("{"):
      return try make(
        .dict(
          try parseItems(upTo: "}") {
            let key = try self.parseExpression()
            try self.expect(.symbol(":"))
            return (key, try self.parseExpression())
          }))
    default: throw failure("unexpected \(describe(current))")
    }
  }

  /// Strings next to each other are one string.
  private func parseString() throws -> Expression {
    var bytes: [UInt8] = []
    while case .string(let more) = current {
      bytes += more
      advance()
    }
    return try make(.text(Text(bytes: bytes, .template)))
  }

  private func parseItems<Item>(upTo end: String, _ parseItem: () throws -> Item) throws -> [Item] {
    advance()
    var items: [Item] = []
    while current != .symbol(end) {
      items.append(try parseItem())
      guard skip(symbol: ",") else { break }
    }
    try expect(.symbol(end))
    return items
  }

  // MARK: What follows a primary expression

  private func parsePostfix(of base: Expression) throws -> Expression {
    var value = base
    while true {
      switch current {
      case .symbol("."): value = try parseMember(of: value)
      case .symbol("["): value = try parseSubscript(of: value)
      case .symbol("("): value = try parseCall(of: value)
      default: return value
      }
    }
  }

  private func parseMember(of base: Expression) throws -> Expression {
    advance()
    switch current {
    case .name(let name):
      advance()
      return try make(.attribute(base, Member(name)))
    case .integer(let index):
      advance()
      return try make(.item(base, try make(.int(index))))
    default: throw failure("expected a name or a number after '.'")
    }
  }

  private func parseSubscript(of base: Expression) throws -> Expression {
    advance()
    var keys: [Expression] = []
    while current != .symbol("]") {
      if !keys.isEmpty { try expect(.symbol(",")) }
      let start = current == .symbol(":") ? nil : try parseExpression()
      guard current == .symbol(":") else {
        keys.append(start!)
        continue
      }
      advance()
      let (stop, step) = try parseSliceEnd()
      guard keys.isEmpty, skip(symbol: "]") else {
        throw TemplateError.unsupported("a slice beside other subscripts", line: line)
      }
      return try make(.slice(base, start: start, stop: stop, step: step))
    }
    advance()
    return try make(.item(base, keys.count == 1 ? keys[0] : try make(.tuple(keys))))
  }

  /// The stop and the step of a slice, after its first colon.
  private func parseSliceEnd() throws -> (stop: Expression?, step: Expression?) {
    func parseBound() throws -> Expression? {
      switch current {
      case .symbol(":"), .symbol("]"), .symbol(","): nil
      default: try parseExpression()
      }
    }
    let stop = try parseBound()
    return (stop, skip(symbol: ":") ? try parseBound() : nil)
  }

  private func parseCall(of base: Expression) throws -> Expression {
    let line = line
    return try make(.call(base, try parseArguments(), line: line))
  }

  func parseArguments() throws -> CallArguments {
    try expect(.symbol("("))
    var arguments = CallArguments()
    while current != .symbol(")") {
      if skip(symbol: "*") {
        guard arguments.unpackedList == nil, arguments.unpackedDict == nil else {
          throw failure("misplaced '*'")
        }
        arguments.unpackedList = try parseExpression()
      } else if skip(symbol: "**") {
        guard arguments.unpackedDict == nil else { throw failure("misplaced '**'") }
        arguments.unpackedDict = try parseExpression()
      } else if case .name(let name) = current, following == .symbol("=") {
        guard arguments.named.count < Parser.argumentLimit else {
          throw failure("a call has too many arguments")
        }
        guard arguments.unpackedDict == nil, !arguments.named.contains(where: { $0.name == name }) else {
          throw failure("misplaced argument '\(name)'")
        }
        advance()
        advance()
        arguments.named.append((name, try parseExpression()))
      } else {
        guard arguments.named.isEmpty, arguments.unpackedList == nil, arguments.unpackedDict == nil else {
          throw failure("an argument without a name follows one with a name")
        }
        arguments.positional.append(try parseExpression())
      }
      guard skip(symbol: ",") else { break }
    }
    try expect(.symbol(")"))
    return arguments
  }

  // MARK: Filters and tests

  private func parseFiltersAndTests(of base: Expression) throws -> Expression {
    var value = base
    while true {
      switch current {
      case .symbol("|"): value = try parseFilters(of: value)
      case .name("is"): value = try parseTest(of: value)
      case .symbol("("): value = try parseCall(of: value)
      default: return value
      }
    }
  }

  func parseFilters(of base: Expression) throws -> Expression {
    var value = base
    while skip(symbol: "|") { value = try parseFilter(of: value) }
    return value
  }

  func parseFilter(of base: Expression) throws -> Expression {
    let line = line
    let name = try parseDottedName()
    let arguments = current == .symbol("(") ? try parseArguments() : .none
    let filter = FilterName.named[name]
    if filter == nil { unknownNames.append(("the filter '\(name)'", line)) }
    return try make(.filter(base, FilterUse(name: name, filter: filter, arguments: arguments, line: line)))
  }

  private func parseDottedName() throws -> String {
    var name = try expectName()
    while skip(symbol: ".") { name += "." + (try expectName()) }
    return name
  }

  private func parseTest(of base: Expression) throws -> Expression {
    let line = line
    advance()
    let isNegated = skip(name: "not")
    let name = try parseDottedName()
    var arguments = CallArguments()
    if current == .symbol("(") {
      arguments = try parseArguments()
    } else if beginsTestArgument {
      if current == .name("is") { throw failure("tests cannot be chained with 'is'") }
      arguments.positional = [try parsePostfix(of: try parsePrimary())]
    }
    let test = TestName.named[name]
    if test == nil { unknownNames.append(("the test '\(name)'", line)) }
    return try make(
      .test(base, TestUse(name: name, test: test, arguments: arguments, isNegated: isNegated, line: line)))
  }

  private var beginsTestArgument: Bool {
    switch current {
    case .name(let name): !["else", "or", "and"].contains(name)
    case .string, .integer, .largeInteger, .float, .symbol("["), .symbol("{"): true
    default: false
    }
  }
}
