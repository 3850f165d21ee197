import Files
import Foundation

/// Writes text in the person's own editor.
enum ExternalEditor {
  /// `$VISUAL`, `$EDITOR`, or vi: a command line, as other tools read these variables.
  static func editor(environment: [String: String]) -> String {
    ["VISUAL", "EDITOR"].lazy.compactMap { environment[$0] }.first { !$0.isEmpty } ?? "vi"
  }

  /// - Returns: what was written, without line ends at its end.
  /// - Throws: ``FileError`` when the editor cannot run, fails, or leaves something that is no UTF-8 text.
  static func edit(_ text: String = "", environment: [String: String]) throws -> String {
    let folder = NSTemporaryDirectory()
    var name = Array("\(folder)/zhinao-chat-XXXXXX.txt".utf8CString)
    let descriptor = mkstemps(&name, 4)
    guard descriptor >= 0 else {
      throw FileError.fromErrno(.cannotWrite, path: folder, doing: "cannot create a file to edit")
    }
    let path = name.withUnsafeBufferPointer { String(cString: $0.baseAddress!) }
    defer { unlink(path) }
    let file = FileHandle(fileDescriptor: descriptor, closeOnDealloc: true)
    try file.write(contentsOf: Data(text.utf8))
    let command = editor(environment: environment)
    let status = try run(command, path)
    guard status == 0 else {
      throw FileError(.badContent, path: command, detail: "ended with \(status); nothing is sent")
    }
    guard let data = FileManager.default.contents(atPath: path),
      let written = String(data: data, encoding: .utf8)
    else { throw FileError(.badContent, path: path, detail: "is not UTF-8 text") }
    let end = written.lastIndex { !$0.isNewline }.map { written.index(after: $0) } ?? written.startIndex
    return String(written[..<end])
  }

  /// Runs the command on the terminal, in this process's group: Foundation's `Process` gives it its own, which may not read the
  /// terminal.
  private static func run(_ command: String, _ path: String) throws -> Int32 {
    let words: [String] = ["sh", "-c", command + " \"$1\"", "sh", path]
    let arguments: [UnsafeMutablePointer<CChar>?] = words.map { strdup($0) } + [nil]
    defer { for argument in arguments { free(argument) } }
    var attributes = posix_spawnattr_t()
    posix_spawnattr_init(&attributes)
    defer { posix_spawnattr_destroy(&attributes) }
    // Signals that this program ignores or blocks are the editor's own.
    var usual = sigset_t()
    var none = sigset_t()
    sigemptyset(&usual)
    sigemptyset(&none)
    for signal in [SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGPIPE, SIGTSTP, SIGCONT, SIGWINCH] {
      sigaddset(&usual, signal)
    }
    posix_spawnattr_setsigdefault(&attributes, &usual)
    posix_spawnattr_setsigmask(&attributes, &none)
    posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK))
    var child: pid_t = 0
    let failure = posix_spawn(&child, "/bin/sh", nil, &attributes, arguments, environ)
    guard failure == 0 else {
      throw FileError(.cannotOpen, path: "/bin/sh", detail: String(cString: strerror(failure)))
    }
    var status: Int32 = 0
    while waitpid(child, &status, 0) < 0 && errno == EINTR {}
    let signal = status & 0x7F
    return signal == 0 ? (status >> 8) & 0xFF : 128 + signal
  }
}
