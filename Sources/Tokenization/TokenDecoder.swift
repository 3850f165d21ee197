/// How the texts of tokens become the text that they stand for, as the decoders of `tokenizer.json` do it.
enum TokenDecoder: Equatable, Sendable {
  /// Tokens are bytes, joined; then replacements in the text.
  case bytes([ByteReplacement])
  /// Steps that each make a list of texts from one; the last list is joined.
  case steps([Step])

  enum Step: Equatable, Sendable {
    case replace(ByteReplacement)
    /// `<0x41>` is a byte. Bytes in a row that are not valid UTF-8 become U+FFFD, one for each of them.
    case byteFallback
    case fuse
    /// Takes up to so many copies of `content` from both ends of each text.
    case strip(content: [UInt8], start: Int, end: Int)
    /// Spaces instead of their replacement, and none in the first token if `dropsFirst`.
    case metaspace([UInt8], dropsFirst: Bool)
  }

  /// - Parameter tokens: for ``bytes(_:)`` bytes, otherwise texts.
  func text(_ tokens: [[UInt8]]) -> String {
    switch self {
    case .bytes(let replacements):
      let text = String(decoding: tokens.joined(), as: UTF8.self)
      return replacements.isEmpty
        ? text : String(decoding: replacements.apply(Array(text.utf8)), as: UTF8.self)
    case .steps(let steps):
      return String(decoding: steps.reduce(tokens) { $1.apply($0) }.joined(), as: UTF8.self)
    }
  }

  /// The bytes that a token adds somewhere in a text.
  func bytes(of token: [UInt8]) -> [UInt8] {
    guard case .steps(let steps) = self else { return token }
    return steps.reduce(token) { token, step in
      switch step {
      case .replace(let replacement): replacement.apply(token)
      case .metaspace(let replacement, _): replacement.replaced(in: token, by: [32])
      case .byteFallback: TokenDecoder.byte(token).map { [$0] } ?? token
      case .fuse, .strip: token
      }
    }
  }

  /// The byte that a token of the form `<0x41>` names.
  static func byte(_ token: [UInt8]) -> UInt8? {
    guard token.count == 6, token.starts(with: "<0x".utf8), token[5] == UInt8(ascii: ">") else { return nil }
    return UInt8(String(decoding: token[3..<5], as: UTF8.self), radix: 16)
  }
}

extension TokenDecoder.Step {
  fileprivate func apply(_ tokens: [[UInt8]]) -> [[UInt8]] {
    switch self {
    case .replace(let replacement): return tokens.map(replacement.apply)
    case .fuse: return [Array(tokens.joined())]
    case .strip(let content, let start, let end):
      return tokens.map { token in
        var rest = token[...]
        for _ in 0..<start where rest.starts(with: content) { rest = rest.dropFirst(content.count) }
        for _ in 0..<end where rest.reversed().starts(with: content.reversed()) {
          rest = rest.dropLast(content.count)
        }
        return Array(rest)
      }
    case .metaspace(let replacement, let dropsFirst):
      return tokens.enumerated().map { index, token in
        replacement.replaced(in: token, by: index == 0 && dropsFirst ? [] : [32])
      }
    case .byteFallback:
      var result: [[UInt8]] = []
      var bytes: [UInt8] = []
      func flush() {
        if String(validating: bytes, as: UTF8.self) != nil {
          result.append(bytes)
        } else {
          result += bytes.map { _ in Array("\u{FFFD}".utf8) }
        }
        bytes = []
      }
      for token in tokens {
        if let byte = TokenDecoder.byte(token) {
          bytes.append(byte)
        } else {
          if !bytes.isEmpty { flush() }
          result.append(token)
        }
      }
      if !bytes.isEmpty { flush() }
      return result
    }
  }
}

extension [UInt8] {
  /// - Parameter self: not empty.
  fileprivate func replaced(in text: [UInt8], by content: [UInt8]) -> [UInt8] {
    ByteReplacement(pattern: self, content: content).apply(text)
  }
}
