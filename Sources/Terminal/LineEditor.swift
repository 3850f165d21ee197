/// Keys → edited text. Knows nothing of screens.
package struct LineEditor: Sendable {
  package enum Outcome: Equatable, Sendable {
    /// The text or the cursor may have changed.
    case editing
    /// Enter.
    case submitted(String)
    /// Ctrl-C on an empty line. On any other it clears the line.
    case interrupted
    /// Ctrl-D on an empty line.
    case ended
    /// Ctrl-Z.
    case suspended
    /// Ctrl-L.
    case clearScreen
  }
  package private(set) var buffer = LineBuffer()
  package private(set) var history: LineHistory

  package init(history: LineHistory = LineHistory()) { self.history = history }

  package mutating func apply(_ key: Key) -> Outcome {
    switch key {
    case .text(let text), .paste(let text): buffer.insert(text)
    case .newline: buffer.insert("\n")
    case .enter: return submit()
    case .backspace: buffer.deleteBackward()
    case .delete: buffer.deleteForward()
    case .left: buffer.moveLeft()
    case .right: buffer.moveRight()
    case .up: if !buffer.moveUp() { showOlder() }
    case .down: if !buffer.moveDown() { showNewer() }
    case .home: buffer.moveToLineStart()
    case .end: buffer.moveToLineEnd()
    case .wordLeft: buffer.moveWordLeft()
    case .wordRight: buffer.moveWordRight()
    case .altBackspace: buffer.cutAlphanumericWordBackward()
    case .alt(let letter): applyAlt(letter)
    case .control(let letter): return applyControl(letter)
    }
    return .editing
  }

  private mutating func applyControl(_ letter: Character) -> Outcome {
    switch letter {
    case "a": buffer.moveToLineStart()
    case "b": buffer.moveLeft()
    case "c": return clear()
    case "d":
      if buffer.isEmpty { return .ended }
      buffer.deleteForward()
    case "e": buffer.moveToLineEnd()
    case "f": buffer.moveRight()
    case "k": buffer.cutToLineEnd()
    case "l": return .clearScreen
    case "n": showNewer()
    case "p": showOlder()
    case "t": buffer.transpose()
    case "u": buffer.cutToLineStart()
    case "w": buffer.cutWordBackward()
    case "y": buffer.yank()
    case "z": return .suspended
    default: break
    }
    return .editing
  }

  private mutating func applyAlt(_ letter: Character) {
    switch letter {
    case "b", "B": buffer.moveWordLeft()
    case "f", "F": buffer.moveWordRight()
    case "d", "D": buffer.cutWordForward()
    default: break
    }
  }

  private mutating func submit() -> Outcome {
    let text = buffer.text
    buffer.replace(with: "")
    history.leave()
    return .submitted(text)
  }

  private mutating func clear() -> Outcome {
    defer { buffer.replace(with: "") }
    history.leave()
    return buffer.isEmpty ? .interrupted : .editing
  }

  /// Remembers a line that was entered.
  /// - Returns: whether it is new.
  package mutating func remember(_ line: String) -> Bool { history.add(line) }

  private mutating func showOlder() {
    if let line = history.older(current: buffer.text) { buffer.replace(with: line) }
  }

  private mutating func showNewer() {
    if let line = history.newer() { buffer.replace(with: line) }
  }
}
