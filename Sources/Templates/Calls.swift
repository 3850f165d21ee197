/// Arguments of a call, evaluated.
struct Arguments {
  struct Named {
    var name: String
    var value: Value
    /// Where the name comes from: from the caller's values, if a mapping was unpacked.
    var origin = Origin.template
  }

  var positional: [Value] = []
  var named: [Named] = []

  var isEmpty: Bool { positional.isEmpty && named.isEmpty }

  /// The arguments in the order of a function's parameters, absent where the call has none.
  func bound(to parameters: [String], required: Int = 0, of function: String) throws -> [Value?] {
    guard positional.count <= parameters.count else {
      throw TemplateError.evaluation("\(function)() takes at most \(parameters.count) arguments")
    }
    var values: [Value?] = positional
    values.append(contentsOf: Array(repeating: nil, count: parameters.count - positional.count))
    for argument in named {
      let name = argument.name
      guard let index = parameters.firstIndex(of: name) else {
        throw TemplateError.evaluation("\(function)() has no argument '\(name)'")
      }
      guard values[index] == nil else {
        throw TemplateError.evaluation("\(function)() has two values for the argument '\(name)'")
      }
      values[index] = argument.value
    }
    for index in 0..<required where values[index] == nil {
      throw TemplateError.evaluation("\(function)() needs the argument '\(parameters[index])'")
    }
    return values
  }

  /// The positional arguments, of which there must be so many, and none with a name.
  func positional(_ counts: ClosedRange<Int>, of function: String) throws -> [Value] {
    guard named.isEmpty else {
      throw TemplateError.evaluation("\(function)() takes no argument '\(named[0].name)'")
    }
    guard counts.contains(positional.count) else {
      throw TemplateError.evaluation("\(function)() cannot take \(positional.count) arguments")
    }
    return positional
  }
}

extension Arguments.Named {
  /// The name as a key of a dictionary.
  var key: Value { .text(Text(name, origin)) }
}

/// Calls of macros and functions.
extension Interpreter {
  func call(_ callee: Value, _ arguments: Arguments) throws -> Value {
    switch callee {
    case .function(let function): return try call(function.kind, arguments)
    case .undefined(let undefined): throw undefined.error
    case .loop: throw TemplateError.unsupported("a recursive loop")
    default: throw TemplateError.evaluation("'\(callee.typeName)' object is not callable")
    }
  }

  private func call(_ kind: Function.Kind, _ arguments: Arguments) throws -> Value {
    switch kind {
    case .macro(let macro): return try nested { try call(macro, arguments) }
    case .global(let function): return try call(function, arguments)
    case .textMethod(let text, let method): return try call(method, of: text, arguments)
    case .dictMethod(let dict, let method): return try call(method, of: dict, arguments)
    case .sequenceMethod(let value, let method): return try call(method, of: value, arguments)
    case .loopCycle(let loop): return try cycle(loop, try arguments.positional(0...Int.max, of: "cycle"))
    case .loopChanged(let loop):
      return try changed(loop, try arguments.positional(0...Int.max, of: "changed"))
    case .cyclerNext(let cycler):
      _ = try arguments.positional(0...0, of: "next")
      defer { cycler.position = (cycler.position + 1) % cycler.items.values.count }
      return cycler.items.values[cycler.position]
    case .cyclerReset(let cycler):
      _ = try arguments.positional(0...0, of: "reset")
      cycler.position = 0
      return .none
    case .joiner(let joiner):
      _ = try arguments.positional(0...0, of: "joiner")
      defer { joiner.isUsed = true }
      return joiner.isUsed ? joiner.separator : .literal("")
    }
  }

  // MARK: Macros

  @inline(never)
  private func call(_ macro: MacroValue, _ arguments: Arguments) throws -> Value {
    let definition = macro.definition
    let slotCount = program.slotCounts[definition.function]
    try look(at: slotCount * 32 + arguments.named.count * (definition.parameters.count * 4 + 128))
    let own = Activation(slotCount: slotCount, parent: macro.surroundings)
    let values = try bind(arguments, to: definition, own)

    let outer = activation
    let callLine = line
    activation = own
    defer { activation = outer }
    try enter(frame: definition.frame)
    for (parameter, value) in zip(definition.parameters, values) { assign(parameter.variable, value) }
    for (parameter, value) in zip(definition.parameters, values) where value == nil {
      assign(parameter.variable, try fallback(of: parameter))
    }
    var output = TextBuilder()
    _ = try execute(definition.body, &output)
    line = callLine
    return .text(try finish(output))
  }

  private func fallback(of parameter: MacroDefinition.Parameter) throws -> Value {
    if let fallback = parameter.fallback { return try evaluate(fallback) }
    return .undefined(Undefined(.hint("the argument '\(parameter.name)' is missing")))
  }

  /// The values of the parameters. Those of `caller`, `kwargs` and `varargs` go into their variables.
  private func bind(
    _ arguments: Arguments, to definition: MacroDefinition, _ own: Activation
  ) throws -> [Value?] {
    func set(_ name: Int, _ value: Value) { own.slots[program.references[name].slot] = value }
    let label = definition.name.map { "the macro '\($0)'" } ?? "the call block"
    var named = arguments.named
    func take(_ name: String) -> Value? {
      named.firstIndex { $0.name == name }.map { named.remove(at: $0).value }
    }

    var values: [Value?] = Array(arguments.positional.prefix(definition.parameters.count))
    for parameter in definition.parameters.dropFirst(values.count) { values.append(take(parameter.name)) }
    if let caller = definition.caller {
      set(caller, take("caller") ?? .undefined(Undefined(.hint("there is no caller"))))
    }
    if let rest = definition.named {
      var builder = DictBuilder()
      for argument in named { builder.set(argument.key, argument.value) }
      set(rest, try dict(builder))
    } else if let first = named.first {
      throw TemplateError.evaluation("\(label) takes no argument '\(first.name)'")
    }
    if let rest = definition.further {
      set(rest, try tuple(Array(arguments.positional.dropFirst(definition.parameters.count))))
    } else if arguments.positional.count > definition.parameters.count {
      throw TemplateError.evaluation("\(label) takes at most \(definition.parameters.count) arguments")
    }
    return values
  }
}
