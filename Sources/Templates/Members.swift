/// Members, items and slices of values.
extension Interpreter {
  /// `value.name`: an attribute of the object if it has one, an item otherwise.
  func member(_ member: Member, of value: Value) throws -> Value {
    if let attribute = try attribute(member, of: value) { return attribute }
    if case .dict(let dict) = value {
      try look(at: dict.count)
      if let item = dict.value(member.text) { return item }
    }
    return .undefined(Undefined(.member(member.name, of: value.typeName)))
  }

  /// `value[key]`: an item if there is one; an attribute otherwise, if the key is a string.
  func item(_ key: Value, of value: Value) throws -> Value {
    switch value {
    case .undefined(let undefined): throw undefined.error
    case .dict(let dict):
      if case .text(let text) = key {
        try look(at: dict.count + text.byteCount)
        if let item = dict.value(text) { return item }
      } else if try isHashable(key), let item = dict.value(forKey: key) {
        return item
      }
    case .list(let items), .tuple(let items):
      if let index = position(key, count: items.values.count) { return items.values[index] }
    case .range(let range):
      if let index = position(key, count: range.count) { return range[index] }
    case .text(let text):
      if key.integer != nil { return try character(key, of: text) }
    default: break
    }
    if case .text(let text) = key {
      try classify(byteCount: text.byteCount)
      let member = Member(text)
      return try attribute(member, of: value)
        ?? .undefined(Undefined(.member(member.name, of: value.typeName)))
    }
    let description = try string(of: key, representing: true).string
    return .undefined(Undefined(.hint("'\(value.typeName) object' has no element \(description)")))
  }

  private func position(_ key: Value, count: Int) -> Int? {
    guard let index = key.integer else { return nil }
    let position = index < 0 ? index + count : index
    return (0..<count).contains(position) ? position : nil
  }

  private func character(_ key: Value, of text: Text) throws -> Value {
    guard let index = position(key, count: try length(of: text)) else {
      return .undefined(Undefined(.hint("'str object' has no element \(key.integer ?? 0)")))
    }
    let start = text.byteOffset(ofScalar: index)
    return .text(text.piece(start..<(start + decodeScalar(text.bytes, at: start).length)))
  }

  /// An attribute in Python's sense: methods, and the members of namespaces and loops.
  func attribute(_ member: Member, of value: Value) throws -> Value? {
    if case .undefined(let undefined) = value { throw undefined.error }
    if case .namespace(let namespace) = value { return namespace.value(member.text) }
    if member.isInternal { return .undefined(Undefined(.unsafeMember(member.name, of: value.typeName))) }
    switch value {
    case .text(let text):
      return member.textMethod.map { .function(Function(.textMethod(text, $0))) }
    case .dict(let dict):
      guard let method = member.dictMethod else { return nil }
      if method.changesValue { return .undefined(Undefined(.unsafeMember(member.name, of: "dict"))) }
      return .function(Function(.dictMethod(dict, method)))
    case .list, .tuple, .range: return sequenceAttribute(member, of: value)
    case .loop(let loop): return try self.member(member.name, of: loop)
    case .cycler(let cycler): return attribute(member.name, of: cycler)
    case .function(let function): return attribute(member.name, of: function)
    default: return nil
    }
  }

  private func sequenceAttribute(_ member: Member, of value: Value) -> Value? {
    if case .range(let range) = value {
      switch member.name {
      case "start": return .int(range.start)
      case "stop": return .int(range.stop)
      case "step": return .int(range.step)
      default: break
      }
    }
    if case .tuple(let items) = value, items.isGroup {
      if member.name == "grouper" { return items.values[0] }
      if member.name == "list" { return items.values[1] }
    }
    guard let method = member.sequenceMethod else { return nil }
    if method.changesValue {
      guard case .list = value else { return nil }
      return method == .copy
        ? .function(Function(.sequenceMethod(value, method)))
        : .undefined(Undefined(.unsafeMember(member.name, of: "list")))
    }
    return .function(Function(.sequenceMethod(value, method)))
  }

  private func attribute(_ name: String, of cycler: Cycler) -> Value? {
    switch name {
    case "next": .function(Function(.cyclerNext(cycler)))
    case "reset": .function(Function(.cyclerReset(cycler)))
    case "current": cycler.items.values[cycler.position]
    case "items": .tuple(cycler.items)
    case "pos": .int(cycler.position)
    default: nil
    }
  }

