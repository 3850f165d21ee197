/// Which variable a name means.
///
/// Jinja2 decides this when it compiles: every scope (the template, a loop's body, a macro, a block that captures)
/// collects its names in the order of their appearance. A scope that assigns a name gets a variable of its own,
/// which begins each time as a copy of the outer variable, or of the caller's value if there is no outer one;
/// so assignments never leak out of a scope. This file follows `jinja2/idtracking.py` rule by rule, because
/// templates depend on the details.

/// One appearance of a name in a scope, or the branches of a condition.
enum NameEvent {
  case load(String)
  case store(String)
  case parameter(String)
  case branches([[NameEvent]])
}

/// A function of the compiled template: its body, a macro, a call block or the filter of a loop.
final class FunctionScope {
  let index: Int
  let depth: Int
  fileprivate var slots: [VariableKey: Int] = [:]

  init(index: Int, parent: FunctionScope?) {
    self.index = index
    depth = (parent?.depth ?? -1) + 1
  }

  /// Scopes at the same level of one function share the variable of a name, as in Jinja2.
  fileprivate func slot(of name: String, level: Int) -> Int {
    let key = VariableKey(level: level, name: name)
    if let slot = slots[key] { return slot }
    slots[key] = slots.count
    return slots.count - 1
  }

  var slotCount: Int { slots.count }
}

private struct VariableKey: Hashable {
  let level: Int
  let name: String
}

/// A scope while the template is parsed.
final class FrameScope {
  let index: Int
  let level: Int
  let parent: FrameScope?
  let function: FunctionScope
  var events: [NameEvent] = []
  fileprivate var symbols = Symbols()

  init(index: Int, parent: FrameScope?, function: FunctionScope) {
    self.index = index
    self.parent = parent
    self.function = function
    level = (parent?.level ?? -1) + 1
  }

  fileprivate func outerVariable(_ name: String) -> Variable? {
    var frame = parent
    while let current = frame {
      if let variable = current.symbols.variables[name] { return variable }
      frame = current.parent
    }
    return nil
  }

  fileprivate func variable(_ name: String) -> Variable? { symbols.variables[name] ?? outerVariable(name) }

  fileprivate func own(_ name: String) -> Variable {
    Variable(function: function, slot: function.slot(of: name, level: level))
  }

  func reference(to name: String) -> Reference? {
    variable(name).map { reference(to: $0, name) }
  }

  fileprivate func reference(to variable: Variable, _ name: String) -> Reference {
    Reference(
      hops: function.depth - variable.function.depth, slot: variable.slot, undefined: Undefined(.name(name)))
  }
}

private struct Variable {
  let function: FunctionScope
  let slot: Int
}

private struct Symbols {
  enum Load {
    case parameter
    case external(String)
    case copy(Variable, String)
    case nothing
  }

  var variables: [String: Variable] = [:]
  var loads: [Int: Load] = [:]
  var stores: Set<String> = []
}

/// Resolves the names of all scopes, once the whole template is parsed.
struct ScopeResolver {
  private(set) var externalNames: [String] = []
  private var externalIndex: [String: Int] = [:]
  /// Variables copied for branches. Hostile templates would copy thousands of them in each of thousands of branches.
  private var work = 0
  private static let workLimit = 1_000_000

  /// The layout of every scope. Outer scopes come before inner ones in `frames`.
  mutating func layouts(of frames: [FrameScope]) throws -> [FrameLayout] {
    try frames.map { frame in
      try analyze(frame.events, &frame.symbols, frame)
      return layout(of: frame)
    }
  }

  private mutating func analyze(_ events: [NameEvent], _ symbols: inout Symbols, _ frame: FrameScope) throws {
    for event in events {
      switch event {
      case .load(let name):
        if symbols.variables[name] == nil, frame.outerVariable(name) == nil {
          define(name, .external(name), &symbols, frame)
        }
      case .store(let name): store(name, &symbols, frame)
      case .parameter(let name):
        symbols.stores.insert(name)
        define(name, .parameter, &symbols, frame)
      case .branches(let branches): try merge(branches, &symbols, frame)
      }
    }
  }

  private func define(_ name: String, _ load: Symbols.Load, _ symbols: inout Symbols, _ frame: FrameScope) {
    let variable = frame.own(name)
    symbols.variables[name] = variable
    symbols.loads[variable.slot] = load
  }

  private func store(_ name: String, _ symbols: inout Symbols, _ frame: FrameScope) {
    symbols.stores.insert(name)
    if symbols.variables[name] != nil { return }
    if let outer = frame.outerVariable(name) {
      define(name, .copy(outer, name), &symbols, frame)
    } else {
      define(name, .nothing, &symbols, frame)
    }
  }

  /// A name that only some branches assign may keep the value it had before.
  private mutating func merge(
    _ branches: [[NameEvent]], _ symbols: inout Symbols, _ frame: FrameScope
  ) throws {
    var stores: Set<String> = []
    let before = symbols
    var branchSymbols: [Symbols] = []
    for branch in branches where !branch.isEmpty {
      work += before.variables.count + 1
      guard work <= Self.workLimit else { throw TemplateError.tooManySteps(limit: Self.workLimit, line: 0) }
      var copy = before
      try analyze(branch, &copy, frame)
      stores.formUnion(copy.stores)
      branchSymbols.append(copy)
    }
    stores.subtract(before.stores)
    for branch in branchSymbols {
      symbols.variables.merge(branch.variables) { $1 }
      symbols.loads.merge(branch.loads) { $1 }
      symbols.stores.formUnion(branch.stores)
    }
    for name in stores {
      guard let variable = symbols.variables[name] else { continue }
      if let outer = frame.outerVariable(name) {
        symbols.loads[variable.slot] = .copy(outer, name)
      } else {
        symbols.loads[variable.slot] = .external(name)
      }
    }
  }

  private mutating func layout(of frame: FrameScope) -> FrameLayout {
    var layout = FrameLayout(loads: [])
    for (slot, load) in frame.symbols.loads.sorted(by: { $0.key < $1.key }) {
      switch load {
      case .parameter: break
      case .external(let name): layout.loads.append((slot, .external(external(name))))
      case .copy(let variable, let name):
        layout.loads.append((slot, .copy(frame.reference(to: variable, name))))
      case .nothing: layout.loads.append((slot, .nothing))
      }
    }
    return layout
  }

  private mutating func external(_ name: String) -> Int {
    if let index = externalIndex[name] { return index }
    externalIndex[name] = externalNames.count
    externalNames.append(name)
    return externalNames.count - 1
  }
}
