import Tokenization

/// What tokens are called in reports. A token may be a part of a character, which no text can name.
struct TokenNames {
  private let tokenizer: any Tokenizer
  private let byID: Bool
  private let bytesMarker: String

  /// - Parameters:
  ///   - byID: tokens are called `token_id:N`, as vLLM does.
  ///   - bytesMarker: what stands before the bytes of a token that is not text.
  init(_ tokenizer: any Tokenizer, byID: Bool, bytesMarker: String) {
    self.tokenizer = tokenizer
    self.byID = byID
    self.bytesMarker = bytesMarker
  }

  static func byID(_ id: Int) -> String { "token_id:\(id)" }

  /// The token's text, or its bytes as `\xe6\x98`.
  func name(of id: Int) -> String {
    guard !byID, let bytes = bytes(of: id) else { return TokenNames.byID(id) }
    let text = String(decoding: bytes, as: UTF8.self)
    if text.utf8.elementsEqual(bytes) { return text }
    return bytesMarker + bytes.map { "\\x" + ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
  }

  /// The token's text, with U+FFFD for what is not one.
  func text(of id: Int) -> String { String(decoding: bytes(of: id) ?? [], as: UTF8.self) }

  private func bytes(of id: Int) -> [UInt8]? {
    (try? tokenizer.bytes(of: id, skippingSpecials: false)).flatMap { $0 }
  }
}

/// A place in a text that comes in pieces which may end inside of a character, in Unicode scalars.
struct TextPosition {
  /// Whole characters so far.
  private(set) var scalars = 0
  private var pending: [UInt8] = []

  mutating func advance(_ bytes: [UInt8]) {
    pending += bytes
    count(pending.count - StreamingDetokenizer.unfinishedTail(of: pending))
  }

  /// The text before ends here: what is left of it has become replacement characters.
  mutating func finish() { count(pending.count) }

  private mutating func count(_ ready: Int) {
    scalars += String(decoding: pending[..<ready], as: UTF8.self).unicodeScalars.count
    pending.removeFirst(ready)
  }
}
