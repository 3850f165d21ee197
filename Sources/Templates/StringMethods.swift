/// The methods of `str`.
enum TextMethod: String, CaseIterable, Sendable {
  case capitalize, casefold, center, count, encode, endswith, expandtabs, find, format
  case formatMap = "format_map"
  case index,
    isalnum, isalpha, isascii, isdecimal, isdigit, isidentifier, islower, isnumeric, isprintable, isspace,
    istitle,
    isupper, join, ljust, lower, lstrip, maketrans, partition, removeprefix, removesuffix, replace, rfind,
    rindex,
    rjust, rpartition, rsplit, rstrip, split, splitlines, startswith, strip, swapcase, title, translate,
    upper, zfill

  static let named = Dictionary(uniqueKeysWithValues: allCases.map { ($0.rawValue, $0) })
}

extension Interpreter {
  enum Side { case left, right, both }

  func call(_ method: TextMethod, of text: Text, _ arguments: Arguments) throws -> Value {
    let name = method.rawValue
    try make(byteCount: text.byteCount)
    switch method {
    case .capitalize, .lower, .upper, .swapcase, .title, .isalnum, .isalpha, .isascii, .isdecimal, .isdigit,
      .isidentifier, .islower, .isnumeric, .isprintable, .isspace, .istitle, .isupper:
      _ = try arguments.positional(0...0, of: name)
      return try callPlain(method, of: text)
    case .strip, .lstrip, .rstrip:
      let characters = try arguments.positional(0...1, of: name).first ?? .none
      return .text(
        try stripped(text, characters, method == .strip ? .both : method == .lstrip ? .left : .right))
    case .split, .rsplit, .splitlines, .partition, .rpartition, .join:
      return try callSplitting(method, of: text, arguments)
    case .startswith, .endswith: return .bool(try hasEdge(text, arguments, atStart: method == .startswith))
    case .find, .rfind, .index, .rindex, .count: return try callSearching(method, of: text, arguments)
    case .replace:
      let options = try arguments.positional(2...3, of: name)
      return .text(
        try replaced(
          text, try self.text(options[0], name), with: try self.text(options[1], name),
          atMost: try limit(options.count > 2 ? options[2] : nil)))
    case .removeprefix, .removesuffix:
      let part = try self.text(try arguments.positional(1...1, of: name)[0], name)
      return .text(withoutEdge(text, part, atStart: method == .removeprefix))
    case .ljust, .rjust, .center, .zfill, .expandtabs:
      return .text(try callPadding(method, of: text, arguments))
    case .format: return .text(try formatted(text, arguments))
    case .formatMap:
      return .text(try formatted(text, try unpacked(try arguments.positional(1...1, of: name)[0])))
    case .casefold, .encode, .maketrans, .translate:
      throw TemplateError.unsupported("the method '\(name)' of strings")
    }
  }

  private func unpacked(_ mapping: Value) throws -> Arguments {
    var arguments = Arguments()
    guard case .dict(let dict) = mapping else {
      throw TemplateError.evaluation("format_map() needs a mapping")
    }
    for (position, key) in dict.keys.enumerated() {
      guard case .text(let name) = key else { continue }
      arguments.named.append(Arguments.Named(name: name.string, value: dict.values[position]))
    }
    return arguments
  }

  /// A string that a method needs as its argument.
  private func text(_ value: Value, _ method: String) throws -> Text {
    if case .undefined(let undefined) = value { throw undefined.error }
    guard case .text(let text) = value else {
      throw TemplateError.evaluation("\(method)() needs a string, not '\(value.typeName)'")
    }
    return text
  }

  // MARK: Case and kinds of characters

  private func callPlain(_ method: TextMethod, of text: Text) throws -> Value {
    try classify(byteCount: text.byteCount)
    func all(_ test: (Unicode.Scalar) -> Bool) -> Value {
      var result = !text.isEmpty
      text.forEachScalar { scalar, _, _ in if !test(scalar) { result = false } }
      return .bool(result)
    }
    switch method {
    case .capitalize: return .text(try capitalized(text))
    case .lower: return .text(try lowercased(text))
    case .upper: return .text(try uppercased(text))
    case .swapcase: return .text(try caseSwapped(text))
    case .title: return .text(try titlecased(text))
    case .isalnum: return all { $0.isPythonAlnum }
    case .isalpha: return all { $0.isPythonAlpha }
    case .isdecimal: return all { $0.isPythonDecimal }
    case .isdigit: return all { $0.isPythonDigit }
    case .isnumeric: return all { $0.isPythonNumeric }
    case .isspace: return all { $0.isPythonSpace }
    case .isprintable: return text.isEmpty ? .bool(true) : all { $0.isPythonPrintable }
    case .isascii: return .bool(text.bytes.isASCII)
    case .islower: return .bool(try isCased(text) { $0.isPythonLower })
    case .isupper: return .bool(try isCased(text) { $0.isPythonUpper })
    case .istitle: return .bool(isTitle(text))
    default:
      guard !text.isEmpty, decodeScalar(text.bytes, at: 0).scalar.beginsIdentifier else {
        return .bool(false)
      }
      return all { $0.continuesIdentifier }
    }
  }

