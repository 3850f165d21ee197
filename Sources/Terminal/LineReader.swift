import Foundation

/// Lets a person write and edit a line on a terminal.
package final class LineReader {
  package enum Input: Equatable, Sendable {
    case line(String)
    /// Ctrl-C on an empty line.
    case interrupted
    /// Ctrl-D on an empty line, or the terminal is gone.
    case ended
  }
  private let device: TerminalDevice
  private let isPlain: Bool
  private var editor: LineEditor
  private var decoder = KeyDecoder()
  private var renderer = LineRenderer()
  /// Keys that came after the end of the line, for the next one.
  private var waiting: [Key] = []
  /// Ctrl-Z was pressed, and the signal that the process goes on has not been seen yet.
  private var wasSuspended = false
  /// How long the rest of a key's bytes may take before a lone Esc is taken for one.
  private static let keyTimeout: Int32 = 50

  /// - Parameter isPlain: the terminal understands no control sequences: the system's own line editing is used.
  package init(device: TerminalDevice, history: LineHistory, isPlain: Bool = false) {
    self.device = device
    self.isPlain = isPlain
    editor = LineEditor(history: history)
  }

  /// Reads one line, from wherever the cursor is, and goes on below it.
  package func readLine(prompt: String, style: TextStyle = .plain) -> Input {
    if isPlain { return readPlainLine(prompt: prompt) }
    device.set(.editing)
    // The terminal marks what is pasted, so that its line ends do not send it.
    device.write("\u{1B}[?2004h")
    defer {
      device.write("\u{1B}[?2004l")
      device.set(.watching)
    }
    renderer.forget()
    draw(prompt, style)
    while true {
      while !waiting.isEmpty {
        let before = editor.buffer
        let outcome = editor.apply(waiting.removeFirst())
        if let input = conclude(outcome, before: before, prompt, style) { return input }
      }
      draw(prompt, style)
      switch device.next(timeout: decoder.isWaiting ? LineReader.keyTimeout : nil) {
      case .bytes(let bytes): waiting += decoder.feed(bytes)
      case .timeout: decoder.giveUp()
      case .resized: renderer.resized(columns: device.size.columns)
      case .continued:
        // After Ctrl-Z the line was drawn again already; after a stop from outside it was left behind.
        if !wasSuspended { renderer.forget() }
        wasSuspended = false
      case .closed: return .ended
      }
    }
  }

  private func readPlainLine(prompt: String) -> Input {
    device.set(.original)
    defer { device.set(.watching) }
    device.write(prompt)
    var line: [UInt8] = []
    while true {
      switch device.next() {
      case .bytes(let bytes):
        line += bytes
        // The system gives whole lines; one without an end was ended by Ctrl-D.
        guard line.last == 0x0A else { return .line(String(decoding: line, as: UTF8.self)) }
        return .line(String(decoding: line.dropLast(), as: UTF8.self))
      case .closed:
        device.write("\n")
        return .ended
      case .resized, .continued, .timeout: continue
      }
    }
  }

  /// Remembers a line for the arrow keys.
  /// - Returns: whether it is new.
  package func remember(_ line: String) -> Bool { editor.remember(line) }

  private func conclude(
    _ outcome: LineEditor.Outcome, before: LineBuffer, _ prompt: String, _ style: TextStyle
  )
    -> Input?
  {
    switch outcome {
    case .editing: return nil
    case .clearScreen:
      renderer.forget()
      device.write("\u{1B}[H\u{1B}[2J")
      return nil
    case .suspended:
      device.write("\u{1B}[?2004l\r\n")
      wasSuspended = true
      device.suspend()
      device.write("\u{1B}[?2004h")
      renderer.forget()
      return nil
    case .submitted(let text):
      finish(before, prompt, style)
      return .line(text)
    case .interrupted:
      finish(before, prompt, style)
      return .interrupted
    case .ended:
      finish(before, prompt, style)
      return .ended
    }
  }

  private func draw(_ prompt: String, _ style: TextStyle) {
    let size = device.size
    let layout = LineLayout(
      prompt: prompt, style: style, characters: editor.buffer.characters, cursor: editor.buffer.cursor,
      columns: size.columns)
    device.write(renderer.draw(layout, height: size.rows))
  }

  private func finish(_ buffer: LineBuffer, _ prompt: String, _ style: TextStyle) {
    let layout = LineLayout(
      prompt: prompt, style: style, characters: buffer.characters, columns: device.size.columns)
    device.write(renderer.finish(layout))
  }
}
