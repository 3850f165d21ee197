/// Parses the statements of a template. Expressions are in `ExpressionParser.swift`.
///
/// The grammar is that of `jinja2/parser.py`, with the tags `break`, `continue` and `generation`.
final class Parser {
  let limits: TemplateLimits
  private let gauge = StackGauge()
  let tokens: [Token]
  var position = 0
  private var depth = 0

  // Scopes, see Scopes.swift.
  var frames: [FrameScope] = []
  var functions: [FunctionScope] = []
  var frame: FrameScope
  private var occurrences: [(name: String, frame: Int)] = []
  /// Names whose mention inside of a body matters: `loop` for loops, `caller` and others for macros.
  private var watches: [Watch] = []
  /// Loops around the current statement, and those that `break` can leave.
  private var loopDepth = 0
  private var breakableLoops = 0
  /// Filters and tests that this interpreter does not have. In a branch they are an error only when they are run.
  var unknownNames: [(description: String, line: Int)] = []

  /// Arguments with names in a call, and parameters of a macro: each is compared with all others.
  static let argumentLimit = 1_000

  struct Watch {
    var pending: Set<String>
    var found: Set<String> = []
  }

  static func program(of source: String, limits: TemplateLimits) throws -> Program {
    let parser = Parser(tokens: try Lexer.tokens(of: source), limits: limits)
    return try parser.parse()
  }

  private init(tokens: [Token], limits: TemplateLimits) {
    self.tokens = tokens
    self.limits = limits
    let function = FunctionScope(index: 0, parent: nil)
    functions = [function]
    frame = FrameScope(index: 0, parent: nil, function: function)
    frames = [frame]
  }

  private func parse() throws -> Program {
    let body = try parseBody(until: [])
    try refuseUnknownNames(since: 0)
    var resolver = ScopeResolver()
    let layouts = try resolver.layouts(of: frames)
    let references = occurrences.map { occurrence in
      frames[occurrence.frame].reference(to: occurrence.name)!
    }
    return Program(
      body: body, references: references, frames: layouts, slotCounts: functions.map(\.slotCount),
      externalNames: resolver.externalNames)
  }

  // MARK: Tokens

  var current: Token.Kind { tokens[position].kind }
  var line: Int { tokens[position].line }
  var following: Token.Kind { tokens[min(position + 1, tokens.count - 1)].kind }

  func advance() { if position < tokens.count - 1 { position += 1 } }

  func skip(_ kind: Token.Kind) -> Bool {
    guard current == kind else { return false }
    advance()
    return true
  }

  func skip(symbol: String) -> Bool { skip(.symbol(symbol)) }
  func skip(name: String) -> Bool { skip(.name(name)) }

  func expect(_ kind: Token.Kind) throws {
    guard skip(kind) else { throw failure("expected \(describe(kind)), found \(describe(current))") }
  }

  func expectName() throws -> String {
    guard case .name(let name) = current else { throw failure("expected a name, found \(describe(current))") }
    advance()
    return name
  }

  func failure(_ message: String) -> TemplateError { .syntax(message, line: line) }

  func describe(_ kind: Token.Kind) -> String {
    switch kind {
    case .data: "text"
    case .variableBegin: "'{{'"
    case .variableEnd: "'}}'"
    case .blockBegin: "'{%'"
    case .blockEnd: "'%}'"
    case .name(let name): "'\(name)'"
    case .string: "a string"
    case .integer, .largeInteger, .float: "a number"
    case .symbol(let symbol): "'\(symbol)'"
    case .end: "the end of the template"
    }
  }

  /// Runs `body` one level deeper.
  func nested<Result>(_ body: () throws -> Result) throws -> Result {
    depth += 1
    defer { depth -= 1 }
    guard depth <= limits.nesting, gauge.used() < limits.stackBytes else {
      throw TemplateError.nestingTooDeep(limit: min(depth, limits.nesting), line: line)
    }
    return try body()
  }

  // MARK: Scopes

  func addFrame(function: FunctionScope? = nil) -> FrameScope {
    let new = FrameScope(index: frames.count, parent: frame, function: function ?? frame.function)
    frames.append(new)
    return new
  }

  func addFunction() -> FunctionScope {
    let function = FunctionScope(index: functions.count, parent: frame.function)
    functions.append(function)
    return function
  }

  /// Runs `body` in another scope. Filters unknown inside of it are errors even where the scope is in a branch.
  func within<Result>(_ scope: FrameScope, _ body: () throws -> Result) throws -> Result {
    let outer = frame
    let unknown = unknownNames.count
    frame = scope
    defer { frame = outer }
    let result = try body()
    try refuseUnknownNames(since: unknown)
    return result
  }

