/// Going through values, one item after the other.
extension Interpreter {
  /// The items of a value: the characters of a string, the keys of a dictionary.
  func iterate(_ value: Value) throws -> Iteration {
    switch value {
    case .list(let items), .tuple(let items):
      return counted(items.values.count, depth: value.depth) { items.values[$0] }
    case .dict(let dict): return counted(dict.count, depth: value.depth) { dict.keys[$0] }
    case .view(let view): return counted(view.dict.count, depth: value.depth) { view[$0] }
    case .range(let range): return counted(range.count, depth: 0) { range[$0] }
    case .text(let text): return characters(of: text)
    case .iteration(let iteration): return iteration
    case .undefined: return Iteration(depth: 0) { nil }
    default: throw TemplateError.evaluation("'\(value.typeName)' object is not iterable")
    }
  }

  /// Items that are there already. The iteration is as deep as what it goes through, not deeper.
  private func counted(_ count: Int, depth: Int, _ item: @escaping (Int) -> Value) -> Iteration {
    var index = 0
    return Iteration(depth: depth - 1) {
      if index == count { return nil }
      index += 1
      return item(index - 1)
    }
  }

  private func characters(of text: Text) -> Iteration {
    var offset = 0
    var text = text
    text.isMarkup = false
    let plain = text
    return Iteration(depth: 0) {
      if offset == plain.byteCount { return nil }
      let start = offset
      offset += decodeScalar(plain.bytes, at: start).length
      return .text(plain.piece(start..<offset))
    }
  }

  /// The items in the opposite order, or `nil` if a value has no order to turn around.
  func reversed(_ value: Value) throws -> Iteration? {
    func backwards(_ count: Int, _ item: @escaping (Int) -> Value) -> Iteration {
      counted(count, depth: value.depth + 1) { item(count - 1 - $0) }
    }
    switch value {
    case .list(let items), .tuple(let items): return backwards(items.values.count) { items.values[$0] }
    case .dict(let dict): return backwards(dict.count) { dict.keys[$0] }
    case .view(let view): return backwards(view.dict.count) { view[$0] }
    case .range(let range): return backwards(range.count) { range[$0] }
    case .text(let text):
      var end = text.byteCount
      return Iteration(depth: 0) {
        if end == 0 { return nil }
        let last = end
        end = text.bytes.scalarStart(before: end)
        return .text(text.piece(end..<last))
      }
    case .undefined: return Iteration(depth: 0) { nil }
    default: return nil
    }
  }

  /// All items of a value.
  func values(of value: Value) throws -> [Value] {
    switch value {
    case .list(let items), .tuple(let items): return items.values
    case .dict(let dict): return dict.keys
    default: break
    }
    let items = try iterate(value)
    var values: [Value] = []
    while let item = try next(of: items) {
      values.append(item)
      if values.count > limits.listItems {
        throw TemplateError.listTooLong(limit: limits.listItems, line: 0)
      }
    }
    return values
  }

  /// The next item, counted as a step, one level deeper than the caller.
  func next(of items: Iteration) throws -> Value? {
    try step()
    return try nested { try items.next() }
  }

  /// `len(value)`, or `nil` if the value has no length.
  func count(of value: Value) -> Int? {
    switch value {
    case .list(let items), .tuple(let items): items.values.count
    case .dict(let dict): dict.count
    case .view(let view): view.dict.count
    case .range(let range): range.count
    case .undefined: 0
    default: nil
    }
  }

  func length(of value: Value) throws -> Int {
    if case .text(let text) = value { return try length(of: text) }
    if case .loop(let loop) = value { return try count(of: loop) }
    guard let count = count(of: value) else {
      throw TemplateError.evaluation("object of type '\(value.typeName)' has no length")
    }
    return count
  }

  func length(of text: Text) throws -> Int {
    try look(at: text.byteCount)
    return text.bytes.scalarCount(0..<text.byteCount)
  }
}
