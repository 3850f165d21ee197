import Foundation
import TestSupport
import Testing

/// A tool that runs with standard streams of the test's choice: full, closed, without a reader, or a terminal.
final class LaunchedTool {
  enum Stream {
    /// Kept in a file, to be looked at.
    case kept
    /// Every write fails with ENOSPC.
    case full
    /// There is no such descriptor.
    case closed
    /// A pipe whose reader has gone.
    case broken
    /// The slave of ``LaunchedTool/terminal``.
    case terminal
    /// A pipe that ``LaunchedTool/input`` writes to.
    case pipe
    /// Nothing to read.
    case empty
    /// Reading fails with EISDIR.
    case folder
  }
  let process: pid_t
  /// The master of the terminal; -1: there is none, or it was closed.
  private(set) var terminal: Int32 = -1
  /// Where the tool's standard input is written; -1: there is no such pipe, or it was closed.
  private(set) var input: Int32 = -1
  private let folder: TemporaryFolder

  init(
    _ name: String, _ arguments: [String], input: Stream = .empty, output: Stream = .kept,
    errors: Stream = .kept
  ) throws {
    folder = try TemporaryFolder()
    let tools = try #require(Bundle.main.executableURL).deletingLastPathComponent()
    let path = tools.appendingPathComponent(name).path
    var actions = posix_spawn_file_actions_t()
    posix_spawn_file_actions_init(&actions)
    defer { posix_spawn_file_actions_destroy(&actions) }
    var slave = ""
    if [input, output, errors].contains(.terminal) {
      // What posix_openpt, unlockpt and ptsname do; Swift does not import them.
      terminal = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC)
      var (unlock, number): (Int32, UInt32) = (0, 0)
      let (setLock, getNumber): (UInt, UInt) = (0x4004_5431, 0x8004_5430)
      try #require(ioctl(terminal, setLock, &unlock) == 0 && ioctl(terminal, getNumber, &number) == 0)
      slave = "/dev/pts/\(number)"
    }
    var opened: [Int32] = []
    defer { for descriptor in opened { close(descriptor) } }
    for (number, stream) in [(STDIN_FILENO, input), (STDOUT_FILENO, output), (STDERR_FILENO, errors)] {
      func redirect(_ path: String, _ flags: Int32) {
        posix_spawn_file_actions_addopen(&actions, number, path, flags, 0o600)
      }
      switch stream {
      case .kept: redirect(folder.file("\(number)"), O_WRONLY | O_CREAT)
      case .full: redirect("/dev/full", O_WRONLY)
      case .closed: posix_spawn_file_actions_addclose(&actions, number)
      case .terminal: redirect(slave, O_RDWR)
      case .empty: redirect("/dev/null", O_RDONLY)
      case .folder: redirect("/", O_RDONLY)
      case .broken, .pipe:
        // By name, so that no tool that another test starts meanwhile inherits an end.
        let path = folder.file("pipe\(number)")
        try #require(mkfifo(path, 0o600) == 0)
        let (reader, writer) = (
          open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC), open(path, O_WRONLY | O_CLOEXEC)
        )
        try #require(reader >= 0 && writer >= 0)
        if stream == .broken {
          posix_spawn_file_actions_adddup2(&actions, writer, number)
          close(reader)
          opened.append(writer)
        } else {
          _ = fcntl(reader, F_SETFL, 0)
          posix_spawn_file_actions_adddup2(&actions, reader, number)
          self.input = writer
          opened.append(reader)
        }
      }
    }
    // A session of its own, whose terminal is the first one it opens.
    var attributes = posix_spawnattr_t()
    posix_spawnattr_init(&attributes)
    defer { posix_spawnattr_destroy(&attributes) }
    let newSession: Int16 = 0x80
    posix_spawnattr_setflags(&attributes, newSession)
    let words: [UnsafeMutablePointer<CChar>?] = ([path] + arguments).map { strdup($0) } + [nil]
    defer { for word in words { free(word) } }
    var child: pid_t = 0
    let failure = posix_spawn(&child, path, &actions, &attributes, words, environ)
    try #require(failure == 0)
    process = child
  }

  deinit {
    closeTerminal()
    closeInput()
  }

  /// What was written to a stream that is kept.
  func text(of stream: Int32) -> String {
    (try? String(contentsOfFile: folder.file("\(stream)"), encoding: .utf8)) ?? ""
  }

  func write(_ text: String) {
    for byte in Array(text.utf8) {
      withUnsafeBytes(of: byte) { _ = Foundation.write(input, $0.baseAddress, 1) }
    }
  }

  func closeInput() {
    if input >= 0 { close(input) }
    input = -1
  }

  /// The window is closed: its processes get SIGHUP, and can no longer write to it.
  func closeTerminal() {
    if terminal >= 0 { close(terminal) }
    terminal = -1
  }

  /// Waits until `text` has appeared on the terminal.
  /// - Returns: false when the tool ended without it.
  func terminalShows(_ text: String) -> Bool {
    var shown: [UInt8] = []
    var bytes = [UInt8](repeating: 0, count: 4096)
    while String(decoding: shown, as: UTF8.self).range(of: text, options: .literal) == nil {
      let count = read(terminal, &bytes, bytes.count)
      guard count > 0 else { return false }
      shown += bytes[..<count]
    }
    return true
  }

  /// Stops the tool as soon as its handlers of signals are there.
  /// - Returns: whether it had not ended before.
  func stopWhenReady() -> Bool {
    while true {
      guard let status = try? String(contentsOfFile: "/proc/\(process)/status", encoding: .utf8),
        !status.contains("State:\tZ")
      else { return false }
      let mask = status.split(separator: "\n").first { $0.hasPrefix("SigCgt:") }?.split(separator: "\t").last
      if let mask, let bits = UInt64(mask, radix: 16), bits >> (UInt64(SIGHUP) - 1) & 1 == 1 { break }
      usleep(200)
    }
    kill(process, SIGSTOP)
    var status: Int32 = 0
    waitpid(process, &status, WUNTRACED)
    return status & 0xFF == 0x7F
  }

  /// Waits for the end; a tool that does not end within two minutes is killed.
  /// - Returns: the exit code, or 1000 and the number of the signal that ended the process.
  func end() -> Int32 {
    var status: Int32 = 0
    let deadline = Date() + 120
    while waitpid(process, &status, WNOHANG) == 0 {
      if Date() > deadline { kill(process, SIGKILL) }
      usleep(2000)
    }
    let signal = status & 0x7F
    return signal == 0 ? (status >> 8) & 0xFF : 1000 + signal
  }
}
