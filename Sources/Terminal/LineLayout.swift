/// A prompt and the text after it, cut into the rows of a screen.
///
/// Rows end where the screen does, at line feeds, and one column early where a wide character would be split. A full last row with
/// the cursor behind it is followed by an empty one, where the cursor then stands.
package struct LineLayout: Equatable, Sendable {
  package struct Row: Equatable, Sendable {
    /// What is written, the prompt's style included.
    package var text = ""
    /// Columns it takes.
    package var columns = 0
    /// Columns of each of its characters.
    package var widths: [Int] = []
  }
  package private(set) var rows = [Row()]
  package private(set) var cursorRow = 0
  package private(set) var cursorColumn = 0
  /// Columns of the screen.
  package let columns: Int

  /// - Parameters:
  ///   - prompt: stands before the text, in `style`.
  ///   - cursor: index of the character that the cursor stands on, `characters.count` behind all; nil: there is none.
  package init(
    prompt: String, style: TextStyle = .plain, characters: [Character], cursor: Int? = nil, columns: Int
  ) {
    self.columns = max(2, columns)
    rows[0].text = style.start
    for character in prompt { append(character) }
    rows[rows.count - 1].text += style.end
    for (index, character) in characters.enumerated() {
      if index == cursor { placeCursor(before: character) }
      append(character)
    }
    if cursor == characters.count { placeCursor(before: nil) }
  }

  private mutating func append(_ character: Character) {
    if character == "\n" {
      rows.append(Row())
      return
    }
    let (shown, width) = LineLayout.shown(character)
    if rows[rows.count - 1].columns + width > columns { rows.append(Row()) }
    rows[rows.count - 1].text += shown
    rows[rows.count - 1].columns += width
    rows[rows.count - 1].widths.append(width)
  }

  /// The cursor stands where `next` will be drawn.
  private mutating func placeCursor(before next: Character?) {
    let width = next.map { $0 == "\n" ? 1 : LineLayout.shown($0).width } ?? 1
    let isFull = rows[rows.count - 1].columns + max(1, width) > columns
    if isFull && next == nil { rows.append(Row()) }
    // Before a character that no longer fits, the cursor is where that character goes: the next row's start.
    let moves = isFull && next != nil && next != "\n"
    cursorRow = rows.count - 1 + (moves ? 1 : 0)
    cursorColumn = moves ? 0 : min(rows[rows.count - 1].columns, columns - 1)
  }

  private static func shown(_ character: Character) -> (text: String, width: Int) {
    if character == "\t" { return ("    ", 4) }
    return (String(character), TextWidth.of(character))
  }
}
