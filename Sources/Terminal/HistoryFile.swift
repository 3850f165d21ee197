import Files
import Foundation

/// Lines a person entered, kept from one session to the next: one a line, `\` as `\\` and line feeds as `\n`. Readable by its
/// owner only.
package struct HistoryFile: Sendable {
  package struct Failure: Error, CustomStringConvertible, Equatable {
    package var path: String
    package var detail: String
    package var description: String { "\(path): \(detail)" }
  }
  package let path: String
  /// Lines kept when the file is shortened; it is once it holds twice as many.
  private let limit: Int
  /// Bytes read of a file, from its end: more is not history.
  private static let longestFile = 16 << 20

  package init(path: String, limit: Int = 1000) {
    self.path = path
    self.limit = limit
  }

  /// Where state of this user belongs (XDG Base Directory Specification); nil without a home.
  package static func usualPath(environment: [String: String]) -> String? {
    if let state = environment["XDG_STATE_HOME"], state.bytes.hasPrefix("/") {
      return state + "/zhinao/chat_history"
    }
    guard let home = environment["HOME"], !home.isEmpty else { return nil }
    return home + "/.local/state/zhinao/chat_history"
  }

  /// The lines of the file, the oldest first; none when it does not exist. Bytes that are no text and control characters
  /// do not come back.
  package func load() throws -> [String] {
    guard FileManager.default.fileExists(atPath: path) else { return [] }
    guard let file = FileHandle(forReadingAtPath: path) else { throw failure("cannot be read") }
    defer { try? file.close() }
    let size = (try? file.seekToEnd()) ?? 0
    let start = size > UInt64(HistoryFile.longestFile) ? size - UInt64(HistoryFile.longestFile) : 0
    guard (try? file.seek(toOffset: start)) != nil, let bytes = try? file.readToEnd() ?? Data() else {
      throw failure("cannot be read")
    }
    let found = bytes.split(separator: 0x0A).map {
      HistoryFile.unescaped(String(decoding: $0, as: UTF8.self))
    }
    if found.count >= 2 * limit { try rewrite(Array(found.suffix(limit))) }
    return Array(found.suffix(limit))
  }

  /// Adds a line at the end. Several sessions may do so at once.
  package func append(_ line: String) throws {
    let folder = PathParts(path).folder
    if !folder.isEmpty {
      try? FileManager.default.createDirectory(
        atPath: folder, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
    }
    try write(HistoryFile.escaped(line) + "\n", to: path, flags: O_WRONLY | O_CREAT | O_APPEND)
  }

  private func rewrite(_ lines: [String]) throws {
    let temporary = "\(path).\(getpid()).tmp"
    defer { unlink(temporary) }
    let text = lines.map { HistoryFile.escaped($0) + "\n" }.joined()
    try write(text, to: temporary, flags: O_WRONLY | O_CREAT | O_TRUNC)
    guard rename(temporary, path) == 0 else { throw failure(String(cString: strerror(errno))) }
  }

  private func write(_ text: String, to path: String, flags: Int32) throws {
    let descriptor = open(path, flags | O_CLOEXEC, 0o600)
    guard descriptor >= 0 else { throw failure(String(cString: strerror(errno))) }
    defer { close(descriptor) }
    let bytes = Array(text.utf8)
    // One write, so that lines of several sessions do not mix.
    guard Foundation.write(descriptor, bytes, bytes.count) == bytes.count else {
      throw failure(String(cString: strerror(errno)))
    }
  }

  private func failure(_ detail: String) -> Failure { Failure(path: path, detail: detail) }

  private static func escaped(_ line: String) -> String {
    line.bytes.replacing("\\", with: "\\\\").bytes.replacing("\n", with: "\\n")
  }

  private static func unescaped(_ line: String) -> String {
    var text = ""
    var isEscaped = false
    for scalar in line.unicodeScalars {
      if isEscaped {
        text.unicodeScalars.append(scalar == "n" ? "\n" : scalar)
        isEscaped = false
      } else if scalar == "\\" {
        isEscaped = true
      } else {
        text.unicodeScalars.append(scalar)
      }
    }
    return PrintableText.pasted(text)
  }
}
