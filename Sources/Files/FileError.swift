import Foundation

/// A file that cannot be opened, read, created or written.
package struct FileError: DiagnosedError, Equatable {
  package enum Reason: Equatable, Sendable {
    /// The path does not exist, is not readable, or is of the wrong kind.
    case cannotOpen
    /// The output cannot be created, or the disk has no room.
    case cannotWrite
    /// A read, write, fsync or rename failed half-way.
    case inputOutput
    /// The content is not what the reader expects (also: larger than it accepts).
    case badContent
  }
  package var reason: Reason
  package var path: String
  package var detail: String

  package init(_ reason: Reason, path: String, detail: String) {
    self.reason = reason
    self.path = path
    self.detail = detail
  }

  /// The error for the current `errno`. A full disk or a quota is `cannotWrite` whatever call reports it.
  package static func fromErrno(_ reason: Reason, path: String, doing action: String) -> FileError {
    let code = errno
    var reason = reason
    var advice = ""
    if code == ENOSPC || code == EDQUOT {
      reason = .cannotWrite
      if let free = freeBytes(inFolder: PathParts(path).folder) {
        advice = " (\(free) bytes free); make room and run the same command again"
      }
    }
    return FileError(reason, path: path, detail: "\(action): \(String(cString: strerror(code)))\(advice)")
  }

  package var category: FailureCategory {
    switch reason {
    case .cannotOpen: .cannotOpenInput
    case .cannotWrite: .cannotWrite
    case .inputOutput: .inputOutput
    case .badContent: .badInput
    }
  }

  package var description: String { "\(path): \(detail)" }
}

/// Free bytes on the file system that holds `folder`, or nil when it cannot be asked.
package func freeBytes(inFolder folder: String) -> UInt64? {
  var info = statvfs()
  guard statvfs(folder, &info) == 0 else { return nil }
  return UInt64(info.f_bavail) * UInt64(info.f_frsize)
}
