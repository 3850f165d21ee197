/// The parsed template. Every part is immutable, and its depth is bounded when it is made.

final class Expression: Sendable {
  indirect enum Kind: Sendable {
    case none
    case bool(Bool)
    case int(Int)
    case large(String)
    case float(Double)
    case text(Text)
    /// A variable: an index into ``Program/references``.
    case name(Int)
    case list([Expression])
    case tuple([Expression])
    case dict([(key: Expression, value: Expression)])
    case attribute(Expression, Member)
    case item(Expression, Expression)
    case slice(Expression, start: Expression?, stop: Expression?, step: Expression?)
    case call(Expression, CallArguments, line: Int)
    case filter(Expression, FilterUse)
    case test(Expression, TestUse)
    case negate(Expression)
    case plus(Expression)
    case not(Expression)
    /// Operators of one precedence, applied from left to right.
    case arithmetic(Expression, [(operation: ArithmeticOperator, operand: Expression)])
    case concatenation([Expression])
    case comparison(Expression, [(operation: ComparisonOperator, operand: Expression)])
    case and([Expression])
    case or([Expression])
    case conditional(test: Expression, then: Expression, otherwise: Expression?)
    /// What the body of a filter block or of a block assignment printed.
    case captured
  }

  let kind: Kind
  let depth: Int

  init(_ kind: Kind) {
    self.kind = kind
    depth = kind.children.reduce(0) { max($0, $1.depth) } + 1
  }
}

extension Expression.Kind {
  var children: [Expression] {
    switch self {
    case .none, .bool, .int, .large, .float, .text, .name, .captured: []
    case .list(let items), .tuple(let items), .concatenation(let items), .and(let items), .or(let items):
      items
    case .dict(let pairs): pairs.flatMap { [$0.key, $0.value] }
    case .attribute(let base, _), .negate(let base), .plus(let base), .not(let base): [base]
    case .item(let base, let key): [base, key]
    case .slice(let base, let start, let stop, let step): [base] + [start, stop, step].compactMap { $0 }
    case .call(let base, let arguments, _): [base] + arguments.expressions
    case .filter(let base, let use): [base] + use.arguments.expressions
    case .test(let base, let use): [base] + use.arguments.expressions
    case .arithmetic(let base, let operations): [base] + operations.map(\.operand)
    case .comparison(let base, let operations): [base] + operations.map(\.operand)
    case .conditional(let test, let then, let otherwise): [test, then] + (otherwise.map { [$0] } ?? [])
    }
  }
}

enum ArithmeticOperator: String, Sendable {
  case add = "+"
  case subtract = "-"
  case multiply = "*"
  case divide = "/"
  case floorDivide = "//"
  case modulo = "%"
  case power = "**"
}

enum ComparisonOperator: String, Sendable {
  case equal = "=="
  case notEqual = "!="
  case less = "<"
  case lessOrEqual = "<="
  case greater = ">"
  case greaterOrEqual = ">="
  case isIn = "in"
  case isNotIn = "not in"
}

/// The name after a dot, with what it may mean for each kind of value.
struct Member: Sendable {
  let name: String
  let text: Text
  let textMethod: TextMethod?
  let dictMethod: DictMethod?
  let sequenceMethod: SequenceMethod?
  /// Whether every object of Python has an attribute of this name, which the sandbox hides.
  let isInternal: Bool

  init(_ name: String) {
    self.init(Text(name, .template))
  }

  init(_ text: Text) {
    self.text = text
    name = text.string
    textMethod = TextMethod.named[name]
    dictMethod = DictMethod.named[name]
    sequenceMethod = SequenceMethod.named[name]
    isInternal = Member.internalNames.contains(name)
  }

  private static let internalNames: Set<String> = [
    "__class__", "__delattr__", "__dir__", "__doc__", "__eq__", "__format__", "__ge__", "__getattribute__",
    "__getstate__", "__gt__", "__hash__", "__init__", "__init_subclass__", "__le__", "__lt__", "__ne__",
    "__new__",
    "__reduce__", "__reduce_ex__", "__repr__", "__setattr__", "__sizeof__", "__str__", "__subclasshook__",
    "__len__", "__iter__", "__getitem__", "__contains__",
  ]
}

