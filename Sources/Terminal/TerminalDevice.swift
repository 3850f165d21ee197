import Dispatch
import Foundation
import Synchronization

/// The terminal a person sits at: modes, size, bytes in and out.
package final class TerminalDevice: @unchecked Sendable {
  // Unchecked: what `mode` does not guard is set before the initializer returns.
  /// What the terminal does with keys.
  package enum Mode: Sendable {
    /// As it was found: lines are edited and echoed by the system.
    case original
    /// Every key is a byte to read, Ctrl-C and Ctrl-Z too.
    case editing
    /// Keys wait unseen; Ctrl-C and Ctrl-Z are signals. Line ends are written as usual.
    case watching
  }
  package enum Event: Equatable, Sendable {
    case bytes([UInt8])
    case resized
    /// The process was stopped and goes on: the screen may hold anything.
    case continued
    case timeout
    /// The terminal is gone.
    case closed
  }

  private let input: Int32
  private let output: Int32
  private let original: termios
  private let gone = Atomic(false)
  private let mode = Mutex(Mode.original)
  private var wakeUp: [Int32] = [-1, -1]
  private var sources: [any DispatchSourceSignal] = []

  /// Nil when input or output is not a terminal.
  package init?(input: Int32 = STDIN_FILENO, output: Int32 = STDOUT_FILENO) {
    var settings = termios()
    guard isatty(input) == 1, isatty(output) == 1, tcgetattr(input, &settings) == 0, pipe(&wakeUp) == 0
    else { return nil }
    self.input = input
    self.output = output
    original = settings
    for end in wakeUp { _ = fcntl(end, F_SETFL, O_NONBLOCK) }
    listen(SIGWINCH) { $0.wake(with: 1) }
    listen(SIGCONT) { device in
      // Whoever ran in between may have left other settings.
      device.mode.withLock { device.apply($0) }
      device.wake(with: 2)
    }
  }

  deinit {
    set(.original)
    for source in sources { source.cancel() }
    for end in wakeUp where end >= 0 { close(end) }
  }

  private func listen(_ number: Int32, _ action: @escaping @Sendable (TerminalDevice) -> Void) {
    let source = DispatchSource.makeSignalSource(signal: number, queue: DispatchQueue(label: "terminal"))
    source.setEventHandler { [weak self] in if let self { action(self) } }
    source.resume()
    sources.append(source)
  }

  private func wake(with byte: UInt8) {
    var byte = byte
    _ = Foundation.write(wakeUp[1], &byte, 1)
  }

  /// Whether the terminal was found to have gone: its window is closed, or its connection has ended.
  package var isGone: Bool { gone.load(ordering: .relaxed) }

  // MARK: Modes

  package func set(_ new: Mode) {
    mode.withLock { mode in
      guard mode != new else { return }
      mode = new
      apply(new)
    }
  }

  /// As it was found, for the end of a program that may come at any time: bracketed paste off, the cursor shown and below a
  /// line that is being edited.
  package func restore() {
    if mode.withLock({ $0 }) == .editing { write("\u{1B}[?2004l\u{1B}[?25h\n") }
    set(.original)
  }

  private func apply(_ mode: Mode) {
    var settings = original
    if mode != .original {
      settings.c_lflag &= ~tcflag_t(ICANON | ECHO | IEXTEN)
      // Without signals, Enter must stay distinct from Ctrl-J and flow control must not swallow keys.
      if mode == .editing { settings.c_lflag &= ~tcflag_t(ISIG) }
      settings.c_iflag &= ~tcflag_t(ICRNL | INLCR | IGNCR | IXON | ISTRIP | BRKINT)
      settings.c_oflag |= tcflag_t(OPOST | ONLCR)
      withUnsafeMutableBytes(of: &settings.c_cc) { characters in
        characters[Int(VMIN)] = 1
        characters[Int(VTIME)] = 0
        // Ctrl-\ would end the program and leave the terminal like this.
        characters[Int(VQUIT)] = 0
      }
    }
    // Not TCSAFLUSH: keys typed ahead stay.
    while tcsetattr(input, TCSADRAIN, &settings) != 0 && errno == EINTR {}
  }

  /// Columns and rows of the screen; 80 × 24 when it does not say.
  package var size: (columns: Int, rows: Int) {
    var size = winsize()
    guard ioctl(output, UInt(TIOCGWINSZ), &size) == 0, size.ws_col > 0, size.ws_row > 0 else {
      return (80, 24)
    }
    return (Int(size.ws_col), Int(size.ws_row))
  }

  // MARK: Bytes

  package func write(_ text: String) {
    var text = text
    text.withUTF8 { bytes in
      var done = 0
      while done < bytes.count {
        let count = Foundation.write(output, bytes.baseAddress! + done, bytes.count - done)
        if count < 0 && errno == EINTR { continue }
        guard count > 0 else {
          if count < 0 && errno == EIO { gone.store(true, ordering: .relaxed) }
          return
        }
        done += count
      }
    }
  }

  /// Waits for keys, or for the screen to change.
  /// - Parameter milliseconds: gives up after this long; nil: never.
  package func next(timeout milliseconds: Int32? = nil) -> Event {
    while true {
      var waiting = [
        pollfd(fd: wakeUp[0], events: Int16(POLLIN), revents: 0),
        pollfd(fd: input, events: Int16(POLLIN), revents: 0),
      ]
      let ready = poll(&waiting, 2, milliseconds ?? -1)
      if ready < 0 && errno == EINTR { continue }
      guard ready >= 0 else { return .closed }
      if ready == 0 { return .timeout }
      if waiting[0].revents != 0, let event = takeWakeUp() { return event }
      if waiting[1].revents != 0 {
        var bytes = [UInt8](repeating: 0, count: 4096)
        let count = read(input, &bytes, bytes.count)
        if count < 0 && (errno == EINTR || errno == EAGAIN) { continue }
        if count < 0 || waiting[1].revents & Int16(POLLHUP) != 0 { gone.store(true, ordering: .relaxed) }
        guard count > 0 else { return .closed }
        return .bytes(Array(bytes[..<count]))
      }
    }
  }

  /// Several changes at once are one event.
  private func takeWakeUp() -> Event? {
    var bytes = [UInt8](repeating: 0, count: 64)
    let count = read(wakeUp[0], &bytes, bytes.count)
    guard count > 0 else { return nil }
    return bytes[..<count].contains(2) ? .continued : .resized
  }

  /// Stops the process as Ctrl-Z does, and returns when it goes on.
  package func suspend() {
    let before = mode.withLock { $0 }
    set(.original)
    kill(0, SIGTSTP)
    set(before)
  }
}
