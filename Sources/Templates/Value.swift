/// A value while a template runs. Lists, tuples and dictionaries never change: the sandbox that the language is
/// run in forbids it. Only namespaces, loops, cyclers, joiners and iterations have state.
enum Value {
  case undefined(Undefined)
  case none
  case bool(Bool)
  case int(Int)
  /// The decimal digits of an integer outside of 64 bits.
  case large(String)
  case float(Double)
  case text(Text)
  case list(Items)
  case tuple(Items)
  case dict(Dict)
  case range(IntegerRange)
  case view(DictView)
  case iteration(Iteration)
  case namespace(Namespace)
  case loop(LoopState)
  case cycler(Cycler)
  case function(Function)

  static func literal(_ string: String) -> Value { .text(Text(string, .template)) }

  /// How deep containers are nested in this value: 0 for scalars. It bounds every recursion over values.
  var depth: Int {
    switch self {
    case .list(let items), .tuple(let items): items.depth
    case .dict(let dict): dict.depth
    case .view(let view): view.dict.depth + 1
    case .iteration(let iteration): iteration.depth
    case .loop(let loop): loop.depth
    case .cycler(let cycler): cycler.items.depth + 1
    case .function(let function): function.depth
    default: 0
    }
  }

  /// The name of the type in Python, for messages.
  var typeName: String {
    switch self {
    case .undefined: "Undefined"
    case .none: "NoneType"
    case .bool: "bool"
    case .int, .large: "int"
    case .float: "float"
    case .text: "str"
    case .list: "list"
    case .tuple: "tuple"
    case .dict: "dict"
    case .range: "range"
    case .view(let view): "dict_" + view.kind.rawValue
    case .iteration: "generator"
    case .namespace: "Namespace"
    case .loop: "LoopContext"
    case .cycler: "Cycler"
    case .function(let function): if case .macro = function.kind { "Macro" } else { "function" }
    }
  }

  var isUndefined: Bool { if case .undefined = self { true } else { false } }
  var isNone: Bool { if case .none = self { true } else { false } }

  /// The integer of an integer or a boolean.
  var integer: Int? {
    switch self {
    case .int(let value): value
    case .bool(let value): value ? 1 : 0
    default: nil
    }
  }
}

/// The value of a name or member that does not exist: it prints as nothing, and most operations on it fail.
final class Undefined: Sendable {
  enum Reason: Sendable {
    case name(String)
    case member(String, of: String)
    case unsafeMember(String, of: String)
    case hint(String)
  }

  let reason: Reason

  init(_ reason: Reason) { self.reason = reason }

  var message: String {
    switch reason {
    case .name(let name): "'\(name)' is undefined"
    case .member(let name, let type): "'\(type) object' has no attribute '\(name)'"
    case .unsafeMember(let name, let type): "access to attribute '\(name)' of '\(type)' object is unsafe"
    case .hint(let hint): hint
    }
  }

  var error: TemplateError { .evaluation(message) }
}

/// The items of a list or tuple.
final class Items {
  let values: [Value]
  let depth: Int
  /// Whether this tuple is a group of `groupby`, whose two items have the names `grouper` and `list`.
  let isGroup: Bool

  init(_ values: [Value], isGroup: Bool = false) {
    self.values = values
    self.isGroup = isGroup
    var deepest = 0
    for value in values { deepest = max(deepest, value.depth) }
    depth = deepest + 1
  }
}

/// The items of a `range`.
final class IntegerRange {
  let start, stop, step, count: Int

  /// - Parameter step: Not 0.
  init(start: Int, stop: Int, step: Int) {
    self.start = start
    self.stop = stop
    self.step = step
    let (distance, overflow) = stop.subtractingReportingOverflow(start)
    if step > 0 ? start >= stop : start <= stop {
      count = 0
    } else if overflow || step == .min {
      count = .max
    } else {
      count = Int(((distance.magnitude - 1) / step.magnitude).addingReportingOverflow(1).partialValue)
    }
  }

  subscript(index: Int) -> Value { .int(start + index * step) }
}

/// A dictionary in the order of insertion.
final class Dict {
  let keys: [Value]
  let values: [Value]
  let depth: Int
  private let index: [HashKey: Int]?

  init(_ builder: DictBuilder) {
    keys = builder.keys
    values = builder.values
    index = builder.index
    var deepest = 0
    for key in keys { deepest = max(deepest, key.depth) }
    for value in values { deepest = max(deepest, value.depth) }
    depth = deepest + 1
  }

  var count: Int { keys.count }

  /// The value of a text key.
  func value(_ key: Text) -> Value? {
    if index != nil { return value(forKey: .text(key)) }
    for (position, candidate) in keys.enumerated() {
      if case .text(let text) = candidate, text.bytes == key.bytes { return values[position] }
    }
    return nil
  }