struct CallArguments: Sendable {
  var positional: [Expression] = []
  var named: [(name: String, value: Expression)] = []
  /// The operand of `*`.
  var unpackedList: Expression?
  /// The operand of `**`.
  var unpackedDict: Expression?

  static let none = CallArguments()

  var expressions: [Expression] {
    positional + named.map(\.value) + [unpackedList, unpackedDict].compactMap { $0 }
  }
}

struct FilterUse: Sendable {
  let name: String
  /// Absent for a filter that this interpreter does not have, in a branch that may never be taken.
  let filter: FilterName?
  let arguments: CallArguments
  let line: Int
}

struct TestUse: Sendable {
  let name: String
  let test: TestName?
  let arguments: CallArguments
  let isNegated: Bool
  let line: Int
}

indirect enum Target: Sendable {
  case name(Int)
  case tuple([Target])
  case namespaceMember(Int, Text)
}

indirect enum Statement: Sendable {
  case output([OutputPiece])
  case condition([(test: Expression, body: [Statement], line: Int)], otherwise: [Statement])
  case loop(ForLoop)
  case assignment(Target, Expression, line: Int)
  case blockAssignment(Target, value: Expression, frame: Int, body: [Statement], line: Int)
  case macro(MacroDefinition, target: Int)
  case callBlock(MacroDefinition, function: Expression, arguments: CallArguments, line: Int)
  case filterBlock(value: Expression, frame: Int, body: [Statement], line: Int)
  case with([(target: Target, value: Expression)], frame: Int, body: [Statement], line: Int)
  case generation([Statement])
  case breakLoop
  case continueLoop
}

enum OutputPiece: Sendable {
  case text(Text)
  case expression(Expression, line: Int)
}

final class ForLoop: Sendable {
  struct Filter: Sendable {
    let target: Target
    let test: Expression
    /// The function of its own that the test runs in, and the frame of its variables.
    let function: Int
    let frame: Int
  }

  let target: Target
  let iterable: Expression
  let filter: Filter?
  /// The variable `loop`, if the body mentions it.
  let loopVariable: Int?
  let frame: Int
  let body: [Statement]
  let elseFrame: Int
  let otherwise: [Statement]
  let line: Int

  init(
    target: Target, iterable: Expression, filter: Filter?, loopVariable: Int?, frame: Int, body: [Statement],
    elseFrame: Int, otherwise: [Statement], line: Int
  ) {
    self.target = target
    self.iterable = iterable
    self.filter = filter
    self.loopVariable = loopVariable
    self.frame = frame
    self.body = body
    self.elseFrame = elseFrame
    self.otherwise = otherwise
    self.line = line
  }
}

/// A macro, or the body of a call block.
final class MacroDefinition: Sendable {
  struct Parameter: Sendable {
    let name: String
    let variable: Int
    let fallback: Expression?
  }

  /// Absent for the body of a call block.
  let name: String?
  let parameters: [Parameter]
  /// The variables `caller`, `kwargs` and `varargs`, each if the body mentions it.
  let caller: Int?
  let named: Int?
  let further: Int?
  let function: Int
  let frame: Int
  let body: [Statement]

  init(
    name: String?, parameters: [Parameter], caller: Int?, named: Int?, further: Int?, function: Int,
    frame: Int,
    body: [Statement]
  ) {
    self.name = name
    self.parameters = parameters
    self.caller = caller
    self.named = named
    self.further = further
    self.function = function
    self.frame = frame
    self.body = body
  }
}

/// A template ready to run.
struct Program: Sendable {
  let body: [Statement]
  let references: [Reference]
  let frames: [FrameLayout]
  /// The number of variables of each function; the first one is the template's body.
  let slotCounts: [Int]
  /// The names that are looked up among the caller's values.
  let externalNames: [String]
}

/// Where a variable lives: so many functions outwards, in such a slot.
struct Reference: Sendable {
  let hops: Int
  let slot: Int
  let undefined: Undefined
}

/// What happens to the variables of a scope when it is entered. When it is left, all of them are forgotten.
struct FrameLayout: Sendable {
  enum Load: Sendable {
    /// Takes a value of the caller, by its index in ``Program/externalNames``.
    case external(Int)
    case copy(Reference)
    case nothing
  }

  var loads: [(slot: Int, load: Load)]
}
