/// Runs one rendering of a template: its variables, and what it has used up.
///
/// The parts are in extensions, one concern a file. An interpreter lives on one thread, for one rendering.
final class Interpreter {
  let program: Program
  let limits: TemplateLimits
  let clock: TemplateClock?
  /// The caller's values and the global functions, in the order of ``Program/externalNames``.
  var external: [Value?] = []
  var activation: Activation
  /// What the body of a filter block or of a block assignment printed.
  var captured = Text.empty
  /// The line that an error is to blame on.
  var line = 0

  private var stepsLeft: Int
  private var bytesLeft: Int
  private var depth = 0
  private let gauge = StackGauge()
  /// Whatever may hold on to itself. Its members are forgotten at the end, so that everything is freed, one by one.
  private var namespaces: [Namespace] = []
  private var surroundings: [Activation] = []

  init(_ program: Program, limits: TemplateLimits, clock: TemplateClock?) {
    self.program = program
    self.limits = limits
    self.clock = clock
    stepsLeft = limits.steps
    bytesLeft = limits.madeBytes
    activation = Activation(slotCount: program.slotCounts[0], parent: nil)
  }

  deinit {
    for namespace in namespaces { namespace.members = DictBuilder() }
    for activation in surroundings { activation.slots = [] }
  }

  /// Renders the template.
  func render(_ variables: [TemplateMember]) throws -> TemplateRendering {
    var output = TextBuilder()
    do {
      try bind(variables)
      try enter(frame: 0)
      _ = try execute(program.body, &output)
      try check(output)
    } catch let error as TemplateError {
      throw error.at(line: line)
    }
    return output.rendering()
  }

  private func bind(_ variables: [TemplateMember]) throws {
    var values: [String: TemplateValue] = [:]
    for member in variables { values[member.key] = member.value }
    external = try program.externalNames.map { name in
      if let value = values[name] { return try convert(value, level: 0) }
      return GlobalFunction(rawValue: name).map { .function(Function(.global($0))) }
    }
  }

  // MARK: What a rendering uses up

  /// Counts a step.
  @inline(__always) func step() throws {
    stepsLeft -= 1
    if stepsLeft < 0 { throw TemplateError.tooManySteps(limit: limits.steps, line: 0) }
  }

  /// Counts the steps of looking at so many bytes.
  func look(at byteCount: Int) throws {
    stepsLeft -= byteCount / 32
    if stepsLeft < 0 { throw TemplateError.tooManySteps(limit: limits.steps, line: 0) }
  }

  /// Counts the steps of looking up properties of the characters in so many bytes, which is slower.
  func classify(byteCount: Int) throws { try look(at: byteCount * 16) }

  /// Counts a string of so many bytes before it is made.
  func make(byteCount: Int) throws {
    guard byteCount <= limits.textBytes else {
      throw TemplateError.textTooLong(limit: limits.textBytes, line: 0)
    }
    try look(at: byteCount)
    bytesLeft -= byteCount + 32
    if bytesLeft < 0 { throw TemplateError.tooMuchMemory(limit: limits.madeBytes, line: 0) }
  }

  /// Counts a list of so many items before it is made.
  func make(itemCount: Int) throws {
    guard itemCount <= limits.listItems else {
      throw TemplateError.listTooLong(limit: limits.listItems, line: 0)
    }
    try look(at: itemCount * 32)
    bytesLeft -= itemCount * MemoryLayout<Value>.stride + 64
    if bytesLeft < 0 { throw TemplateError.tooMuchMemory(limit: limits.madeBytes, line: 0) }
  }

  /// Checks a string that is growing.
  @inline(__always) func check(_ builder: TextBuilder) throws {
    if builder.byteCount > limits.textBytes {
      throw TemplateError.textTooLong(limit: limits.textBytes, line: 0)
    }
  }

  /// Counts and returns a string that is complete.
  func finish(_ builder: TextBuilder, isMarkup: Bool = false) throws -> Text {
    try make(byteCount: builder.byteCount)
    return builder.finish(isMarkup: isMarkup)
  }

  /// Runs `body` one level deeper.
  @inline(__always)
  func nested<Result>(_ body: () throws -> Result) throws -> Result {
    depth += 1
    defer { depth -= 1 }
    if depth > limits.depth || gauge.used() > limits.stackBytes {
      throw TemplateError.nestingTooDeep(limit: min(depth, limits.depth), line: 0)
    }
    return try body()
  }

  // MARK: Containers

  func list(_ values: [Value]) throws -> Value { .list(try items(values)) }

  func tuple(_ values: [Value]) throws -> Value { .tuple(try items(values)) }

  func items(_ values: [Value], isGroup: Bool = false) throws -> Items {
    try make(itemCount: values.count)
    let items = Items(values, isGroup: isGroup)
    try check(depth: items.depth)
    return items
  }

  func dict(_ builder: DictBuilder) throws -> Value {
    try make(itemCount: builder.count * 3)
    let dict = Dict(builder)
    try check(depth: dict.depth)
    return .dict(dict)
  }

  func check(depth: Int) throws {
    if depth > limits.nesting { throw TemplateError.nestingTooDeep(limit: limits.nesting, line: 0) }
  }

  func iteration(depth: Int, _ step: @escaping () throws -> Value?) throws -> Iteration {
    try check(depth: depth + 1)
    return Iteration(depth: depth, step)
  }

  func register(_ namespace: Namespace) throws {
    try make(itemCount: 16)
    namespaces.append(namespace)
  }

  func register(_ activation: Activation) throws {
    if surroundings.last === activation { return }
    try make(itemCount: 16)
    surroundings.append(activation)
  }

  /// The interpreter's value for a value of the caller.
  private func convert(_ value: TemplateValue, level: Int) throws -> Value {
    try check(depth: level)
    switch value {
    case .null: return .none
    case .boolean(let value): return .bool(value)
    case .integer(let value): return .int(value)
    case .largeInteger(let digits): return Int(digits).map { .int($0) } ?? .large(digits)
    case .number(let value): return .float(value)
    case .string(let string): return .text(Text(string, .data))
    case .templateText(let string): return .text(Text(string, .template))
    case .array(let values): return .list(Items(try values.map { try convert($0, level: level + 1) }))
    case .object(let members):
      var builder = DictBuilder()
      for member in members {
        builder.set(.text(Text(member.key, .data)), try convert(member.value, level: level + 1))
      }
      return .dict(Dict(builder))
    }
  }

  // MARK: Variables

  @inline(__always) func slot(_ reference: Reference) -> Value? {
    var owner = activation
    for _ in 0..<reference.hops { owner = owner.parent! }
    return owner.slots[reference.slot]
  }

  func lookUp(_ name: Int) -> Value {
    let reference = program.references[name]
    return slot(reference) ?? .undefined(reference.undefined)
  }

  /// Sets a variable of the current function.
  func assign(_ name: Int, _ value: Value?) {
    let reference = program.references[name]
    activation.slots[reference.slot] = value
  }

  /// Gives the variables of a scope their first values.
  func enter(frame: Int) throws {
    for (slot, load) in program.frames[frame].loads {
      switch load {
      case .external(let index): activation.slots[slot] = external[index]
      case .copy(let reference): activation.slots[slot] = self.slot(reference)
      case .nothing: activation.slots[slot] = nil
      }
    }
  }
}
