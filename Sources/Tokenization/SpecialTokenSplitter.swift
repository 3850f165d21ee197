/// A token that is recognized in text before anything else happens to it.
struct AddedToken: Sendable {
  var id: Int
  var bytes: [UInt8]
  var isSpecial = true
  /// Swallows white space to its left, its right.
  var stripsLeft = false
  var stripsRight = false
  /// Only between characters that are not letters, numbers or underscores.
  var isWholeWord = false
}

/// Finds added tokens in text: leftmost, then longest.
struct SpecialTokenSplitter: Sendable {
  /// Tokens by first byte, longest first.
  private var byFirstByte: [[AddedToken]] = Array(repeating: [], count: 256)
  /// Whether any token starts with the byte.
  private var canStart = [Bool](repeating: false, count: 256)
  let isEmpty: Bool

  init(_ tokens: [AddedToken]) {
    isEmpty = tokens.allSatisfy { $0.bytes.isEmpty }
    for token in tokens where !token.bytes.isEmpty { byFirstByte[Int(token.bytes[0])].append(token) }
    for i in 0..<256 { canStart[i] = !byFirstByte[i].isEmpty }
    for i in byFirstByte.indices { byFirstByte[i].sort { $0.bytes.count > $1.bytes.count } }
  }

  enum Segment {
    case text(Range<Int>)
    case token(Int)
  }

  /// Calls `body` with the segments of `text` in order; text segments are not empty.
  func forEachSegment(of text: UnsafeBufferPointer<UInt8>, _ body: (Segment) -> Void) {
    guard !isEmpty else {
      if !text.isEmpty { body(.text(0..<text.count)) }
      return
    }
    canStart.withUnsafeBufferPointer { canStart in
      forEachSegment(of: text, canStart, body)
    }
  }

  private func forEachSegment(
    of text: UnsafeBufferPointer<UInt8>, _ canStart: UnsafeBufferPointer<Bool>, _ body: (Segment) -> Void
  ) {
    var start = 0
    var i = 0
    while i < text.count {
      if !canStart[Int(text[i])] {
        i += 1
        continue
      }
      guard let token = match(text, at: i, from: start) else {
        i += 1
        continue
      }
      var left = i
      var right = i + token.bytes.count
      if token.stripsLeft { left = strippedLeft(text, from: left, downTo: start) }
      if token.stripsRight { right = strippedRight(text, from: right) }
      if left > start { body(.text(start..<left)) }
      body(.token(token.id))
      start = right
      i = right
    }
    if start < text.count { body(.text(start..<text.count)) }
  }

  @inline(__always)
  private func match(_ text: UnsafeBufferPointer<UInt8>, at index: Int, from start: Int) -> AddedToken? {
    byFirstByte[Int(text[index])].first { token in
      guard index + token.bytes.count <= text.count else { return false }
      for j in 0..<token.bytes.count where text[index + j] != token.bytes[j] { return false }
      return !token.isWholeWord || isAlone(text, index..<index + token.bytes.count)
    }
  }

  private func isAlone(_ text: UnsafeBufferPointer<UInt8>, _ range: Range<Int>) -> Bool {
    CharacterClasses.withTable { table in
      let cursor = TextCursor(bytes: text, table: table)
      func isWord(_ index: Int) -> Bool {
        guard let c = cursor.character(at: index) else { return false }
        return c.kind == .letter || c.kind == .number || c.value == 0x5F
      }
      if range.lowerBound > 0, isWord(characterStart(text, before: range.lowerBound)) { return false }
      return !isWord(range.upperBound)
    }
  }

  private func characterStart(_ text: UnsafeBufferPointer<UInt8>, before index: Int) -> Int {
    var i = index - 1
    while i > 0 && text[i] & 0xC0 == 0x80 { i -= 1 }
    return i
  }

  private func strippedLeft(_ text: UnsafeBufferPointer<UInt8>, from index: Int, downTo start: Int) -> Int {
    CharacterClasses.withTable { table in
      let cursor = TextCursor(bytes: text, table: table)
      var left = index
      while left > start {
        let previous = characterStart(text, before: left)
        guard let c = cursor.character(at: previous), c.kind.isWhitespace else { break }
        left = previous
      }
      return left
    }
  }

  private func strippedRight(_ text: UnsafeBufferPointer<UInt8>, from index: Int) -> Int {
    CharacterClasses.withTable { table in
      let cursor = TextCursor(bytes: text, table: table)
      var right = index
      while let c = cursor.character(at: right), c.kind.isWhitespace { right = c.next }
      return right
    }
  }
}
