/// Expressions.
extension Interpreter {
  func evaluate(_ expression: Expression) throws -> Value {
    try step()
    switch expression.kind {
    case .text(let text): return .text(text)
    case .name(let name): return lookUp(name)
    case .none: return .none
    case .bool(let value): return .bool(value)
    case .int(let value): return .int(value)
    case .large(let digits): return .large(digits)
    case .float(let value): return .float(value)
    case .captured: return .text(captured)
    default: return try nested { try evaluateComposite(expression.kind) }
    }
  }

  @inline(never)
  private func evaluateComposite(_ kind: Expression.Kind) throws -> Value {
    switch kind {
    case .attribute(let base, let member): return try self.member(member, of: try evaluate(base))
    case .item(let base, let key): return try evaluateItem(base, key)
    case .call(let base, let arguments, let line): return try evaluateCall(base, arguments, line)
    case .filter(let base, let use): return try evaluateFilter(base, use)
    case .test(let base, let use): return try evaluateTest(base, use)
    case .comparison(let first, let operations): return try evaluateComparison(first, operations)
    case .arithmetic(let first, let operations): return try evaluateArithmetic(first, operations)
    case .and(let operands): return try evaluateLogic(operands, stopsAt: false)
    case .or(let operands): return try evaluateLogic(operands, stopsAt: true)
    case .not(let operand): return .bool(try !isTrue(try evaluate(operand)))
    case .conditional(let test, let then, let otherwise):
      return try evaluateConditional(test, then, otherwise)
    case .concatenation(let operands): return try evaluateConcatenation(operands)
    case .slice(let base, let start, let stop, let step):
      return try evaluateSlice(base, start, stop, step)
    case .list(let items): return try list(try items.map { try evaluate($0) })
    case .tuple(let items): return try tuple(try items.map { try evaluate($0) })
    case .dict(let pairs): return try evaluateDict(pairs)
    case .negate(let operand): return try negate(try evaluate(operand))
    case .plus(let operand): return try plus(try evaluate(operand))
    case .none, .bool, .int, .large, .float, .text, .name, .captured: return .none
    }
  }

  @inline(never)
  private func evaluateItem(_ base: Expression, _ key: Expression) throws -> Value {
    let value = try evaluate(base)
    return try item(try evaluate(key), of: value)
  }

  @inline(never)
  private func evaluateLogic(_ operands: [Expression], stopsAt truth: Bool) throws -> Value {
    var value = Value.none
    for operand in operands {
      value = try evaluate(operand)
      if try isTrue(value) == truth { break }
    }
    return value
  }

  @inline(never)
  private func evaluateConditional(
    _ test: Expression, _ then: Expression, _ otherwise: Expression?
  ) throws -> Value {
    if try isTrue(try evaluate(test)) { return try evaluate(then) }
    if let otherwise { return try evaluate(otherwise) }
    return .undefined(Undefined(.hint("the condition of an inline 'if' without 'else' is false")))
  }

  @inline(never)
  private func evaluateConcatenation(_ operands: [Expression]) throws -> Value {
    var builder = TextBuilder()
    for operand in operands {
      builder.append(try string(of: try evaluate(operand)))
      try check(builder)
    }
    return .text(try finish(builder))
  }

  @inline(never)
  private func evaluateDict(_ pairs: [(key: Expression, value: Expression)]) throws -> Value {
    var builder = DictBuilder()
    for (key, value) in pairs {
      let key = try evaluate(key)
      try requireHashable(key)
      builder.set(key, try evaluate(value))
    }
    return try dict(builder)
  }

  @inline(never)
  private func evaluateArithmetic(
    _ first: Expression, _ operations: [(operation: ArithmeticOperator, operand: Expression)]
  ) throws -> Value {
    var value = try evaluate(first)
    for (operation, operand) in operations {
      value = try compute(operation, value, try evaluate(operand))
    }
    return value
  }

  /// Comparisons in a row hold if each of them holds.
  @inline(never)
  private func evaluateComparison(
    _ first: Expression, _ operations: [(operation: ComparisonOperator, operand: Expression)]
  ) throws -> Value {
    var left = try evaluate(first)
    for (operation, operand) in operations {
      let right = try evaluate(operand)
      if try !compare(operation, left, right) { return .bool(false) }
      left = right
    }
    return .bool(true)
  }

  @inline(never)
  private func evaluateSlice(
    _ base: Expression, _ start: Expression?, _ stop: Expression?, _ step: Expression?
  ) throws -> Value {
    let value = try evaluate(base)
    return try slice(
      value, start: try start.map { try evaluate($0) }, stop: try stop.map { try evaluate($0) },
      step: try step.map { try evaluate($0) })
  }

  // MARK: Calls

  @inline(never)
  private func evaluateCall(_ base: Expression, _ arguments: CallArguments, _ line: Int) throws -> Value {
    let callee = try evaluate(base)
    let evaluated = try evaluate(arguments)
    self.line = line
    return try call(callee, evaluated)
  }

  @inline(never)
  private func evaluateFilter(_ base: Expression, _ use: FilterUse) throws -> Value {
    let value = try evaluate(base)
    let arguments = try evaluate(use.arguments)
    line = use.line
    guard let filter = use.filter else { throw TemplateError.unsupported("the filter '\(use.name)'") }
    return try apply(filter, to: value, arguments)
  }

  @inline(never)
  private func evaluateTest(_ base: Expression, _ use: TestUse) throws -> Value {
    let value = try evaluate(base)
    let arguments = try evaluate(use.arguments)
    line = use.line
    guard let test = use.test else { throw TemplateError.unsupported("the test '\(use.name)'") }
    return .bool(try self.test(test, value, arguments) != use.isNegated)
  }

  func evaluate(_ arguments: CallArguments) throws -> Arguments {
    var result = Arguments()
    if !arguments.positional.isEmpty { result.positional = try arguments.positional.map { try evaluate($0) } }
    if !arguments.named.isEmpty {
      result.named = try arguments.named.map { Arguments.Named(name: $0.name, value: try evaluate($0.value)) }
    }
    if let unpacked = arguments.unpackedList {
      let items = try iterate(try evaluate(unpacked))
      while let item = try items.next() {
        try make(itemCount: 1)
        result.positional.append(item)
      }
    }
    if let unpacked = arguments.unpackedDict { try unpack(try evaluate(unpacked), into: &result) }
    return result
  }

  private func unpack(_ value: Value, into arguments: inout Arguments) throws {
    guard case .dict(let dict) = value else {
      throw TemplateError.evaluation("what follows '**' must be a mapping, not '\(value.typeName)'")
    }
    for (position, key) in dict.keys.enumerated() {
      guard case .text(let name) = key else {
        throw TemplateError.evaluation("names of arguments must be strings")
      }
      guard !arguments.named.contains(where: { $0.name == name.string }) else {
        throw TemplateError.evaluation("the argument '\(name.string)' is given twice")
      }
      try look(at: arguments.named.count * 8)
      let origin = if case .uniform(let origin) = name.marks { origin } else { Origin.data }
      arguments.named.append(Arguments.Named(name: name.string, value: dict.values[position], origin: origin))
    }
  }
}
