/// Filters that go through items.
extension Interpreter {
  @inline(never)
  func applySequenceFilter(_ filter: FilterName, to value: Value, _ arguments: Arguments) throws -> Value {
    switch filter {
    case .first:
      _ = try arguments.bound(to: [], of: "first")
      return try next(of: try iterate(value)) ?? .undefined(Undefined(.hint("there is no first item")))
    case .last:
      _ = try arguments.bound(to: [], of: "last")
      guard let items = try reversed(value) else {
        throw TemplateError.evaluation("last cannot take '\(value.typeName)'")
      }
      return try next(of: items) ?? .undefined(Undefined(.hint("there is no last item")))
    case .list:
      _ = try arguments.bound(to: [], of: "list")
      return try list(try values(of: value))
    case .reverse:
      _ = try arguments.bound(to: [], of: "reverse")
      return try reverse(value)
    case .join: return .text(try joined(value, arguments))
    case .items: return try pairs(of: value, arguments)
    case .dictsort: return try sortedPairs(of: value, arguments)
    case .sort: return try sorted(value, arguments)
    case .unique: return try unique(value, arguments)
    case .min, .max: return try extreme(value, arguments, isMaximum: filter == .max)
    case .sum: return try sum(value, arguments)
    case .map: return try mapped(value, arguments)
    case .select, .reject, .selectattr, .rejectattr: return try selected(value, arguments, filter)
    case .batch: return try batches(value, arguments)
    case .slice: return try slices(value, arguments)
    default: return try groups(value, arguments)
    }
  }

  private func reverse(_ value: Value) throws -> Value {
    if case .text(let text) = value {
      return .text(try slice(value, start: nil, stop: nil, step: .int(-1)).text ?? text)
    }
    if let items = try reversed(value) { return .iteration(items) }
    return try list(try values(of: value).reversed())
  }

  private func joined(_ value: Value, _ arguments: Arguments) throws -> Text {
    let options = try arguments.bound(to: ["d", "attribute"], of: "join")
    let separator = try string(of: options[0] ?? .literal(""))
    let path = try attributePath(options[1])
    let items = try iterate(value)
    var builder = TextBuilder()
    var isFirst = true
    while let item = try next(of: items) {
      if !isFirst { builder.append(separator) }
      isFirst = false
      builder.append(try string(of: try follow(path, from: item)))
      try check(builder)
    }
    return try finish(builder)
  }

  private func pairs(of value: Value, _ arguments: Arguments) throws -> Value {
    _ = try arguments.bound(to: [], of: "items")
    return .iteration(
      try lazily(over: value) { value in
        switch value {
        case .undefined: return Iteration(depth: 0) { nil }
        case .dict(let dict): return try self.iterate(.view(DictView(.items, dict)))
        default: throw TemplateError.evaluation("items needs a mapping, not '\(value.typeName)'")
        }
      })
  }

  /// An iteration that is set up when its first item is asked for, as Python's generators are.
  private func lazily(
    over value: Value, depth: Int = 0, _ make: @escaping (Value) throws -> Iteration
  ) throws -> Iteration {
    var items: Iteration?
    return try iteration(depth: max(value.depth, depth)) { [unowned self] in
      if items == nil { items = try make(value) }
      return try next(of: items!)
    }
  }

  // MARK: Attributes of items

  enum PathPart {
    case index(Int)
    case name(Text)
  }

  /// The parts of `a.b.0`, or of an integer.
  func attributePath(_ value: Value?) throws -> [PathPart] {
    switch value {
    case nil, .some(.none): return []
    case .some(.text(let text)):
      return text.bytes.split(separator: Byte.dot, omittingEmptySubsequences: false).map { part in
        let name = text.piece(part.startIndex..<part.endIndex)
        if !part.isEmpty, part.allSatisfy(isDigit), let index = Int(name.string) { return .index(index) }
        return .name(name)
      }
    case .some(let value): return [.index(try integer(value, "attribute"))]
    }
  }

  func follow(_ path: [PathPart], from value: Value, fallback: Value? = nil) throws -> Value {
    var value = value
    for part in path {
      switch part {
      case .index(let index): value = try item(.int(index), of: value)
      case .name(let name): value = try item(.text(name), of: value)
      }
      if let fallback, value.isUndefined { value = fallback }
    }
    return value
  }

