/// The functions that every template can call.
enum GlobalFunction: String {
  case range, dict, namespace, cycler, joiner, lipsum
  case raiseException = "raise_exception"
  case strftimeNow = "strftime_now"
}

extension Interpreter {
  func call(_ function: GlobalFunction, _ arguments: Arguments) throws -> Value {
    switch function {
    case .range: return try range(try arguments.positional(1...3, of: "range"))
    case .dict: return try dict(try entries(arguments, of: "dict"))
    case .namespace:
      let namespace = Namespace()
      namespace.members = try entries(arguments, of: "namespace")
      try make(itemCount: namespace.members.count * 3)
      try register(namespace)
      return .namespace(namespace)
    case .cycler:
      let values = try arguments.positional(0...Int.max, of: "cycler")
      guard !values.isEmpty else { throw TemplateError.evaluation("cycler() needs at least one value") }
      let cycler = Cycler(try items(values))
      try check(depth: cycler.items.depth + 1)
      return .cycler(cycler)
    case .joiner:
      let separator = try arguments.bound(to: ["sep"], of: "joiner")[0] ?? .literal(", ")
      try check(depth: separator.depth + 1)
      return .function(Function(.joiner(Joiner(separator))))
    case .lipsum: throw TemplateError.unsupported("the function 'lipsum'")
    case .raiseException:
      let message = try arguments.bound(to: ["message"], required: 1, of: "raise_exception")[0]!
      throw TemplateError.raised(try string(of: message).string)
    case .strftimeNow:
      guard case .text(let format)? = try arguments.bound(to: ["format"], required: 1, of: "strftime_now")[0]
      else {
        throw TemplateError.evaluation("strftime_now() needs a string")
      }
      return .text(try date(format))
    }
  }

  private func date(_ format: Text) throws -> Text {
    guard let clock else {
      throw TemplateError.unsupported("strftime_now() without a date")
    }
    // A directive makes at most some thirty bytes of two.
    try make(byteCount: format.byteCount * 16)
    guard case .uniform(let origin) = format.marks else {
      return Text(bytes: clock.formatted(format.bytes), .data)
    }
    return Text(bytes: clock.formatted(format.bytes), origin)
  }

  private func range(_ values: [Value]) throws -> Value {
    let bounds = try values.map { value in
      if case .undefined(let undefined) = value { throw undefined.error }
      guard let integer = value.integer else {
        throw TemplateError.evaluation("range() needs integers, not '\(value.typeName)'")
      }
      return integer
    }
    let step = bounds.count == 3 ? bounds[2] : 1
    guard step != 0 else { throw TemplateError.evaluation("the step of range() cannot be zero") }
    let range = IntegerRange(
      start: bounds.count == 1 ? 0 : bounds[0], stop: bounds.count == 1 ? bounds[0] : bounds[1], step: step)
    guard range.count <= limits.rangeItems else {
      throw TemplateError.rangeTooLong(limit: limits.rangeItems, line: 0)
    }
    return .range(range)
  }

  /// What `dict` takes: a mapping or pairs, and named arguments.
  private func entries(_ arguments: Arguments, of function: String) throws -> DictBuilder {
    guard arguments.positional.count <= 1 else {
      throw TemplateError.evaluation("\(function)() takes at most one argument without a name")
    }
    var builder = DictBuilder()
    switch arguments.positional.first {
    case nil: break
    case .dict(let dict):
      try make(itemCount: dict.count * 6)
      builder = DictBuilder(dict)
    case .undefined(let undefined): throw undefined.error
    case let pairs?:
      for pair in try values(of: pairs) {
        let parts = try values(of: pair)
        guard parts.count == 2 else { throw TemplateError.evaluation("\(function)() needs pairs") }
        try requireHashable(parts[0])
        builder.set(parts[0], parts[1])
      }
    }
    try look(at: arguments.named.count * 128)
    for argument in arguments.named { builder.set(argument.key, argument.value) }
    return builder
  }
}
