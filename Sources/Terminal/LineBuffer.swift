/// Text being edited and the cursor in it. May hold line feeds. Every step moves over or removes whole grapheme clusters,
/// however many bytes they are.
package struct LineBuffer: Equatable, Sendable {
  package private(set) var characters: [Character] = []
  /// The cursor stands before this character; `0 ... characters.count`.
  package private(set) var cursor = 0
  /// What was last cut, for `yank()`.
  private var cutText = ""

  package init(_ text: String = "") { replace(with: text) }

  package var text: String { String(characters) }
  package var isEmpty: Bool { characters.isEmpty }

  package mutating func replace(with text: String) {
    characters = Array(text)
    cursor = characters.count
  }

  /// Inserts at the cursor. A combining mark joins the character before the cursor, as it would in a string.
  package mutating func insert(_ text: String) {
    let left = String(characters[..<cursor]) + text
    let whole = left + String(characters[cursor...])
    characters = Array(whole)
    cursor = min(left.count, characters.count)
  }

  // MARK: Moving

  package mutating func moveLeft() { cursor = max(0, cursor - 1) }
  package mutating func moveRight() { cursor = min(characters.count, cursor + 1) }
  package mutating func moveToLineStart() { cursor = lineStart }
  package mutating func moveToLineEnd() { cursor = lineEnd }
  package mutating func moveWordLeft() { cursor = wordStart(isPart: \.isWordPart) }
  package mutating func moveWordRight() { cursor = wordEnd }

  /// Moves to the line above, as near to the same character as it has; false when there is none.
  package mutating func moveUp() -> Bool {
    let column = cursor - lineStart
    guard lineStart > 0 else { return false }
    cursor = lineStart - 1
    cursor = min(lineStart + column, cursor)
    return true
  }

  /// Moves to the line below; false when there is none.
  package mutating func moveDown() -> Bool {
    let column = cursor - lineStart
    guard lineEnd < characters.count else { return false }
    cursor = lineEnd + 1
    cursor = min(cursor + column, lineEnd)
    return true
  }

  // MARK: Removing

  package mutating func deleteBackward() {
    guard cursor > 0 else { return }
    characters.remove(at: cursor - 1)
    cursor -= 1
  }

  package mutating func deleteForward() {
    if cursor < characters.count { characters.remove(at: cursor) }
  }

  /// To the line's end; at its end, the line feed.
  package mutating func cutToLineEnd() {
    let end = lineEnd
    cut(cursor..<(end == cursor ? min(cursor + 1, characters.count) : end))
  }

  package mutating func cutToLineStart() { cut(lineStart..<cursor) }

  /// The word before the cursor and the white space after it; words are what stands between white space.
  package mutating func cutWordBackward() { cut(wordStart { !$0.isWhitespace }..<cursor) }

  /// The same for words of letters and digits.
  package mutating func cutAlphanumericWordBackward() { cut(wordStart(isPart: \.isWordPart)..<cursor) }

  package mutating func cutWordForward() { cut(cursor..<wordEnd) }

  /// Inserts what was last cut.
  package mutating func yank() { insert(cutText) }

  /// Exchanges the characters around the cursor and moves on; at the end, the last two.
  package mutating func transpose() {
    guard characters.count >= 2, cursor > 0 else { return }
    let second = min(cursor, characters.count - 1)
    characters.swapAt(second - 1, second)
    cursor = second + 1
  }

  private mutating func cut(_ range: Range<Int>) {
    guard !range.isEmpty else { return }
    cutText = String(characters[range])
    characters.removeSubrange(range)
    cursor = range.lowerBound
  }

  // MARK: Places

  private var lineStart: Int {
    var place = cursor
    while place > 0 && characters[place - 1] != "\n" { place -= 1 }
    return place
  }

  private var lineEnd: Int {
    var place = cursor
    while place < characters.count && characters[place] != "\n" { place += 1 }
    return place
  }

  private func wordStart(isPart: (Character) -> Bool) -> Int {
    var place = cursor
    while place > 0 && !isPart(characters[place - 1]) { place -= 1 }
    while place > 0 && isPart(characters[place - 1]) { place -= 1 }
    return place
  }

  private var wordEnd: Int {
    var place = cursor
    while place < characters.count && !characters[place].isWordPart { place += 1 }
    while place < characters.count && characters[place].isWordPart { place += 1 }
    return place
  }
}

extension Character {
  fileprivate var isWordPart: Bool { isLetter || isNumber }
}