  /// What an item is ordered and compared by: an attribute, in lower case unless case matters.
  private func key(_ path: [PathPart], of item: Value, isCaseSensitive: Bool, fallback: Value? = nil) throws
    -> Value
  {
    let value = try follow(path, from: item, fallback: fallback)
    if !isCaseSensitive, case .text(let text) = value { return .text(try lowercased(text)) }
    return value
  }

  // MARK: Sorting

  /// A stable sort whose comparison may fail.
  func sorted<Element>(_ elements: [Element], _ isLess: (Element, Element) throws -> Bool) throws -> [Element]
  {
    try make(itemCount: elements.count)
    var source = elements
    var target = elements
    var width = 1
    while width < source.count {
      var start = 0
      while start < source.count {
        let middle = min(start + width, source.count)
        let end = min(start + 2 * width, source.count)
        var left = start
        var right = middle
        for index in start..<end {
          let takesRight = try left == middle || right < end && isLess(source[right], source[left])
          target[index] = takesRight ? source[right] : source[left]
          if takesRight { right += 1 } else { left += 1 }
        }
        start = end
      }
      swap(&source, &target)
      width *= 2
    }
    return source
  }

  /// Positions in the order of their keys.
  private func order(_ keys: [Value], isReversed: Bool) throws -> [Int] {
    try sorted(Array(keys.indices)) { left, right in
      try isReversed ? isLess(keys[right], keys[left]) : isLess(keys[left], keys[right])
    }
  }

  /// Positions in the order of several keys, of which the first ones that differ decide.
  private func order(_ keys: [[Value]], isReversed: Bool) throws -> [Int] {
    try sorted(Array(keys.indices)) { left, right in
      let (lower, higher) = isReversed ? (right, left) : (left, right)
      for (first, second) in zip(keys[lower], keys[higher]) where try !isEqual(first, second) {
        return try isLess(first, second)
      }
      return false
    }
  }

  private func sorted(_ value: Value, _ arguments: Arguments) throws -> Value {
    let options = try arguments.bound(to: ["reverse", "case_sensitive", "attribute"], of: "sort")
    let isReversed = try options[0].map { try isTrue($0) } ?? false
    let isCaseSensitive = try options[1].map { try isTrue($0) } ?? false
    var paths: [[PathPart]] = []
    if case .text(let names)? = options[2] {
      for name in names.bytes.split(separator: UInt8(ascii: ","), omittingEmptySubsequences: false) {
        paths.append(try attributePath(.text(names.piece(name.startIndex..<name.endIndex))))
      }
    } else {
      paths = [try attributePath(options[2])]
    }
    let items = try values(of: value)
    let keys = try items.map { item in
      try make(itemCount: paths.count)
      return try paths.map { try key($0, of: item, isCaseSensitive: isCaseSensitive) }
    }
    return try list(try order(keys, isReversed: isReversed).map { items[$0] })
  }

  private func sortedPairs(of value: Value, _ arguments: Arguments) throws -> Value {
    let options = try arguments.bound(to: ["case_sensitive", "by", "reverse"], of: "dictsort")
    if case .undefined(let undefined) = value { throw undefined.error }
    guard case .dict(let dict) = value else {
      throw TemplateError.evaluation("dictsort needs a mapping, not '\(value.typeName)'")
    }
    let isCaseSensitive = try options[0].map { try isTrue($0) } ?? false
    let by = try options[1].map { try string(of: $0).string } ?? "key"
    guard by == "key" || by == "value" else {
      throw TemplateError.evaluation("dictsort sorts by 'key' or 'value'")
    }
    let keys = try (by == "key" ? dict.keys : dict.values).map { item in
      try key([], of: item, isCaseSensitive: isCaseSensitive)
    }
    let isReversed = try options[2].map { try isTrue($0) } ?? false
    return try list(
      try order(keys, isReversed: isReversed).map { try tuple([dict.keys[$0], dict.values[$0]]) })
  }

