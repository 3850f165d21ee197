import CSignals
import Foundation

/// Standard input, output or error failed.
package struct StandardStreamError: DiagnosedError, Equatable {
  package enum Reason: Equatable, Sendable {
    /// Reading failed with this `errno`.
    case cannotRead(Int32)
    /// Writing failed with this `errno`: the disk is full, the stream is closed, or nobody reads the pipe any more.
    case cannotWrite(Int32)
  }
  package var reason: Reason
  /// The stream, for example `standard output`.
  package var stream: String

  package init(_ reason: Reason, stream: String) {
    self.reason = reason
    self.stream = stream
  }

  package var category: FailureCategory { .inputOutput }

  package var description: String {
    switch reason {
    case .cannotRead(let code): "\(stream) cannot be read: \(String(cString: strerror(code)))"
    case .cannotWrite(EBADF): "\(stream) is closed, but there is something to write to it"
    case .cannotWrite(EPIPE): "\(stream) cannot be written: the program that read it has ended"
    case .cannotWrite(let code): "\(stream) cannot be written: \(String(cString: strerror(code)))"
    }
  }
}

/// Standard output and standard error. All that the tools print goes through here: a stream that cannot be written gives an error
/// like any other, and never a signal or a trap.
package struct StandardStream: Sendable {
  package static let output = StandardStream(descriptor: STDOUT_FILENO, name: "standard output")
  package static let error = StandardStream(descriptor: STDERR_FILENO, name: "standard error")

  package let descriptor: Int32
  package let name: String

  package init(descriptor: Int32, name: String) {
    self.descriptor = descriptor
    self.name = name
  }

  package var isTerminal: Bool { isatty(descriptor) == 1 }

  /// Writes all of `text`, and returns when the system has taken it.
  package func write(_ text: String) throws(StandardStreamError) {
    var text = text
    let failure = text.withUTF8 { put(UnsafeRawBufferPointer($0)) }
    if failure != 0 { throw StandardStreamError(.cannotWrite(failure), stream: name) }
  }

  /// Writes `text` if it can be written: for logs, progress and remarks, without which the work goes on.
  package func writeIfPossible(_ text: String) {
    var text = text
    _ = text.withUTF8 { put(UnsafeRawBufferPointer($0)) }
  }

  /// - Returns: 0, or the `errno` of the write that failed.
  private func put(_ bytes: UnsafeRawBufferPointer) -> Int32 {
    var rest = bytes[...]
    while !rest.isEmpty {
      let piece = UnsafeRawBufferPointer(rebasing: rest)
      let count = Foundation.write(descriptor, piece.baseAddress, piece.count)
      if count >= 0 {
        rest = rest.dropFirst(count)
      } else if errno == EAGAIN || errno == EWOULDBLOCK {
        // Whoever shares the stream has made it non-blocking.
        var waiting = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
        _ = poll(&waiting, 1, -1)
      } else if errno != EINTR {
        return errno
      }
    }
    return 0
  }

  /// Opens /dev/null in place of standard streams that are closed, so that no file opened later gets their numbers; writing to
  /// them fails as before. To be called before anything else is opened.
  package static func reopenClosed() { zn_reopen_closed_standard_streams() }
}

/// Standard input.
package enum StandardInput {
  private static let name = "standard input"

  /// Everything up to its end.
  package static func readToEnd() throws(StandardStreamError) -> [UInt8] {
    var all: [UInt8] = []
    while let more = try next() { all += more }
    return all
  }

  /// Calls `body` with each line as it arrives, without its line feed. What follows the last line feed is a line too, unless it
  /// is empty.
  package static func forEachLine(_ body: ([UInt8]) throws -> Void) throws {
    var line: [UInt8] = []
    while let more = try next() {
      var rest = more[...]
      while let end = rest.firstIndex(of: UInt8(ascii: "\n")) {
        try body(line + rest[..<end])
        line = []
        rest = rest[(end + 1)...]
      }
      line += rest
    }
    if !line.isEmpty { try body(line) }
  }

  /// The bytes that are there, after waiting for some; nil at the end.
  private static func next() throws(StandardStreamError) -> [UInt8]? {
    var bytes = [UInt8](repeating: 0, count: 1 << 16)
    while true {
      let count = read(STDIN_FILENO, &bytes, bytes.count)
      if count > 0 { return Array(bytes[..<count]) }
      if count == 0 { return nil }
      if errno == EAGAIN || errno == EWOULDBLOCK {
        var waiting = pollfd(fd: STDIN_FILENO, events: Int16(POLLIN), revents: 0)
        _ = poll(&waiting, 1, -1)
      } else if errno != EINTR {
        throw StandardStreamError(.cannotRead(errno), stream: name)
      }
    }
  }
}
