import Terminal

/// A cell that nothing was written to, not even a space.
private let blank = "\u{0}"

/// A terminal's screen, as far as the line editor uses one: what it shows after the bytes it was given.
struct ScreenModel {
  private(set) var rows: [[String]]
  private(set) var row = 0
  private(set) var column = 0
  private(set) var columns: Int
  private(set) var scrolledAway: [String] = []
  private let height: Int
  /// A character was written in the last column; the next one wraps.
  private var wrapsNext = false

  init(columns: Int, height: Int) {
    self.columns = columns
    self.height = height
    rows = Array(repeating: Array(repeating: blank, count: columns), count: height)
  }

  /// Rows as text, without what is empty at their ends and below.
  var lines: [String] {
    var lines = rows.map(ScreenModel.text)
    while lines.last == "" { lines.removeLast() }
    return lines
  }

  private static func text(_ row: [String]) -> String {
    var text = row.map { $0 == blank ? " " : $0 }.joined()
    while text.last == " " { text.removeLast() }
    return text
  }

  mutating func write(_ output: String) {
    var scalars = Array(output.unicodeScalars)[...]
    while let scalar = scalars.popFirst() {
      switch scalar {
      case "\r": (column, wrapsNext) = (0, false)
      case "\n": lineFeed()
      case "\u{1B}":
        precondition(scalars.popFirst() == "[", "only control sequences are used")
        var parameters = ""
        while let next = scalars.popFirst() {
          if next.value >= 0x40 {
            control(next, parameters)
            break
          }
          parameters.unicodeScalars.append(next)
        }
      default:
        // Joined code points are one character, as on terminals that know them.
        var run = String(scalar)
        while let next = scalars.first, next.value >= 0x20 {
          run.unicodeScalars.append(next)
          scalars.removeFirst()
        }
        for character in run { put(character) }
      }
    }
  }

  private mutating func control(_ final: Unicode.Scalar, _ parameters: String) {
    let number = max(1, Int(parameters) ?? 1)
    switch final {
    case "A": (row, wrapsNext) = (max(0, row - number), false)
    case "C": (column, wrapsNext) = (min(columns - 1, column + number), false)
    case "H": (row, column, wrapsNext) = (0, 0, false)
    case "J":
      let first = parameters == "2" ? 0 : row
      for r in first..<height {
        for c in 0..<columns where r > row || c >= column || parameters == "2" { rows[r][c] = blank }
      }
    case "m", "h", "l": break
    default: preconditionFailure("unexpected control sequence \(parameters)\(final)")
    }
  }

  private mutating func put(_ character: Character) {
    let width = TextWidth.of(character)
    if width == 0 {
      // Joins the character before it; the second column of a wide one is an empty string.
      let last = wrapsNext ? column : column - 1
      guard last >= 0 else { return }
      rows[row][last > 0 && rows[row][last].isEmpty ? last - 1 : last] += String(character)
      return
    }
    if wrapsNext || column + width > columns {
      column = 0
      lineFeed()
    }
    rows[row][column] = String(character)
    if width == 2 { rows[row][column + 1] = "" }
    column += width
    wrapsNext = column == columns
    if wrapsNext { column -= 1 }
  }

  private mutating func lineFeed() {
    wrapsNext = false
    if row + 1 < height {
      row += 1
      return
    }
    scrolledAway.append(ScreenModel.text(rows.removeFirst()))
    rows.append(Array(repeating: blank, count: columns))
  }

  /// What terminals do to rows that end in a line feed: those too long for the new width are broken.
  mutating func resize(columns new: Int) {
    var broken: [[String]] = []
    var place = (row: 0, column: 0)
    for (index, old) in rows.enumerated() {
      let used = (old.lastIndex { $0 != blank } ?? -1) + 1
      var start = 0
      repeat {
        var end = min(used, start + new)
        // A wide character goes to the next row whole.
        if end < used && old[end].isEmpty { end -= 1 }
        if index == row && column >= start && (column < end || end == used) {
          place = (broken.count, min(column - start, new - 1))
        }
        broken.append(Array(old[start..<end]) + Array(repeating: blank, count: new - (end - start)))
        start = end
      } while start < used
    }
    let above = max(0, place.row - height + 1)
    rows = Array(broken[above..<min(broken.count, above + height)])
    while rows.count < height { rows.append(Array(repeating: blank, count: new)) }
    (row, column, columns, wrapsNext) = (place.row - above, place.column, new, false)
  }
}

/// Keys in, screen out: what a person at a terminal of that size sees.
struct EditingSession {
  var editor: LineEditor
  var screen: ScreenModel
  var renderer = LineRenderer()
  var decoder = KeyDecoder()
  var outcomes: [LineEditor.Outcome] = []
  let height: Int
  let prompt: String

  init(prompt: String = "> ", columns: Int = 20, height: Int = 6, history: [String] = []) {
    editor = LineEditor(history: LineHistory(history))
    screen = ScreenModel(columns: columns, height: height)
    self.prompt = prompt
    self.height = height
    draw()
  }

  mutating func type(_ bytes: [UInt8]) {
    for key in decoder.feed(bytes) {
      let outcome = editor.apply(key)
      if outcome != .editing { outcomes.append(outcome) }
    }
    draw()
  }

  mutating func type(_ text: String) { type(Array(text.utf8)) }

  mutating func resize(columns: Int) {
    screen.resize(columns: columns)
    renderer.resized(columns: columns)
    draw()
  }

  private mutating func draw() {
    let layout = LineLayout(
      prompt: prompt, style: .green, characters: editor.buffer.characters, cursor: editor.buffer.cursor,
      columns: screen.columns)
    screen.write(renderer.draw(layout, height: height))
  }
}

let (left, right, up, down) = ("\u{1B}[D", "\u{1B}[C", "\u{1B}[A", "\u{1B}[B")

/// The byte of Ctrl and a letter.
func ctrl(_ letter: Character) -> String { String(Unicode.Scalar(letter.asciiValue! & 0x1F)) }