  private func refuseUnknownNames(since count: Int) throws {
    guard unknownNames.count > count else { return }
    let unknown = unknownNames[count]
    throw TemplateError.unsupported(unknown.description, line: unknown.line)
  }

  private func collectEvents(_ body: () throws -> Void) rethrows -> [NameEvent] {
    let outer = frame.events
    frame.events = []
    let scope = frame
    defer { scope.events = outer }
    try body()
    return scope.events
  }

  private func occurrence(_ name: String) -> Int {
    occurrences.append((name, frame.index))
    return occurrences.count - 1
  }

  func load(_ name: String) -> Int {
    for index in watches.indices where watches[index].pending.contains(name) {
      watches[index].found.insert(name)
    }
    frame.events.append(.load(name))
    return occurrence(name)
  }

  private func store(_ name: String) throws -> Int {
    if name == "loop", loopDepth > 0 { throw failure("'loop' cannot be assigned to inside of a loop") }
    unwatch(name)
    frame.events.append(.store(name))
    return occurrence(name)
  }

  private func declare(_ name: String) -> Int {
    unwatch(name)
    frame.events.append(.parameter(name))
    return occurrence(name)
  }

  private func unwatch(_ name: String) {
    for index in watches.indices { watches[index].pending.remove(name) }
  }

  /// Declares a parameter that a body turned out to need, as if it came first.
  private func declareFirst(_ name: String, in scope: FrameScope) -> Int {
    scope.events.insert(.parameter(name), at: 0)
    occurrences.append((name, scope.index))
    return occurrences.count - 1
  }

  private func watching(_ names: Set<String>, _ body: () throws -> [Statement]) throws -> (
    [Statement], Set<String>
  ) {
    watches.append(Watch(pending: names))
    defer { watches.removeLast() }
    let statements = try body()
    return (statements, watches[watches.count - 1].found)
  }

  // MARK: Bodies

  /// Parses up to a tag of one of these names, whose name is the current token then.
  private func parseBody(until ends: Set<String>) throws -> [Statement] {
    var statements: [Statement] = []
    var pieces: [OutputPiece] = []
    func flush() {
      if !pieces.isEmpty { statements.append(.output(pieces)) }
      pieces = []
    }
    while true {
      switch current {
      case .data(let bytes):
        pieces.append(.text(Text(bytes: bytes, .template)))
        advance()
      case .variableBegin:
        let line = line
        advance()
        pieces.append(.expression(try parseTuple(), line: line))
        try expect(.variableEnd)
      case .blockBegin:
        flush()
        advance()
        if case .name(let name) = current, ends.contains(name) { return statements }
        if let statement = try nested({ try parseStatement() }) { statements.append(statement) }
        try expect(.blockEnd)
      default:
        guard ends.isEmpty else {
          throw failure(
            "the template ends before \(ends.sorted().map { "'\($0)'" }.joined(separator: " or "))")
        }
        flush()
        return statements
      }
    }
  }

  /// Parses the body of a block up to a tag of one of these names; `:` may end the block's tag, as in Python.
  private func parseBlock(until ends: Set<String>) throws -> [Statement] {
    _ = skip(symbol: ":")
    try expect(.blockEnd)
    return try parseBody(until: ends)
  }

  private func parseBlock(upTo end: String) throws -> [Statement] {
    let body = try parseBlock(until: [end])
    advance()
    return body
  }

  private func parseStatement() throws -> Statement? {
    guard case .name(let tag) = current else { throw failure("expected the name of a tag") }
    let line = line
    switch tag {
    case "if": return try parseCondition()
    case "for": return try parseLoop()
    case "set": return try parseAssignment()
    case "macro": return try parseMacro()
    case "call": return try parseCallBlock()
    case "filter": return try parseFilterBlock()
    case "with": return try parseWith()
    case "print": return try parsePrint()
    case "generation":
      advance()
      return .generation(try parseBlock(upTo: "endgeneration"))
    case "break", "continue":
      guard breakableLoops > 0 else { throw failure("'\(tag)' outside of a loop") }
      advance()
      return tag == "break" ? .breakLoop : .continueLoop
    case "include", "import", "from", "extends", "block", "autoescape":
      throw TemplateError.unsupported("the tag '\(tag)'", line: line)
    default: throw failure("unknown tag '\(tag)'")
    }
  }

  // MARK: Statements

