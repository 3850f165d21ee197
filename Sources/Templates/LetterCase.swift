/// Upper and lower case as `str` maps them.
extension Interpreter {
  func uppercased(_ text: Text) throws -> Text {
    if text.bytes.isASCII { return try mapped(text) { (0x61...0x7A).contains($0) ? $0 - 32 : $0 } }
    return try mapped(text) { scalar, _ in scalar.properties.uppercaseMapping }
  }

  func lowercased(_ text: Text) throws -> Text {
    if text.bytes.isASCII { return try mapped(text) { (0x41...0x5A).contains($0) ? $0 + 32 : $0 } }
    return try mapped(text) { scalar, offset in text.lowercase(scalar, at: offset) }
  }

  /// The first character in title case, the others in lower case.
  func capitalized(_ text: Text) throws -> Text {
    try mapped(text) { scalar, offset in
      offset == 0 ? scalar.properties.titlecaseMapping : text.lowercase(scalar, at: offset)
    }
  }

  /// Each character after one without case in title case, the others in lower case.
  func titlecased(_ text: Text) throws -> Text {
    var followsCased = false
    return try mapped(text) { scalar, offset in
      defer { followsCased = scalar.isPythonCased }
      return followsCased ? text.lowercase(scalar, at: offset) : scalar.properties.titlecaseMapping
    }
  }

  func caseSwapped(_ text: Text) throws -> Text {
    try mapped(text) { scalar, offset in
      if scalar.isPythonUpper { return text.lowercase(scalar, at: offset) }
      return scalar.isPythonLower ? scalar.properties.uppercaseMapping : String(scalar)
    }
  }

  /// Maps the bytes of ASCII text.
  private func mapped(_ text: Text, _ mapping: (UInt8) -> UInt8) throws -> Text {
    try look(at: text.byteCount)
    return text.replacingBytes(text.bytes.map(mapping))
  }

  /// Maps characters, given with their offsets.
  private func mapped(_ text: Text, _ mapping: (Unicode.Scalar, Int) -> String) throws -> Text {
    try classify(byteCount: text.byteCount)
    var builder = TextBuilder()
    text.forEachScalar { scalar, range, origin in builder.append(mapping(scalar, range.lowerBound), origin) }
    return builder.finish(isMarkup: text.isMarkup)
  }
}

extension Text {
  fileprivate func lowercase(_ scalar: Unicode.Scalar, at offset: Int) -> String {
    scalar == "\u{3A3}"
      ? (isFinalSigma(at: offset) ? "\u{3C2}" : "\u{3C3}") : scalar.properties.lowercaseMapping
  }

  /// Whether the sigma at an offset ends a word: a letter with case before it, and none after it.
  fileprivate func isFinalSigma(at offset: Int) -> Bool {
    // Marks that are skipped are few in texts that mean something; a bound keeps hostile ones cheap.
    var start = offset
    var skipped = 0
    var followsCased = false
    while start > 0, skipped < 64 {
      start = bytes.scalarStart(before: start)
      let properties = decodeScalar(bytes, at: start).scalar.properties
      if !properties.isCaseIgnorable {
        followsCased = properties.isCased
        break
      }
      skipped += 1
    }
    guard followsCased else { return false }
    var end = offset + 2
    skipped = 0
    while end < byteCount, skipped < 64 {
      let (scalar, length) = decodeScalar(bytes, at: end)
      if !scalar.properties.isCaseIgnorable { return !scalar.properties.isCased }
      end += length
      skipped += 1
    }
    return true
  }
}
