import Files
import JSON

/// The steps before and after the model.
extension TokenizerJSON {
  /// What happens to text before it is cut.
  func normalizer() throws -> [Normalization] {
    guard let value = json["normalizer"], !value.isNull else { return [] }
    return try normalizations(value)
  }

  private func normalizations(_ value: JSONValue) throws -> [Normalization] {
    switch value["type"]?.stringValue {
    case "NFC": return [.nfc]
    case "Replace": return [try replacement(inNormalizer: value)]
    case "Prepend": return [.prepend(Array((value["prepend"]?.stringValue ?? "").utf8))]
    case "Sequence": return try (value["normalizers"]?.arrayValue ?? []).flatMap(normalizations)
    case let type:
      throw bad(.unsupported("normalizer \(type ?? "?") is not supported (only NFC, Replace and Prepend)"))
    }
  }

  /// A literal, or one of the patterns that SentencePiece's own normalization comes to.
  private func replacement(inNormalizer value: JSONValue) throws -> Normalization {
    guard let pattern = value["pattern"]?["Regex"]?.stringValue else {
      return .replace(try replacement(value, of: "normalizer"))
    }
    switch (pattern, value["content"]?.stringValue) {
    case (#"\A +| +\z"#, ""): return .trimSpaces
    case (" {2,}", " "): return .mergeSpaces
    case (_, let content?):
      if let rest = pattern.bytes.dropping(prefix: #"\A"#), let literal = Self.literals(rest),
        literal.count == 1
      {
        return .replaceAtStart(ByteReplacement(pattern: literal[0], content: Array(content.utf8)))
      }
    default: break
    }
    throw bad(
      .unsupported(
        "normalizer Replace with the pattern \(value["pattern"]?.serialized() ?? "?") is not supported"))
  }

  private func replacement(_ value: JSONValue, of part: String) throws -> ByteReplacement {
    guard let pattern = value["pattern"]?["String"]?.stringValue, !pattern.isEmpty,
      let content = value["content"]?.stringValue
    else { throw bad(.unsupported("\(part) Replace without a literal pattern is not supported")) }
    return ByteReplacement(pattern, content)
  }

  /// The literals that a pattern chooses among, or nil when it is more than that.
  private static func literals(_ pattern: String) -> [[UInt8]]? {
    var literals: [[UInt8]] = [[]]
    var isEscaped = false
    for byte in pattern.utf8 {
      let isLetterOrDigit =
        (48...57).contains(byte) || (65...90).contains(byte) || (97...122).contains(byte)
      if isEscaped {
        guard !isLetterOrDigit else { return nil }
        literals[literals.count - 1].append(byte)
        isEscaped = false
      } else if byte == UInt8(ascii: "\\") {
        isEscaped = true
      } else if byte == UInt8(ascii: "|") {
        literals.append([])
      } else if ".^$*+?()[]{}".utf8.contains(byte) {
        return nil
      } else {
        literals[literals.count - 1].append(byte)
      }
    }
    return isEscaped || literals.contains([]) ? nil : literals
  }

  // MARK: Decoder

  /// - Parameter alphabet: what the tokens are spelled in.
  func decoder(_ alphabet: PreTokenizer.Alphabet) throws -> TokenDecoder {
    let value = json["decoder"] ?? .null
    let parts = value["type"]?.stringValue == "Sequence" ? value["decoders"]?.arrayValue ?? [] : [value]
    return alphabet == .bytes
      ? .bytes(value.isNull ? [] : try byteLevelDecoder(parts)) : .steps(try parts.map(decoderStep))
  }

  private func byteLevelDecoder(_ parts: [JSONValue]) throws -> [ByteReplacement] {
    var replacements: [ByteReplacement] = []
    for (index, part) in parts.enumerated() {
      switch part["type"]?.stringValue {
      case "ByteLevel" where index == 0: continue
      case "Replace" where index > 0: replacements.append(try replacement(part, of: "decoder"))
      case let type:
        throw bad(.unsupported("decoder \(type ?? "?") is not supported (only ByteLevel, then Replace)"))
      }
    }
    return replacements
  }

  private func decoderStep(_ part: JSONValue) throws -> TokenDecoder.Step {
    switch part["type"]?.stringValue {
    case "Replace": return .replace(try replacement(part, of: "decoder"))
    case "ByteFallback": return .byteFallback
    case "Fuse": return .fuse
    case "Strip":
      let content = Array((part["content"]?.stringValue ?? "").utf8)
      guard !content.isEmpty, let start = part["start"]?.intValue, let end = part["stop"]?.intValue,
        (0...64).contains(start), (0...64).contains(end)
      else { throw bad(.unsupported("decoder Strip without content, start and stop is not supported")) }
      return .strip(content: content, start: start, end: end)
    case "Metaspace":
      let metaspace = try metaspace(part)
      return .metaspace(metaspace.replacement, dropsFirst: metaspace.prepending != .never)
    case let type:
      throw bad(
        .unsupported(
          "decoder \(type ?? "null") is not supported (only Replace, ByteFallback, Fuse, Strip and Metaspace)"
        ))
    }
  }

  // MARK: Pre-tokenizer

  /// What happens between normalization and merging. Without a `ByteLevel` step, tokens are spelled in characters.
  func preTokenizer() throws -> PreTokenizer {
    var result = PreTokenizer(alphabet: .characters, steps: [])
    guard let value = json["pre_tokenizer"], !value.isNull else {
      // Nothing at all is done by tokenizers that mark spaces in their normalizer.
      guard json["model"]?["byte_fallback"]?.boolValue == true else { throw bad(.noPart("pre_tokenizer")) }
      return result
    }
    for part in value["type"]?.stringValue == "Sequence" ? value["pretokenizers"]?.arrayValue ?? [] : [value]
    {
      guard result.alphabet == .characters else {
        throw bad(
          .unsupported(
            "pre_tokenizer \(part["type"]?.stringValue ?? "?") after ByteLevel is not supported"))
      }
      switch part["type"]?.stringValue {
      case "Digits":
        guard part["individual_digits"]?.boolValue == true else {
          throw bad(.unsupported("pre_tokenizer Digits without individual_digits is not supported"))
        }
        result.steps.append(.split(.digits))
      case "Split": result.steps.append(try split(part))
      case "Metaspace": result.steps.append(.metaspace(try metaspace(part)))
      case "ByteLevel":
        result.alphabet = .bytes
        if part["add_prefix_space"]?.boolValue ?? true { result.steps.append(.spaceBefore) }
        if part["use_regex"]?.boolValue ?? true { result.steps.append(.split(.gpt2)) }
      case let type: throw bad(.unsupported("pre_tokenizer \(type ?? "?") is not supported"))
      }
    }
    return result
  }

  private func split(_ part: JSONValue) throws -> PreTokenizer.Step {
    let behavior = part["behavior"]?.stringValue ?? "?"
    guard behavior == "Isolated", part["invert"]?.boolValue != true else {
      throw bad(.unsupported("pre_tokenizer Split with behavior \(behavior) is not supported"))
    }
    if let text = part["pattern"]?["String"]?.stringValue, !text.isEmpty {
      return .literals(PreTokenizer.Literals([Array(text.utf8)]))
    }
    if let pattern = part["pattern"]?["Regex"]?.stringValue {
      if let known = Self.patterns[pattern] { return .split(known) }
      if let literals = Self.literals(pattern), Self.isLongestFirst(literals) {
        return .literals(PreTokenizer.Literals(literals))
      }
    }
    throw bad(
      .unsupported("pre_tokenizer pattern \(part["pattern"]?.serialized() ?? "?") is not one of those known"))
  }

  /// Whether the first alternative that fits is also the longest one.
  private static func isLongestFirst(_ literals: [[UInt8]]) -> Bool {
    var earlier: Set<[UInt8]> = []
    for literal in literals {
      if literal.count > 256
        || (1..<max(1, literal.count)).contains(where: { earlier.contains(Array(literal[..<$0])) })
      {
        return false
      }
      earlier.insert(literal)
    }
    return true
  }

  private func metaspace(_ part: JSONValue) throws -> PreTokenizer.Metaspace {
    let replacement = Array((part["replacement"]?.stringValue ?? "\u{2581}").utf8)
    let name =
      part["prepend_scheme"]?.stringValue
      ?? (part["add_prefix_space"]?.boolValue ?? true ? "always" : "never")
    guard !replacement.isEmpty, let prepending = PreTokenizer.Metaspace.Prepending(rawValue: name) else {
      throw bad(.unsupported("Metaspace with prepend_scheme \(name) is not supported"))
    }
    return PreTokenizer.Metaspace(
      replacement: replacement, prepending: prepending, splits: part["split"]?.boolValue ?? true)
  }

  private static let patterns: [ByteText: SplitPattern] = Dictionary(
    uniqueKeysWithValues: [.cl100k(digits: 3), .cl100k(digits: 1), .gpt2].map {
      ($0.regularExpression.bytes, $0)
    })
}
