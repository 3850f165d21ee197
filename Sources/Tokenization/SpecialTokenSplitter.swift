/// A token that is recognized in text before anything else happens to it.
package struct AddedToken: Sendable {
  var id: Int
  var bytes: [UInt8]
  var isSpecial = true
  /// Swallows white space to its left, its right.
  var stripsLeft = false
  var stripsRight = false
  /// Only between characters that are not part of a word.
  var isWholeWord = false
}

/// Finds added tokens in text: leftmost, then longest.
package struct SpecialTokenSplitter: Sendable {
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
    /// The range is the token's own, without white space that it swallows.
    case token(Int, Range<Int>)
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
    // As the tokenizers library does it: matches are found in the text as it is, and never overlap; one that does not count
    // hides the others in it; white space that one has swallowed can still be a token of its own.
    var start = 0
    var i = 0
    while i < text.count {
      guard canStart[Int(text[i])], let token = match(text, at: i) else {
        i += 1
        continue
      }
      let range = i..<i + token.bytes.count
      i = range.upperBound
      if token.isWholeWord && !isAlone(text, range) { continue }
      let left =
        token.stripsLeft ? strippedLeft(text, from: range.lowerBound, downTo: start) : range.lowerBound
      if left > start { body(.text(start..<left)) }
      body(.token(token.id, range))
      start = token.stripsRight ? strippedRight(text, from: range.upperBound) : range.upperBound
    }
    if start < text.count { body(.text(start..<text.count)) }
  }

  /// The longest token that stands at `index`.
  @inline(__always)
  private func match(_ text: UnsafeBufferPointer<UInt8>, at index: Int) -> AddedToken? {
    byFirstByte[Int(text[index])].first { token in
      guard index + token.bytes.count <= text.count else { return false }
      for j in 0..<token.bytes.count where text[index + j] != token.bytes[j] { return false }
      return true
    }
  }

  private func isAlone(_ text: UnsafeBufferPointer<UInt8>, _ range: Range<Int>) -> Bool {
    CharacterClasses.withTable { table in
      let cursor = TextCursor(bytes: text, table: table)
      func isWord(_ index: Int) -> Bool {
        cursor.character(at: index).map { CharacterClasses.isWord($0.value) } ?? false
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