  private func parseCondition() throws -> Statement {
    let unknown = unknownNames.count
    defer { unknownNames.removeLast(unknownNames.count - unknown) }
    var cases: [(test: Expression, body: [Statement], line: Int)] = []
    var otherwise: [Statement] = []
    var elseEvents: [NameEvent] = []
    var elifEvents: [NameEvent] = []

    func parseCase() throws -> [NameEvent] {
      let line = line
      advance()
      let test = try parseTuple(allowsConditional: false)
      var body: [Statement] = []
      let events = try collectEvents { body = try parseBlock(until: ["elif", "else", "endif"]) }
      cases.append((test, body, line))
      return events
    }

    let bodyEvents = try parseCase()
    while current == .name("elif") {
      var bodyOfCase: [NameEvent] = []
      elifEvents += try collectEvents { bodyOfCase = try parseCase() } + [.branches([bodyOfCase])]
    }
    if skip(name: "else") {
      elseEvents = try collectEvents { otherwise = try parseBlock(until: ["endif"]) }
    }
    advance()
    frame.events.append(.branches([bodyEvents, elifEvents, elseEvents]))
    return .condition(cases, otherwise: otherwise)
  }

  private func parseLoop() throws -> Statement {
    let line = line
    advance()
    loopDepth += 1
    defer { loopDepth -= 1 }
    let scope = addFrame()
    let targetStart = position
    let target = try within(scope) { try parseTarget(declares: true) }
    guard !tokens[targetStart..<position].contains(where: { $0.kind == .name("loop") }) else {
      throw failure("'loop' cannot be assigned to inside of a loop")
    }
    try expect(.name("in"))
    let iterable = try parseTuple(allowsConditional: false, ends: ["recursive"])
    let filter = try skip(name: "if") ? parseLoopFilter(targetStart: targetStart) : nil
    if skip(name: "recursive") { throw TemplateError.unsupported("a recursive loop", line: line) }

    breakableLoops += 1
    let (body, mentioned) = try watching(["loop"]) {
      try within(scope) { try parseBlock(until: ["endfor", "else"]) }
    }
    breakableLoops -= 1
    let loopVariable = mentioned.isEmpty ? nil : declareFirst("loop", in: scope)
    let elseScope = addFrame()
    var otherwise: [Statement] = []
    if skip(name: "else") {
      otherwise = try within(elseScope) { try parseBlock(until: ["endfor"]) }
    }
    advance()
    return .loop(
      ForLoop(
        target: target, iterable: iterable, filter: filter, loopVariable: loopVariable, frame: scope.index,
        body: body, elseFrame: elseScope.index, otherwise: otherwise, line: line))
  }

  /// The test of a loop's `if` runs in a function of its own, which has the loop's target but not `loop`.
  private func parseLoopFilter(targetStart: Int) throws -> ForLoop.Filter {
    let function = addFunction()
    let scope = addFrame(function: function)
    return try within(scope) {
      let start = position
      position = targetStart
      let target = try parseTarget(declares: true)
      position = start
      let test = try parseExpression()
      return ForLoop.Filter(target: target, test: test, function: function.index, frame: scope.index)
    }
  }

  private func parseAssignment() throws -> Statement {
    let line = line
    advance()
    let targetStart = position
    // The value is evaluated before the target is assigned to, so its names come first.
    let events = frame.events.count
    let occurrence = occurrences.count
    var target = try parseTarget(allowsNamespace: true)
    if skip(symbol: "=") {
      frame.events.removeLast(frame.events.count - events)
      occurrences.removeLast(occurrences.count - occurrence)
      let value = try parseTuple()
      let end = position
      position = targetStart
      target = try parseTarget(allowsNamespace: true)
      position = end
      return .assignment(target, value, line: line)
    }
    let scope = addFrame()
    let value = try within(scope) { try parseFilters(of: Expression(.captured)) }
    let body = try within(scope) { try parseBlock(upTo: "endset") }
    return .blockAssignment(target, value: value, frame: scope.index, body: body, line: line)
  }

  private func parseMacro() throws -> Statement {
    let line = line
    advance()
    let name = try expectName()
    let target = try store(name)
    let scope = addFrame(function: addFunction())
    let parameters = try within(scope) { try parseSignature() }
    let definition = try parseMacroBody(name: name, parameters, scope, end: "endmacro", line: line)
    return .macro(definition, target: target)
  }

  private func parseCallBlock() throws -> Statement {
    let line = line
    advance()
    let scope = addFrame(function: addFunction())
    let parameters = try within(scope) { current == .symbol("(") ? try parseSignature() : [] }
    guard case .call(let function, let arguments, _) = try parseExpression().kind else {
      throw failure("expected a call")
    }
    let definition = try parseMacroBody(name: nil, parameters, scope, end: "endcall", line: line)
    return .callBlock(definition, function: function, arguments: arguments, line: line)
  }