  private func groups(_ value: Value, _ arguments: Arguments) throws -> Value {
    let options = try arguments.bound(
      to: ["attribute", "default", "case_sensitive"], required: 1, of: "groupby")
    let path = try attributePath(options[0])
    let fallback = options[1]?.isNone ?? true ? nil : options[1]
    let isCaseSensitive = try options[2].map { try isTrue($0) } ?? false
    let items = try values(of: value)
    let keys = try items.map { try key(path, of: $0, isCaseSensitive: isCaseSensitive, fallback: fallback) }
    var groups: [Value] = []
    var members: [Value] = []
    var current: Value?
    func close() throws {
      guard let first = members.first else { return }
      let name = try follow(path, from: first, fallback: fallback)
      groups.append(.tuple(try self.items([name, try list(members)], isGroup: true)))
      members = []
    }
    for position in try order(keys, isReversed: false) {
      if let key = current, try !isEqual(key, keys[position]) { try close() }
      current = keys[position]
      members.append(items[position])
    }
    try close()
    return try list(groups)
  }

  private func unique(_ value: Value, _ arguments: Arguments) throws -> Value {
    let options = try arguments.bound(to: ["case_sensitive", "attribute"], of: "unique")
    let isCaseSensitive = try options[0].map { try isTrue($0) } ?? false
    let path = try attributePath(options[1])
    var seen: Set<HashKey> = []
    var items: Iteration?
    return .iteration(
      try iteration(depth: value.depth) { [unowned self] in
        if items == nil { items = try iterate(value) }
        while let item = try next(of: items!) {
          let key = try self.key(path, of: item, isCaseSensitive: isCaseSensitive)
          try requireHashable(key)
          try make(itemCount: 2)
          if seen.insert(HashKey(value: key)).inserted { return item }
        }
        return nil
      })
  }

  private func extreme(_ value: Value, _ arguments: Arguments, isMaximum: Bool) throws -> Value {
    let options = try arguments.bound(to: ["case_sensitive", "attribute"], of: isMaximum ? "max" : "min")
    let isCaseSensitive = try options[0].map { try isTrue($0) } ?? false
    let path = try attributePath(options[1])
    let items = try iterate(value)
    var best: (item: Value, key: Value)?
    while let item = try next(of: items) {
      let key = try self.key(path, of: item, isCaseSensitive: isCaseSensitive)
      if let known = best {
        if try isMaximum ? isLess(known.key, key) : isLess(key, known.key) { best = (item, key) }
      } else {
        best = (item, key)
      }
    }
    return best?.item ?? .undefined(Undefined(.hint("there is no item to choose")))
  }

  private func sum(_ value: Value, _ arguments: Arguments) throws -> Value {
    let options = try arguments.bound(to: ["attribute", "start"], of: "sum")
    let path = try attributePath(options[0])
    var sum = options[1] ?? .int(0)
    if case .text = sum { throw TemplateError.evaluation("sum cannot add strings; use join") }
    let items = try iterate(value)
    while let item = try next(of: items) { sum = try compute(.add, sum, try follow(path, from: item)) }
    return sum
  }

  // MARK: Mapping and selecting

  private func mapped(_ value: Value, _ arguments: Arguments) throws -> Value {
    let depth = arguments.depth
    return .iteration(
      try lazily(over: value, depth: depth) { [unowned self] value in
        if try !isTrue(value) { return Iteration(depth: 0) { nil } }
        let transform = try self.transform(arguments)
        let items = try iterate(value)
        return Iteration(depth: max(items.depth, depth)) { [unowned self] in
          try next(of: items).map(transform)
        }
      })
  }

  private func transform(_ arguments: Arguments) throws -> (Value) throws -> Value {
    if arguments.positional.isEmpty, arguments.named.contains(where: { $0.name == "attribute" }) {
      let options = try arguments.bound(to: ["attribute", "default"], of: "map")
      let path = try attributePath(options[0])
      let fallback = options[1]?.isNone ?? true ? nil : options[1]
      return { [unowned self] in try follow(path, from: $0, fallback: fallback) }
    }
    var rest = arguments
    guard !rest.positional.isEmpty, case .text(let name) = rest.positional.removeFirst() else {
      throw TemplateError.evaluation("map needs the name of a filter, or an attribute")
    }
    guard let filter = FilterName.named[name.string] else {
      throw TemplateError.unsupported("the filter '\(name.string)'")
    }
    return { [unowned self] value in try nested { try apply(filter, to: value, rest) } }
  }