  /// Whether there are characters with case, and all of them have this one.
  func isCased(_ text: Text, _ hasCase: (Unicode.Scalar) -> Bool) throws -> Bool {
    try classify(byteCount: text.byteCount)
    var found = false
    var isAll = true
    text.forEachScalar { scalar, _, _ in
      if hasCase(scalar) { found = true } else if scalar.isPythonCased { isAll = false }
    }
    return found && isAll
  }

  private func isTitle(_ text: Text) -> Bool {
    var followsCased = false
    var found = false
    var isTitle = true
    text.forEachScalar { scalar, _, _ in
      let isUpper = scalar.isPythonUpper || scalar.isPythonTitle
      let isLower = !isUpper && scalar.isPythonLower
      if isUpper && followsCased || isLower && !followsCased { isTitle = false }
      followsCased = isUpper || isLower
      if followsCased { found = true }
    }
    return found && isTitle
  }

  // MARK: Edges

  func stripped(_ text: Text, _ characters: Value, _ side: Side) throws -> Text {
    try look(at: text.byteCount)
    var start = 0
    var end = text.byteCount
    if characters.isNone {
      if side != .right { start = text.bytes.whitespaceEnd(from: 0) }
      if side != .left { end = text.bytes.whitespaceStart(before: end, lowest: start) }
      return text.piece(start..<end)
    }
    try classify(byteCount: text.byteCount)
    var set: Set<Unicode.Scalar> = []
    try self.text(characters, "strip").forEachScalar { scalar, _, _ in set.insert(scalar) }
    if side != .right {
      while start < end, case (let scalar, let length) = decodeScalar(text.bytes, at: start),
        set.contains(scalar)
      {
        start += length
      }
    }
    if side != .left {
      while end > start, case let last = text.bytes.scalarStart(before: end),
        set.contains(decodeScalar(text.bytes, at: last).scalar)
      {
        end = last
      }
    }
    return text.piece(start..<end)
  }

  private func withoutEdge(_ text: Text, _ part: Text, atStart: Bool) -> Text {
    let offset = atStart ? 0 : text.byteCount - part.byteCount
    guard part.bytes.isFound(in: text.bytes, at: offset) else { return text }
    return text.piece(atStart ? part.byteCount..<text.byteCount : 0..<offset)
  }

  private func hasEdge(_ text: Text, _ arguments: Arguments, atStart: Bool) throws -> Bool {
    let name = atStart ? "startswith" : "endswith"
    let options = try arguments.positional(1...3, of: name)
    var candidates = [options[0]]
    if case .tuple(let items) = options[0] { candidates = items.values }
    let parts = try candidates.map { try self.text($0, name) }
    guard let range = try self.range(options.dropFirst(), in: text) else { return false }
    return try parts.contains { part in
      try look(at: part.byteCount)
      guard part.byteCount <= range.count else { return false }
      return part.bytes.isFound(
        in: text.bytes, at: atStart ? range.lowerBound : range.upperBound - part.byteCount)
    }
  }

  /// The bytes between two optional positions; `nil` if the first one is behind the second or behind the text.
  private func range(_ bounds: ArraySlice<Value>, in text: Text) throws -> Range<Int>? {
    let bounds = Array(bounds)
    if bounds.isEmpty { return 0..<text.byteCount }
    let count = try length(of: text)
    func position(_ index: Int, _ fallback: Int) throws -> Int {
      guard bounds.count > index, !bounds[index].isNone else { return fallback }
      let value = try integer(bounds[index], "start")
      return value < 0 ? max(0, value + count) : value
    }
    let start = try position(0, 0)
    let end = min(try position(1, count), count)
    guard start <= end else { return nil }
    return text.byteOffset(ofScalar: start)..<text.byteOffset(ofScalar: end)
  }

  // MARK: Searching

  private func callSearching(_ method: TextMethod, of text: Text, _ arguments: Arguments) throws -> Value {
    let options = try arguments.positional(1...3, of: method.rawValue)
    let part = try self.text(options[0], method.rawValue)
    let range = try self.range(options.dropFirst(), in: text)
    if method == .count {
      guard let range else { return .int(0) }
      if part.isEmpty { return .int(text.bytes.scalarCount(range) + 1) }
      return .int(try occurrences(of: part.bytes, in: Array(text.bytes[range])).count)
    }
    let isBackwards = method == .rfind || method == .rindex
    var offset: Int?
    if let range {
      offset =
        try isBackwards
        ? findLast(part.bytes, in: text.bytes, range) : find(part.bytes, in: text.bytes, range)
    }
    if let offset { return .int(text.bytes.scalarCount(0..<offset)) }
    if method == .find || method == .rfind { return .int(-1) }
    throw TemplateError.evaluation("\(method.rawValue)() does not find the string")
  }

