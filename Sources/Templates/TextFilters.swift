/// Filters that make text.
extension Interpreter {
  @inline(never)
  func applyTextFilter(_ filter: FilterName, to value: Value, _ arguments: Arguments) throws -> Value {
    switch filter {
    case .trim:
      let characters = try arguments.bound(to: ["chars"], of: "trim")[0]
      return .text(try stripped(try string(of: value), characters ?? .none, .both))
    case .upper, .lower, .capitalize, .title, .string, .safe, .e, .escape, .forceescape, .wordcount:
      _ = try arguments.bound(to: [], of: filter.rawValue)
      return try applyPlainFilter(filter, to: try string(of: value))
    case .tojson: return try json(value, arguments)
    case .replace:
      let options = try arguments.bound(to: ["old", "new", "count"], required: 2, of: "replace")
      var text = try replaced(
        try string(of: value), try string(of: options[0]!), with: try string(of: options[1]!),
        atMost: try limit(options[2]))
      text.isMarkup = false
      return .text(text)
    case .center:
      let width = try arguments.bound(to: ["width"], of: "center")[0] ?? .int(80)
      return .text(try centered(try string(of: value), width: try integer(width, "width")))
    case .format:
      guard arguments.positional.isEmpty || arguments.named.isEmpty else {
        throw TemplateError.evaluation("format takes arguments either all with or all without names")
      }
      var names = DictBuilder()
      for argument in arguments.named { names.set(argument.key, argument.value) }
      let values = try arguments.named.isEmpty ? tuple(arguments.positional) : dict(names)
      return .text(try formatted(try string(of: value), with: values))
    case .indent: return .text(try indented(value, arguments))
    case .truncate: return try truncated(value, arguments)
    default: return .text(try urlEncoded(value, arguments))
    }
  }

  private func applyPlainFilter(_ filter: FilterName, to text: Text) throws -> Value {
    try make(byteCount: text.byteCount)
    switch filter {
    case .upper: return .text(try uppercased(text))
    case .lower: return .text(try lowercased(text))
    case .capitalize: return .text(try capitalized(text))
    case .title: return .text(try wordsCapitalized(text))
    case .safe:
      var marked = text
      marked.isMarkup = true
      return .text(marked)
    case .e, .escape: return .text(try escaped(text))
    case .forceescape:
      var plain = text
      plain.isMarkup = false
      return .text(try escaped(plain))
    case .wordcount:
      try classify(byteCount: text.byteCount)
      var count = 0
      var isInWord = false
      text.forEachScalar { scalar, _, _ in
        if scalar.isWordCharacter, !isInWord { count += 1 }
        isInWord = scalar.isWordCharacter
      }
      return .int(count)
    default: return .text(text)
    }
  }

  func integer(_ value: Value, _ name: String) throws -> Int {
    if case .undefined(let undefined) = value { throw undefined.error }
    guard let integer = value.integer else {
      throw TemplateError.evaluation("'\(name)' must be an integer, not '\(value.typeName)'")
    }
    return integer
  }

  /// A number of replacements or splits; a negative one is no limit.
  func limit(_ value: Value?) throws -> Int {
    guard let value, !value.isNone else { return .max }
    let limit = try integer(value, "count")
    return limit < 0 ? .max : limit
  }

  /// The title case of Jinja2's filter: words begin after white space and opening brackets.
  private func wordsCapitalized(_ text: Text) throws -> Text {
    try classify(byteCount: text.byteCount)
    var isWordStart = true
    var builder = TextBuilder()
    var start = 0
    func flush(to end: Int) throws {
      if start < end { builder.append(try lowercased(text.piece(start..<end))) }
      start = end
    }
    var offset = 0
    while offset < text.byteCount {
      let (scalar, length) = decodeScalar(text.bytes, at: offset)
      let isSeparator = scalar.isPythonSpace || "-({[<".unicodeScalars.contains(scalar)
      if isSeparator || isWordStart {
        try flush(to: offset)
        let piece = text.piece(offset..<(offset + length))
        builder.append(isSeparator ? piece : try uppercased(piece))
        start = offset + length
      }
      isWordStart = isSeparator
      offset += length
    }
    try flush(to: text.byteCount)
    return builder.finish(isMarkup: text.isMarkup)
  }

  /// Replaces the characters that HTML gives a meaning, unless the text is markup already.
  func escaped(_ text: Text) throws -> Text {
    if text.isMarkup { return text }
    try look(at: text.byteCount * 4)
    var builder = TextBuilder()
    try text.forEachRun(in: 0..<text.byteCount) { range, origin in
      for offset in range {
        switch text.bytes[offset] {
        case UInt8(ascii: "&"): builder.append("&amp;", origin)
        case UInt8(ascii: "<"): builder.append("&lt;", origin)
        case UInt8(ascii: ">"): builder.append("&gt;", origin)
        case Byte.doubleQuote: builder.append("&#34;", origin)
        case Byte.quote: builder.append("&#39;", origin)
        default: builder.append(byte: text.bytes[offset], origin)
        }
      }
      try check(builder)
    }
    return try finish(builder, isMarkup: true)
  }