  private func parseMacroBody(
    name: String?, _ parameters: [MacroDefinition.Parameter], _ scope: FrameScope, end: String, line: Int
  ) throws -> MacroDefinition {
    let breakable = breakableLoops
    breakableLoops = 0
    defer { breakableLoops = breakable }
    var (body, mentioned) = try watching(["caller", "kwargs", "varargs"]) {
      try within(scope) { try parseBlock(upTo: end) }
    }
    for parameter in parameters where mentioned.contains(parameter.name) {
      if parameter.name == "caller", parameter.fallback == nil {
        throw TemplateError.syntax("the parameter 'caller' needs a default value", line: line)
      }
      mentioned.remove(parameter.name)
    }
    func special(_ name: String) -> Int? { mentioned.contains(name) ? declareFirst(name, in: scope) : nil }
    return MacroDefinition(
      name: name, parameters: parameters, caller: special("caller"), named: special("kwargs"),
      further: special("varargs"), function: scope.function.index, frame: scope.index, body: body)
  }

  private func parseSignature() throws -> [MacroDefinition.Parameter] {
    var parameters: [MacroDefinition.Parameter] = []
    var declared: [(name: String, variable: Int)] = []
    var fallbacks: [Expression] = []
    try expect(.symbol("("))
    while current != .symbol(")") {
      if !declared.isEmpty { try expect(.symbol(",")) }
      let name = try expectName()
      guard declared.count < Parser.argumentLimit else { throw failure("a macro has too many parameters") }
      guard !declared.contains(where: { $0.name == name }) else {
        throw failure("two parameters are named '\(name)'")
      }
      declared.append((name, declare(name)))
      if skip(symbol: "=") {
        fallbacks.append(try parseExpression())
      } else if !fallbacks.isEmpty {
        throw failure("a parameter without a default value follows one with a default value")
      }
    }
    advance()
    for (index, parameter) in declared.enumerated() {
      let fallback = index - (declared.count - fallbacks.count)
      parameters.append(
        MacroDefinition.Parameter(
          name: parameter.name, variable: parameter.variable,
          fallback: fallback >= 0 ? fallbacks[fallback] : nil))
    }
    return parameters
  }

  private func parseFilterBlock() throws -> Statement {
    let line = line
    advance()
    let scope = addFrame()
    let value = try within(scope) {
      try parseFilters(of: try parseFilter(of: Expression(.captured)))
    }
    // The arguments of the filters count as mentioned in the outer scope too.
    frame.events += scope.events
    let body = try within(scope) { try parseBlock(upTo: "endfilter") }
    return .filterBlock(value: value, frame: scope.index, body: body, line: line)
  }

  private func parseWith() throws -> Statement {
    let line = line
    advance()
    let scope = addFrame()
    var assignments: [(target: Target, value: Expression)] = []
    while current != .blockEnd {
      if !assignments.isEmpty { try expect(.symbol(",")) }
      let target = try within(scope) { try parseTarget(declares: true) }
      try expect(.symbol("="))
      assignments.append((target, try parseExpression()))
    }
    let body = try within(scope) { try parseBlock(upTo: "endwith") }
    return .with(assignments, frame: scope.index, body: body, line: line)
  }

  private func parsePrint() throws -> Statement {
    advance()
    var pieces: [OutputPiece] = []
    while current != .blockEnd {
      if !pieces.isEmpty { try expect(.symbol(",")) }
      pieces.append(.expression(try parseExpression(), line: line))
    }
    return .output(pieces)
  }

  // MARK: Targets

  /// Parses what is assigned to: a name, a member of a namespace or a tuple of those.
  private func parseTarget(declares: Bool = false, allowsNamespace: Bool = false) throws -> Target {
    var targets: [Target] = []
    var isTuple = false
    while true {
      if isEndOfTarget { break }
      targets.append(try parseSingleTarget(declares: declares, allowsNamespace: allowsNamespace))
      guard skip(symbol: ",") else { break }
      isTuple = true
    }
    guard let first = targets.first else { throw failure("expected a name, found \(describe(current))") }
    return isTuple ? .tuple(targets) : first
  }

  private var isEndOfTarget: Bool {
    switch current {
    case .variableEnd, .blockEnd, .symbol(")"), .name("in"), .symbol("="): true
    default: false
    }
  }

  private func parseSingleTarget(declares: Bool, allowsNamespace: Bool) throws -> Target {
    if skip(symbol: "(") {
      let target = try nested { try parseTarget(declares: declares) }
      try expect(.symbol(")"))
      return target
    }
    guard case .name(let name) = current else { throw failure("cannot assign to \(describe(current))") }
    guard !["true", "false", "none", "True", "False", "None"].contains(name) else {
      throw failure("cannot assign to '\(name)'")
    }
    advance()
    if allowsNamespace, skip(symbol: ".") {
      let member = try expectName()
      return .namespaceMember(load(name), Text(member, .template))
    }
    return .name(declares ? declare(name) : try store(name))
  }
}