  func replaced(_ text: Text, _ old: Text, with new: Text, atMost limit: Int) throws -> Text {
    var offsets: [Int]
    if old.isEmpty {
      try make(byteCount: text.byteCount * 8)
      offsets = Array((text.scalarOffsets + [text.byteCount]).prefix(limit))
    } else {
      offsets = try occurrences(of: old.bytes, in: text.bytes, atMost: limit)
    }
    if offsets.isEmpty { return text }
    let growth = (new.byteCount - old.byteCount).multipliedReportingOverflow(by: offsets.count)
    try make(byteCount: growth.overflow ? .max : text.byteCount + growth.partialValue)
    var builder = TextBuilder()
    builder.reserve(text.byteCount + growth.partialValue)
    var start = 0
    for offset in offsets {
      builder.append(text, start..<offset)
      builder.append(new)
      start = offset + old.byteCount
    }
    builder.append(text, start..<text.byteCount)
    return builder.finish()
  }

  // MARK: Splitting and joining

  private func callSplitting(_ method: TextMethod, of text: Text, _ arguments: Arguments) throws -> Value {
    let name = method.rawValue
    switch method {
    case .splitlines:
      let keepsEnds = try arguments.bound(to: ["keepends"], of: name)[0].map { try isTrue($0) } ?? false
      return try list(try pieces(of: text, text.lineRanges(keepingEnds: keepsEnds)))
    case .split, .rsplit:
      let options = try arguments.bound(to: ["sep", "maxsplit"], of: name)
      let limit = try limit(options[1])
      if let separator = options[0], !separator.isNone {
        return try split(text, at: try self.text(separator, name), limit, backwards: method == .rsplit)
      }
      let ranges = method == .split ? text.wordRanges(limit) : text.wordRangesFromEnd(limit)
      return try list(try pieces(of: text, ranges))
    case .partition, .rpartition:
      let separator = try self.text(try arguments.positional(1...1, of: name)[0], name)
      return try partition(text, separator, backwards: method == .rpartition)
    default:
      let items = try iterate(try arguments.positional(1...1, of: name)[0])
      var builder = TextBuilder()
      var isFirst = true
      while let item = try next(of: items) {
        if !isFirst { builder.append(text) }
        isFirst = false
        builder.append(text.isMarkup ? try escaped(try string(of: item)) : try self.text(item, name))
        try check(builder)
      }
      return .text(try finish(builder, isMarkup: text.isMarkup))
    }
  }

  private func pieces(of text: Text, _ ranges: [Range<Int>]) throws -> [Value] {
    try make(itemCount: ranges.count)
    return ranges.map { .text(text.piece($0)) }
  }

  private func split(_ text: Text, at separator: Text, _ limit: Int, backwards: Bool) throws -> Value {
    guard !separator.isEmpty else {
      throw TemplateError.evaluation("split() needs a separator that is not empty")
    }
    var offsets: [Int] = []
    if backwards {
      var end = text.byteCount
      while offsets.count < limit, let offset = try findLast(separator.bytes, in: text.bytes, 0..<end) {
        offsets.insert(offset, at: 0)
        try look(at: offsets.count * 8)
        end = offset
      }
    } else {
      offsets = try occurrences(of: separator.bytes, in: text.bytes, atMost: limit)
    }
    var ranges: [Range<Int>] = []
    var start = 0
    for offset in offsets {
      ranges.append(start..<offset)
      start = offset + separator.byteCount
    }
    ranges.append(start..<text.byteCount)
    return try list(try pieces(of: text, ranges))
  }

  private func partition(_ text: Text, _ separator: Text, backwards: Bool) throws -> Value {
    guard !separator.isEmpty else {
      throw TemplateError.evaluation("partition() needs a separator that is not empty")
    }
    let all = 0..<text.byteCount
    let found =
      try backwards
      ? findLast(separator.bytes, in: text.bytes, all) : find(separator.bytes, in: text.bytes, all)
    guard let found else {
      let empty = Value.text(text.piece(0..<0))
      return try tuple(backwards ? [empty, empty, .text(text)] : [.text(text), empty, empty])
    }
    let end = found + separator.byteCount
    return try tuple(try pieces(of: text, [0..<found, found..<end, end..<text.byteCount]))
  }

  // MARK: Padding