  private func selected(_ value: Value, _ arguments: Arguments, _ filter: FilterName) throws -> Value {
    let isSelecting = filter == .select || filter == .selectattr
    let looksAtAttribute = filter == .selectattr || filter == .rejectattr
    let depth = arguments.depth
    return .iteration(
      try lazily(over: value, depth: depth) { [unowned self] value in
        if try !isTrue(value) { return Iteration(depth: 0) { nil } }
        let test = try predicate(arguments, looksAtAttribute: looksAtAttribute)
        let items = try iterate(value)
        return Iteration(depth: max(items.depth, depth)) { [unowned self] in
          while let item = try next(of: items) {
            if try test(item) == isSelecting { return item }
          }
          return nil
        }
      })
  }

  private func predicate(
    _ arguments: Arguments, looksAtAttribute: Bool
  ) throws -> (Value) throws -> Bool {
    var rest = arguments
    var path: [PathPart] = []
    if looksAtAttribute {
      guard !rest.positional.isEmpty else {
        throw TemplateError.evaluation("the name of an attribute is missing")
      }
      path = try attributePath(rest.positional.removeFirst())
    }
    guard !rest.positional.isEmpty else {
      return { [unowned self] in try isTrue(try follow(path, from: $0)) }
    }
    guard case .text(let name) = rest.positional.removeFirst() else {
      throw TemplateError.evaluation("the name of a test must be a string")
    }
    guard let test = TestName.named[name.string] else {
      throw TemplateError.unsupported("the test '\(name.string)'")
    }
    return { [unowned self] in try self.test(test, try follow(path, from: $0), rest) }
  }

  // MARK: Cutting

  private func batches(_ value: Value, _ arguments: Arguments) throws -> Value {
    let options = try arguments.bound(to: ["linecount", "fill_with"], required: 1, of: "batch")
    let filler = options[1]?.isNone ?? true ? nil : options[1]
    var items: Iteration?
    var waiting: Value?
    return .iteration(
      try iteration(depth: max(value.depth, filler?.depth ?? 0) + 1) { [unowned self] in
        let isFirst = items == nil
        if isFirst { items = try iterate(value) }
        guard let first = try waiting ?? next(of: items!) else { return nil }
        waiting = nil
        let count = options[0]!.integer ?? .max
        if isFirst, count == 0 {
          waiting = first
          return try list([])
        }
        var batch = [first]
        while let item = try next(of: items!) {
          if batch.count == count {
            waiting = item
            return try list(batch)
          }
          batch.append(item)
        }
        if let filler, batch.count < count {
          try make(itemCount: try integer(options[0]!, "linecount"))
          batch += Array(repeating: filler, count: count - batch.count)
        }
        return try list(batch)
      })
  }

  private func slices(_ value: Value, _ arguments: Arguments) throws -> Value {
    let options = try arguments.bound(to: ["slices", "fill_with"], required: 1, of: "slice")
    let filler = options[1]?.isNone ?? true ? nil : options[1]
    var all: [Value]?
    var index = 0
    var start = 0
    return .iteration(
      try iteration(depth: max(value.depth, filler?.depth ?? 0) + 1) { [unowned self] in
        if all == nil { all = try values(of: value) }
        let count = try integer(options[0]!, "slices")
        if count == 0 { throw TemplateError.evaluation("division by zero") }
        guard index < count, let items = all else { return nil }
        let isLonger = index < items.count % count
        let end = start + items.count / count + (isLonger ? 1 : 0)
        var slice = Array(items[start..<end])
        if let filler, !isLonger { slice.append(filler) }
        start = end
        index += 1
        return try list(slice)
      })
  }
}

extension Arguments {
  /// The depth of the deepest argument.
  var depth: Int {
    max(positional.reduce(0) { max($0, $1.depth) }, named.reduce(0) { max($0, $1.value.depth) })
  }
}

extension Value {
  var text: Text? { if case .text(let text) = self { text } else { nil } }
}
