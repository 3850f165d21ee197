/// Draws the line being edited, over what it drew before.
///
/// All positions are relative: the block of rows begins wherever the cursor was, and scrolls up when it reaches the bottom of the
/// screen. A block taller than the screen shows the rows around the cursor.
package struct LineRenderer: Sendable {
  /// Columns of the rows on the screen, and where among them the cursor is.
  private var drawnColumns: [Int] = []
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
    drawnColumns = visible.map(\.columns)
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
    drawnColumns = []
    (cursorRow, cursorColumn) = (0, 0)
  }

  /// The screen has another width. Terminals break rows that became too long, which moves the cursor down; those that cut
  /// them instead lose as many rows above the line as it had too long ones.
  package mutating func resized(columns: Int) {
    let columns = max(1, columns)
    let above = drawnColumns.prefix(cursorRow).reduce(0) { $0 + max(1, ($1 + columns - 1) / columns) }
    cursorRow = above + cursorColumn / columns
    drawnColumns = []
    cursorColumn = 0
  }

  private var toStart: String { "\r" + LineRenderer.up(cursorRow) }

  private static func up(_ rows: Int) -> String { rows > 0 ? "\u{1B}[\(rows)A" : "" }
}
