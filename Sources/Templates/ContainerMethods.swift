/// The methods of dictionaries.
enum DictMethod: String, CaseIterable, Sendable {
  case clear, copy, fromkeys, get, items, keys, pop, popitem, setdefault, update, values

  static let named = Dictionary(uniqueKeysWithValues: allCases.map { ($0.rawValue, $0) })

  /// Whether the sandbox forbids the method.
  var changesValue: Bool {
    switch self {
    case .clear, .pop, .popitem, .setdefault, .update: true
    case .copy, .fromkeys, .get, .items, .keys, .values: false
    }
  }
}

/// The methods of lists, tuples and ranges.
enum SequenceMethod: String, CaseIterable, Sendable {
  case append, clear, copy, count, extend, index, insert, pop, remove, reverse, sort

  static let named = Dictionary(uniqueKeysWithValues: allCases.map { ($0.rawValue, $0) })

  /// Whether only lists have the method; the sandbox forbids all of those but `copy`.
  var changesValue: Bool { self != .count && self != .index }
}

extension Interpreter {
  func call(_ method: DictMethod, of dict: Dict, _ arguments: Arguments) throws -> Value {
    switch method {
    case .get:
      let options = try arguments.positional(1...2, of: "get")
      try requireHashable(options[0])
      try look(at: dict.count)
      return dict.value(forKey: options[0]) ?? (options.count > 1 ? options[1] : .none)
    case .items, .keys, .values:
      _ = try arguments.positional(0...0, of: method.rawValue)
      let view = DictView(method == .items ? .items : method == .keys ? .keys : .values, dict)
      try check(depth: dict.depth + 1)
      return .view(view)
    case .copy:
      _ = try arguments.positional(0...0, of: "copy")
      return .dict(dict)
    case .fromkeys:
      let options = try arguments.positional(1...2, of: "fromkeys")
      var builder = DictBuilder()
      for key in try values(of: options[0]) {
        try requireHashable(key)
        builder.set(key, options.count > 1 ? options[1] : .none)
      }
      return try self.dict(builder)
    case .clear, .pop, .popitem, .setdefault, .update:
      throw TemplateError.evaluation("'\(method.rawValue)' would change a value, which templates may not")
    }
  }

  func call(_ method: SequenceMethod, of value: Value, _ arguments: Arguments) throws -> Value {
    switch method {
    case .count:
      let wanted = try arguments.positional(1...1, of: "count")[0]
      var count = 0
      for item in try values(of: value) where try isEqual(item, wanted) { count += 1 }
      return .int(count)
    case .index:
      let options = try arguments.positional(1...3, of: "index")
      let items = try values(of: value)
      let bounds = try SliceBounds(
        start: try options.count > 1 ? integer(options[1], "start") : nil,
        stop: try options.count > 2 ? integer(options[2], "stop") : nil, step: nil, count: items.count)
      for position in bounds.start..<max(bounds.start, bounds.stop)
      where try isEqual(items[position], options[0]) {
        return .int(position)
      }
      throw TemplateError.evaluation("index() does not find the value")
    case .copy:
      _ = try arguments.positional(0...0, of: "copy")
      return value
    case .append, .clear, .extend, .insert, .pop, .remove, .reverse, .sort:
      throw TemplateError.evaluation("'\(method.rawValue)' would change a value, which templates may not")
    }
  }
}