  private func attribute(_ name: String, of function: Function) -> Value? {
    guard case .macro(let macro) = function.kind else { return nil }
    switch name {
    case "name": return macro.definition.name.map { .literal($0) } ?? Value.none
    case "arguments": return .tuple(Items(macro.definition.parameters.map { .literal($0.name) }))
    case "catch_kwargs": return .bool(macro.definition.named != nil)
    case "catch_varargs": return .bool(macro.definition.further != nil)
    case "caller": return .bool(macro.definition.caller != nil)
    default: return nil
    }
  }

  // MARK: Slices

  func slice(_ value: Value, start: Value?, stop: Value?, step: Value?) throws -> Value {
    if case .undefined(let undefined) = value { throw undefined.error }
    let count: Int
    switch value {
    case .text(let text): count = try length(of: text)
    case .list(let items), .tuple(let items): count = items.values.count
    case .range(let range): count = range.count
    default: throw TemplateError.evaluation("'\(value.typeName)' object cannot be sliced")
    }
    let bounds = try SliceBounds(
      start: try bound(start), stop: try bound(stop), step: try bound(step), count: count)
    switch value {
    case .text(let text): return .text(try slice(text, bounds, count: count))
    case .list(let items):
      return try list(try slice(items.values, bounds))
    case .tuple(let items): return try tuple(try slice(items.values, bounds))
    case .range(let range):
      return .range(try slice(range, bounds))
    default: return .none
    }
  }

  private func bound(_ value: Value?) throws -> Int? {
    switch value {
    case nil, .some(.none): return nil
    case .some(.large): throw TemplateError.integerTooLarge(line: 0)
    case .some(let value):
      guard let integer = value.integer else {
        throw TemplateError.evaluation("the bounds of a slice must be integers, not '\(value.typeName)'")
      }
      return integer
    }
  }

  private func slice(_ range: IntegerRange, _ bounds: SliceBounds) throws -> IntegerRange {
    func position(_ index: Int) throws -> Int {
      let (offset, overflow) = index.multipliedReportingOverflow(by: range.step)
      let (position, sumOverflow) = range.start.addingReportingOverflow(offset)
      guard !overflow, !sumOverflow else { throw TemplateError.integerTooLarge(line: 0) }
      return position
    }
    let (step, overflow) = range.step.multipliedReportingOverflow(by: bounds.step)
    guard !overflow else { throw TemplateError.integerTooLarge(line: 0) }
    return IntegerRange(start: try position(bounds.start), stop: try position(bounds.stop), step: step)
  }

  private func slice(_ values: [Value], _ bounds: SliceBounds) throws -> [Value] {
    if bounds.step == 1 { return bounds.count == 0 ? [] : Array(values[bounds.start..<bounds.stop]) }
    return (0..<bounds.count).map { values[bounds.start + $0 * bounds.step] }
  }

  private func slice(_ text: Text, _ bounds: SliceBounds, count: Int) throws -> Text {
    if bounds.count == 0 { return text.piece(0..<0) }
    if bounds.step == 1 {
      let start = text.byteOffset(ofScalar: bounds.start)
      let end = bounds.stop == count ? text.byteCount : text.byteOffset(ofScalar: bounds.stop)
      try make(byteCount: end - start)
      return text.piece(start..<end)
    }
    try make(byteCount: text.byteCount)
    let offsets = text.scalarOffsets
    try make(byteCount: offsets.count * 8)
    var builder = TextBuilder()
    for index in 0..<bounds.count {
      let start = offsets[bounds.start + index * bounds.step]
      builder.append(text, start..<(start + decodeScalar(text.bytes, at: start).length))
    }
    return builder.finish(isMarkup: text.isMarkup)
  }
}

/// Which items a slice takes, by the rules of Python's `slice.indices`.
struct SliceBounds {
  let start, stop, step, count: Int

  init(start: Int?, stop: Int?, step: Int?, count length: Int) throws {
    let given = step ?? 1
    guard given != 0 else { throw TemplateError.evaluation("the step of a slice cannot be zero") }
    // Beyond the length it makes no difference how large a step is, but its magnitude must be an integer too.
    let step = max(given, -Int.max)
    self.step = step
    func clamp(_ bound: Int?, _ fallback: Int) -> Int {
      guard let bound else { return fallback }
      let position = bound < 0 ? bound.addingReportingOverflow(length).partialValue : bound
      return step > 0 ? max(0, min(length, position)) : max(-1, min(length - 1, position))
    }
    self.start = clamp(start, step > 0 ? 0 : length - 1)
    self.stop = clamp(stop, step > 0 ? length : -1)
    let distance = step > 0 ? self.stop - self.start : self.start - self.stop
    count = distance > 0 ? (distance - 1) / abs(step) + 1 : 0
  }
}
