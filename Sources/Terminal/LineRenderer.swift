/// Draws the line being edited, over what it drew before.
///
/// All positions are relative: the block of rows begins wherever the cursor was, and scrolls up when it reaches the bottom of the
/// screen. A block taller than the screen shows the rows around the cursor.
package struct LineRenderer: Sendable {
  /// Columns of each character of the rows on the screen, and where among them the cursor is.
  private var drawn: [[Int]] = []
  private var cursorRow = 0
  private var cursorColumn = 0

  package init() {}

  /// Bytes that show `layout`.
  /// - Parameter height: rows of the screen.
  package mutating func draw(_ layout: LineLayout, height: Int) -> String {
    let height = max(1, height)
    let first = max(0, min(layout.cursorRow - height / 2, layout.rows.count - height))
    let visible = layout.rows[first..<min(layout.rows.count, first + height)]
    // The cursor is hidden meanwhile, so that it is not seen jumping.
    var output = "\u{1B}[?25l" + toStart + "\u{1B}[J" + visible.map(\.text).joined(separator: "\r\n")
    let row = layout.cursorRow - first
    output += LineRenderer.up(visible.count - 1 - row) + "\r"
    if layout.cursorColumn > 0 { output += "\u{1B}[\(layout.cursorColumn)C" }
    drawn = visible.map(\.widths)
    (cursorRow, cursorColumn) = (row, layout.cursorColumn)
    return output + "\u{1B}[?25h"
  }

  /// Bytes that show all of `layout` for the last time and go on below it.
  package mutating func finish(_ layout: LineLayout) -> String {
    let output = toStart + "\u{1B}[J" + layout.rows.map(\.text).joined(separator: "\r\n") + "\r\n"
    forget()
    return output
  }

  /// Nothing of the line is on the screen: the next drawing starts where the cursor is.
  package mutating func forget() {
    drawn = []
    (cursorRow, cursorColumn) = (0, 0)
  }

  /// The screen has another width. Terminals break rows that became too long, which moves the cursor down; those that cut
  /// them instead lose as many rows above the line as it had too long ones.
  package mutating func resized(columns: Int) {
    var row = drawn.prefix(cursorRow).reduce(0) { $0 + LineRenderer.broken($1[...], columns).rows }
    if cursorRow < drawn.count {
      let own = drawn[cursorRow]
      var before = 0
      let left = own.prefix { width in
        defer { before += width }
        return before < cursorColumn
      }
      let part = LineRenderer.broken(left, columns)
      // The cursor goes with the character it stands on.
      let moves = left.count < own.count && part.used + own[left.count] > columns
      row += part.rows - 1 + (moves ? 1 : 0)
    }
    forget()
    cursorRow = row
  }

  /// Rows that characters of these widths need, and columns used of the last one. A wide character is never split.
  private static func broken(_ widths: ArraySlice<Int>, _ columns: Int) -> (rows: Int, used: Int) {
    widths.reduce(into: (rows: 1, used: 0)) { place, width in
      if place.used + width > columns { place = (place.rows + 1, 0) }
      place.used += width
    }
  }

  private var toStart: String { "\r" + LineRenderer.up(cursorRow) }

  private static func up(_ rows: Int) -> String { rows > 0 ? "\u{1B}[\(rows)A" : "" }
}
