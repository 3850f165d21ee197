/// Statements.
extension Interpreter {
  /// How a statement ends.
  enum Flow {
    case onwards
    case breakLoop
    case continueLoop
  }

  func execute(_ statements: [Statement], _ output: inout TextBuilder) throws -> Flow {
    for statement in statements {
      let flow = try execute(statement, &output)
      if flow != .onwards { return flow }
    }
    return .onwards
  }

  private func execute(_ statement: Statement, _ output: inout TextBuilder) throws -> Flow {
    try step()
    switch statement {
    case .output(let pieces): try print(pieces, &output)
    case .assignment(let target, let value, let line):
      self.line = line
      try assign(target, try evaluate(value))
    case .macro(let definition, let target):
      try register(activation)
      assign(target, .function(Function(.macro(MacroValue(definition, activation)))))
    case .breakLoop: return .breakLoop
    case .continueLoop: return .continueLoop
    default: return try nested { try executeBlock(statement, &output) }
    }
    return .onwards
  }

  @inline(never)
  private func executeBlock(_ statement: Statement, _ output: inout TextBuilder) throws -> Flow {
    switch statement {
    case .condition(let cases, let otherwise):
      for (test, body, line) in cases {
        self.line = line
        if try isTrue(try evaluate(test)) { return try execute(body, &output) }
      }
      return try execute(otherwise, &output)
    case .loop(let loop): return try run(loop, &output)
    case .blockAssignment(let target, let value, let frame, let body, let line):
      let (text, flow) = try capture(body, frame: frame)
      if flow != .onwards { return flow }
      self.line = line
      try assign(target, try evaluate(value, captured: text))
    case .filterBlock(let value, let frame, let body, let line):
      let (text, flow) = try capture(body, frame: frame)
      if flow != .onwards { return flow }
      self.line = line
      output.append(try string(of: try evaluate(value, captured: text)))
    case .with(let assignments, let frame, let body, let line):
      self.line = line
      return try run(assignments, frame: frame, body, &output)
    case .generation(let body):
      let start = output.byteCount
      let flow = try execute(body, &output)
      output.insertMark(.generated, from: start)
      return flow
    case .callBlock(let definition, let function, let arguments, let line):
      try call(function, arguments, block: definition, line: line, &output)
    default: break
    }
    return .onwards
  }

  private func print(_ pieces: [OutputPiece], _ output: inout TextBuilder) throws {
    for piece in pieces {
      switch piece {
      case .text(let text):
        try look(at: text.byteCount)
        output.append(text)
      case .expression(let expression, let line):
        self.line = line
        let text = try string(of: try evaluate(expression))
        try look(at: text.byteCount)
        output.append(text)
      }
      if output.byteCount > limits.outputBytes {
        throw TemplateError.outputTooLong(limit: limits.outputBytes, line: 0)
      }
    }
  }

  private func capture(_ body: [Statement], frame: Int) throws -> (text: Text, flow: Flow) {
    try enter(frame: frame)
    var output = TextBuilder()
    let flow = try execute(body, &output)
    return (try finish(output), flow)
  }

  private func evaluate(_ value: Expression, captured text: Text) throws -> Value {
    let outer = captured
    captured = text
    defer { captured = outer }
    return try evaluate(value)
  }

  private func run(
    _ assignments: [(target: Target, value: Expression)], frame: Int, _ body: [Statement],
    _ output: inout TextBuilder
  ) throws -> Flow {
    try enter(frame: frame)
    for (target, value) in assignments { try assign(target, try evaluate(value)) }
    return try execute(body, &output)
  }

  private func call(
    _ function: Expression, _ arguments: CallArguments, block: MacroDefinition, line: Int,
    _ output: inout TextBuilder
  ) throws {
    self.line = line
    try register(activation)
    let caller = Value.function(Function(.macro(MacroValue(block, activation))))
    let callee = try evaluate(function)
    var evaluated = try evaluate(arguments)
    evaluated.named.append(Arguments.Named(name: "caller", value: caller))
    self.line = line
    output.append(try string(of: try call(callee, evaluated)))
  }

  // MARK: Loops

  private func run(_ loop: ForLoop, _ output: inout TextBuilder) throws -> Flow {
    line = loop.line
    let iterable = try evaluate(loop.iterable)
    var items = try iterate(iterable)
    if let filter = loop.filter { items = try filtered(items, filter) }
    let state = loop.loopVariable.map { _ in
      LoopState(items, count: loop.filter == nil ? count(of: iterable) : nil)
    }
    if let state { try check(depth: state.depth) }

    // As in Jinja2, `else` runs unless the end of the body was reached once: `break` and `continue` do not count.
    var isComplete = false
    while let item = try state == nil ? items.next() : state!.next() {
      try step()
      try assign(loop.target, item)
      if let state, let name = loop.loopVariable { assign(name, .loop(state)) }
      try enter(frame: loop.frame)
      let flow = try execute(loop.body, &output)
      if flow == .breakLoop { break }
      if flow == .onwards { isComplete = true }
    }
    if isComplete || loop.otherwise.isEmpty { return .onwards }
    try enter(frame: loop.elseFrame)
    return try execute(loop.otherwise, &output)
  }

  /// The items that pass a loop's `if`, each tested when it is its turn.
  private func filtered(_ items: Iteration, _ filter: ForLoop.Filter) throws -> Iteration {
    let own = Activation(slotCount: program.slotCounts[filter.function], parent: activation)
    return try iteration(depth: items.depth) { [unowned self] in
      let outer = activation
      activation = own
      defer { activation = outer }
      try enter(frame: filter.frame)
      while let item = try items.next() {
        try step()
        try assign(filter.target, item)
        if try isTrue(try evaluate(filter.test)) { return item }
      }
      return nil
    }
  }

  // MARK: Assignments

  func assign(_ target: Target, _ value: Value) throws {
    switch target {
    case .name(let name): assign(name, value)
    case .tuple(let targets):
      let values = try unpack(value, count: targets.count)
      for (target, value) in zip(targets, values) { try assign(target, value) }
    case .namespaceMember(let name, let member):
      guard case .namespace(let namespace) = lookUp(name) else {
        throw TemplateError.evaluation("only members of a namespace can be set")
      }
      if namespace.value(member) == nil { try make(itemCount: 4) }
      namespace.members.set(.text(member), value)
    }
  }

  private func unpack(_ value: Value, count: Int) throws -> [Value] {
    let items = try iterate(value)
    var values: [Value] = []
    while let item = try items.next() {
      guard values.count < count else {
        throw TemplateError.evaluation("there are more than \(count) values for \(count) names")
      }
      values.append(item)
    }
    guard values.count == count else {
      throw TemplateError.evaluation("there are only \(values.count) values for \(count) names")
    }
    return values
  }
}