  /// The value of a key, which must be hashable.
  func value(forKey key: Value) -> Value? { position(of: key).map { values[$0] } }

  func position(of key: Value) -> Int? {
    let key = HashKey(value: key)
    if let index { return index[key] }
    return keys.firstIndex { HashKey(value: $0) == key }
  }
}

/// Puts a ``Dict`` together.
struct DictBuilder {
  fileprivate(set) var keys: [Value] = []
  fileprivate(set) var values: [Value] = []
  fileprivate(set) var index: [HashKey: Int]?

  init() {}

  init(_ dict: Dict) {
    for (position, key) in dict.keys.enumerated() { set(key, dict.values[position]) }
  }

  var count: Int { keys.count }

  /// Sets the value of a key, which must be hashable. A key that is there already keeps its place.
  mutating func set(_ key: Value, _ value: Value) {
    let hashKey = HashKey(value: key)
    let position = index.map { $0[hashKey] } ?? keys.firstIndex { HashKey(value: $0) == hashKey }
    if let position {
      values[position] = value
      return
    }
    keys.append(key)
    values.append(value)
    index?[hashKey] = keys.count - 1
    if index == nil, keys.count > 8 {
      index = Dictionary(
        uniqueKeysWithValues: keys.enumerated().map { (HashKey(value: $0.element), $0.offset) })
    }
  }
}

/// What `keys`, `values` and `items` of a dictionary return.
final class DictView {
  enum Kind: String { case keys, values, items }

  let kind: Kind
  let dict: Dict

  init(_ kind: Kind, _ dict: Dict) {
    self.kind = kind
    self.dict = dict
  }

  subscript(index: Int) -> Value {
    switch kind {
    case .keys: dict.keys[index]
    case .values: dict.values[index]
    case .items: .tuple(Items([dict.keys[index], dict.values[index]]))
    }
  }
}

/// Items that are made one after the other, once: what generators are in Python.
final class Iteration {
  let depth: Int
  private let step: () throws -> Value?
  private var isFinished = false

  /// - Parameter depth: The depth of the deepest value that `step` holds on to.
  init(depth: Int, _ step: @escaping () throws -> Value?) {
    self.depth = depth + 1
    self.step = step
  }

  func next() throws -> Value? {
    if isFinished { return nil }
    if let value = try step() { return value }
    isFinished = true
    return nil
  }
}

/// What `namespace()` makes: the only values with members that a template can set.
final class Namespace {
  var members = DictBuilder()

  func value(_ name: Text) -> Value? {
    members.keys.firstIndex { if case .text(let key) = $0 { key.bytes == name.bytes } else { false } }
      .map { members.values[$0] }
  }
}

/// What `cycler()` makes.
final class Cycler {
  let items: Items
  var position = 0

  init(_ items: Items) { self.items = items }
}

/// What `joiner()` makes.
final class Joiner {
  let separator: Value
  var isUsed = false

  init(_ separator: Value) { self.separator = separator }
}

/// A macro together with the variables around its definition.
final class MacroValue {
  let definition: MacroDefinition
  let surroundings: Activation

  init(_ definition: MacroDefinition, _ surroundings: Activation) {
    self.definition = definition
    self.surroundings = surroundings
  }
}

/// Whatever can be called.
final class Function {
  enum Kind {
    case macro(MacroValue)
    case global(GlobalFunction)
    case textMethod(Text, TextMethod)
    case dictMethod(Dict, DictMethod)
    case sequenceMethod(Value, SequenceMethod)
    case cyclerNext(Cycler)
    case cyclerReset(Cycler)
    case loopCycle(LoopState)
    case loopChanged(LoopState)
    case joiner(Joiner)
  }

  let kind: Kind
  let depth: Int

  init(_ kind: Kind) {
    self.kind = kind
    switch kind {
    case .dictMethod(let dict, _): depth = dict.depth + 1
    case .sequenceMethod(let value, _): depth = value.depth + 1
    case .cyclerNext(let cycler), .cyclerReset(let cycler): depth = cycler.items.depth + 2
    case .loopCycle(let loop), .loopChanged(let loop): depth = loop.depth + 1
    case .joiner(let joiner): depth = joiner.separator.depth + 1
    case .macro, .global, .textMethod: depth = 0
    }
  }
}

/// The variables of one run of the template's body, of a macro or of a loop's filter.
final class Activation {
  var slots: [Value?]
  let parent: Activation?

  init(slotCount: Int, parent: Activation?) {
    slots = Array(repeating: nil, count: slotCount)
    self.parent = parent
  }
}