  func centered(_ text: Text, width: Int, fill: Text = Text(" ", .template)) throws -> Text {
    let missing = max(0, width) - (try length(of: text))
    if missing <= 0 { return text }
    let before = missing / 2 + (missing & width & 1)
    return try padded(text, before: before, after: missing - before, fill: fill)
  }

  private func padded(_ text: Text, before: Int, after: Int, fill: Text) throws -> Text {
    var builder = TextBuilder()
    builder.append(try repeated(fill, count: before))
    builder.append(text)
    builder.append(try repeated(fill, count: after))
    return try finish(builder, isMarkup: text.isMarkup)
  }

  private func callPadding(_ method: TextMethod, of text: Text, _ arguments: Arguments) throws -> Text {
    if method == .expandtabs {
      return try expanded(
        text,
        tabSize: try integer(try arguments.bound(to: ["tabsize"], of: "expandtabs")[0] ?? .int(8), "tabsize"))
    }
    let options = try arguments.positional(1...(method == .zfill ? 1 : 2), of: method.rawValue)
    let width = try integer(options[0], "width")
    let fill =
      try options.count > 1
      ? self.text(options[1], method.rawValue) : Text(method == .zfill ? "0" : " ", .template)
    guard try length(of: fill) == 1 else { throw TemplateError.evaluation("the fill must be one character") }
    let missing = max(0, max(0, width) - (try length(of: text)))
    switch method {
    case .center: return try centered(text, width: width, fill: fill)
    case .ljust: return try padded(text, before: 0, after: missing, fill: fill)
    case .rjust: return try padded(text, before: missing, after: 0, fill: fill)
    default:
      let signLength = text.bytes.first == Byte.minus || text.bytes.first == Byte.plus ? 1 : 0
      var builder = TextBuilder()
      builder.append(text, 0..<signLength)
      builder.append(try repeated(fill, count: missing))
      builder.append(text, signLength..<text.byteCount)
      return try finish(builder)
    }
  }

  private func expanded(_ text: Text, tabSize: Int) throws -> Text {
    try classify(byteCount: text.byteCount)
    var builder = TextBuilder()
    var column = 0
    try text.forEachScalar { scalar, range, origin in
      if scalar == "\t" {
        if tabSize > 0 {
          let count = tabSize - column % tabSize
          builder.append(try repeated(Text(" ", origin), count: count))
          column += count
        }
      } else {
        builder.append(text, range)
        column = scalar == "\n" || scalar == "\r" ? 0 : column + 1
      }
      try check(builder)
    }
    return try finish(builder)
  }
}

extension Text {
  var endsWithLineBreak: Bool {
    guard !isEmpty else { return false }
    return decodeScalar(bytes, at: bytes.scalarStart(before: byteCount)).scalar.isPythonLineBreak
  }

  /// The lines of `str.splitlines`.
  func lineRanges(keepingEnds: Bool) -> [Range<Int>] {
    var ranges: [Range<Int>] = []
    var start = 0
    var offset = 0
    while offset < byteCount {
      let (scalar, scalarLength) = decodeScalar(bytes, at: offset)
      var length = scalarLength
      if scalar.isPythonLineBreak {
        if scalar == "\r", offset + 1 < byteCount, bytes[offset + 1] == Byte.newline { length = 2 }
        ranges.append(start..<(keepingEnds ? offset + length : offset))
        start = offset + length
      }
      offset += length
    }
    if start < byteCount { ranges.append(start..<byteCount) }
    return ranges
  }

  /// The words of `str.split()`: after so many words, the rest is one piece.
  fileprivate func wordRanges(_ limit: Int) -> [Range<Int>] {
    var ranges: [Range<Int>] = []
    var offset = bytes.whitespaceEnd(from: 0)
    while offset < byteCount {
      if ranges.count == limit {
        ranges.append(offset..<byteCount)
        break
      }
      let start = offset
      while offset < byteCount, bytes.whitespaceLength(at: offset) == 0 {
        offset += decodeScalar(bytes, at: offset).length
      }
      ranges.append(start..<offset)
      offset = bytes.whitespaceEnd(from: offset)
    }
    return ranges
  }

  /// The words of `str.rsplit()`, cut from the end.
  fileprivate func wordRangesFromEnd(_ limit: Int) -> [Range<Int>] {
    var ranges: [Range<Int>] = []
    var end = bytes.whitespaceStart(before: byteCount, lowest: 0)
    while end > 0 {
      if ranges.count == limit {
        ranges.append(0..<end)
        break
      }
      var start = end
      while start > 0, case let previous = bytes.scalarStart(before: start),
        bytes.whitespaceLength(at: previous) == 0
      {
        start = previous
      }
      ranges.append(start..<end)
      end = bytes.whitespaceStart(before: start, lowest: 0)
    }
    return ranges.reversed()
  }
}