  private func indented(_ value: Value, _ arguments: Arguments) throws -> Text {
    let options = try arguments.bound(to: ["width", "first", "blank"], of: "indent")
    if case .undefined(let undefined) = value { throw undefined.error }
    guard case .text(let text) = value else {
      throw TemplateError.evaluation("indent cannot take '\(value.typeName)'")
    }
    var indentation: Text
    switch options[0] ?? .int(4) {
    case .text(let given): indentation = given
    case let width: indentation = try repeated(Text(" ", .template), count: try integer(width, "width"))
    }
    indentation.isMarkup = false
    let indentsBlankLines = try options[2].map { try isTrue($0) } ?? false
    var builder = TextBuilder()
    if try options[1].map({ try isTrue($0) }) ?? false { builder.append(indentation) }
    // The end of a line at the end of the text begins one more line, which is empty.
    try make(byteCount: text.byteCount)
    var lines = text.lineRanges(keepingEnds: false)
    if text.isEmpty || text.endsWithLineBreak { lines.append(text.byteCount..<text.byteCount) }
    for (index, line) in lines.enumerated() {
      if index > 0 {
        builder.append("\n", .template)
        if indentsBlankLines || !line.isEmpty { builder.append(indentation) }
      }
      builder.append(text, line)
      try step()
      try check(builder)
    }
    return try finish(builder, isMarkup: text.isMarkup)
  }

  /// Whatever is short enough stays as it is, even if it is no string.
  private func truncated(_ value: Value, _ arguments: Arguments) throws -> Value {
    let options = try arguments.bound(to: ["length", "killwords", "end", "leeway"], of: "truncate")
    let limit = try integer(options[0] ?? .int(255), "length")
    let end = try string(of: options[2] ?? .literal("..."))
    let leeway = options[3]?.isNone ?? true ? 5 : try integer(options[3]!, "leeway")
    let endLength = try length(of: end)
    guard limit >= endLength, leeway >= 0 else {
      throw TemplateError.evaluation("the length of truncate is too small")
    }
    if try limit > Int.max - leeway || length(of: value) <= limit + leeway { return value }
    guard case .text(let text) = value else {
      throw TemplateError.evaluation("truncate cannot take '\(value.typeName)'")
    }
    var cut = text.prefix(scalars: limit - endLength)
    if try options[1].map({ try !isTrue($0) }) ?? true, let blank = cut.bytes.lastIndex(of: Byte.space) {
      cut = cut.piece(0..<blank)
    }
    var builder = TextBuilder()
    builder.append(cut)
    builder.append(end)
    return .text(try finish(builder))
  }

  private func urlEncoded(_ value: Value, _ arguments: Arguments) throws -> Text {
    _ = try arguments.bound(to: [], of: "urlencode")
    func quoted(_ value: Value, isQuery: Bool, _ builder: inout TextBuilder) throws {
      let text = try string(of: value)
      try make(byteCount: text.byteCount * 3)
      text.forEachRun(in: 0..<text.byteCount) { range, origin in
        for byte in text.bytes[range] {
          let isPlain = byte < 0x80 && Unicode.Scalar(byte).isPythonAlnum || "_.-~".utf8.contains(byte)
          if isPlain || byte == UInt8(ascii: "/") && !isQuery {
            builder.append(byte: byte, origin)
          } else if byte == Byte.space, isQuery {
            builder.append("+", origin)
          } else {
            let digits = String(byte, radix: 16, uppercase: true)
            builder.append("%" + (digits.utf8.count < 2 ? "0" : "") + digits, origin)
          }
        }
      }
      try check(builder)
    }
    var builder = TextBuilder()
    switch value {
    case .list, .tuple, .dict, .view, .iteration, .range, .undefined:
      let isDict = if case .dict = value { true } else { false }
      for (index, pair) in try values(of: value).enumerated() {
        if index > 0 { builder.append("&", .template) }
        var parts = isDict ? [pair, try item(pair, of: value)] : try values(of: pair)
        guard parts.count == 2 else { throw TemplateError.evaluation("urlencode needs pairs") }
        try quoted(parts.removeFirst(), isQuery: true, &builder)
        builder.append("=", .template)
        try quoted(parts[0], isQuery: true, &builder)
      }
    default: try quoted(value, isQuery: false, &builder)
    }
    return try finish(builder)
  }
}
