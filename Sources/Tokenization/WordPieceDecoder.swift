import JSON

/// How ids become text again, as the decoder of `tokenizer.json` says.
struct WordPieceDecoder: Equatable, Sendable {
  /// Taken away where a token goes on; nil: never.
  private var prefix: [UInt8]?
  /// Whether spaces before punctuation and English contractions go.
  private var cleansUp: Bool

  /// Without a decoder, tokens stand with spaces between them.
  init(_ value: JSONValue, prefix: String, file: TokenizerJSON) throws {
    switch value["type"]?.stringValue {
    case "WordPiece":
      self.prefix = Array((value["prefix"]?.stringValue ?? "##").utf8)
      cleansUp = value["cleanup"]?.boolValue ?? true
    case nil where value.isNull: (self.prefix, cleansUp) = (nil, false)
    case let type:
      throw file.bad(
        .unsupported("decoder \(type ?? "?") with the model WordPiece is not supported (only WordPiece)"))
    }
  }

  private static let replacements = [
    (" .", "."), (" ?", "?"), (" !", "!"), (" ,", ","), (" ' ", "'"), (" n't", "n't"), (" 'm", "'m"),
    (" do not", " don't"), (" 's", "'s"), (" 've", "'ve"), (" 're", "'re"),
  ].map { ByteReplacement($0.0, $0.1) }

  /// The bytes that a token adds, at the start of a text or after another token.
  func bytes(of token: [UInt8], isFirst: Bool) -> [UInt8] {
    var bytes = token
    if !isFirst {
      if let prefix, !prefix.isEmpty, token.starts(with: prefix) {
        bytes = Array(token.dropFirst(prefix.count))
      } else if prefix?.isEmpty != true {
        bytes = [32] + token
      }
    }
    return cleansUp && bytes.contains(32) ? WordPieceDecoder.replacements.apply(bytes) : bytes
  }
}
