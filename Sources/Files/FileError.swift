import Foundation

/// A file that cannot be opened, read, created or written.
package struct FileError: DiagnosedError, Equatable {
  /// What is to be done about it, and with it the exit code.
  package enum Kind: Equatable, Sendable {
    /// The path does not exist, is not readable, or is of the wrong kind.
    case cannotOpen
    /// The output cannot be created, or the disk has no room.
    case cannotWrite
    /// A read, write, fsync or rename failed half-way.
    case inputOutput
    /// The content is not what the reader expects (also: larger than it accepts).
    case badContent
  }

  /// One case per rule. Tests match on this; people read `description`.
  package enum Reason: Equatable, Sendable {
    /// A call of the operating system failed with this `errno`; `free` is the room on a disk that is full.
    case system(action: String, code: Int32, free: UInt64?)
    /// A folder, a device or a pipe, where a file is needed.
    case notAnOrdinaryFile
    /// A symbolic link to a file that is not there.
    case danglingLink(target: String)
    /// The disk has less room than the output needs, in bytes.
    case noRoom(needed: Int, free: UInt64)
    /// Another process holds the lock of the output; `holder` says which, for example `process 4711`.
    case isBeingWritten(holder: String)
    /// A folder that exists may only be replaced when that was asked for.
    case folderNotEmpty
    /// There is a file where the folder should be.
    case notAFolder
    /// The folder cannot be made, in Foundation's words.
    case cannotCreate(String)
    /// More bytes than the reader accepts.
    case tooLarge(found: Int, limit: Int)
    /// Decompresses to more bytes than the reader accepts.
    case decompressesToTooMuch(limit: Int)
    /// The gzip stream ends before its end mark.
    case gzipIncomplete
    /// The gzip stream breaks its format at this byte, in zlib's words.
    case gzipInvalid(byteOffset: Int, String)
    /// zlib cannot begin or go on, for lack of memory.
    case gzipUnavailable(String)
    /// Something else where text is needed.
    case foreign(ForeignFormat)
    /// A rule of the caller's own, as the end of a sentence whose subject is the file.
    case refused(String)
  }
  package var kind: Kind
  package var reason: Reason
  package var path: String

  package init(_ kind: Kind, path: String, reason: Reason) {
    self.kind = kind
    self.reason = reason
    self.path = path
  }

  /// A rule of the caller's own.
  package init(_ kind: Kind, path: String, detail: String) {
    self.init(kind, path: path, reason: .refused(detail))
  }

  /// The error for the current `errno`. A full disk or a quota is `cannotWrite` whatever call reports it.
  package static func fromErrno(_ kind: Kind, path: String, doing action: String) -> FileError {
    let code = errno
    guard code == ENOSPC || code == EDQUOT else {
      return FileError(kind, path: path, reason: .system(action: action, code: code, free: nil))
    }
    let free = freeBytes(inFolder: PathParts(path).folder)
    return FileError(.cannotWrite, path: path, reason: .system(action: action, code: code, free: free))
  }

  package var category: FailureCategory {
    switch kind {
    case .cannotOpen: .cannotOpenInput
    case .cannotWrite: .cannotWrite
    case .inputOutput: .inputOutput
    case .badContent: .badInput
    }
  }

  package var description: String {
    if case .foreign(let format) = reason {
      return "\(path): is \(format.rawValue), which is not read; \(format.remedy(path: path))"
    }
    return "\(path): \(reason)"
  }
}

extension FileError.Reason: CustomStringConvertible {
  /// The end of a sentence whose subject is the file.
  package var description: String {
    switch self {
    case .system(let action, let code, let free):
      "\(action): \(String(cString: strerror(code)))"
        + (free.map { " (\($0) bytes free); make room and run the same command again" } ?? "")
    case .notAnOrdinaryFile: "is not an ordinary file"
    case .danglingLink(let target):
      "is a link to \(target), which is not there; copy the folder with what its links lead to (cp -rL), or fetch the file"
    case .noRoom(let needed, let free):
      "needs \(needed) bytes, the disk has \(free) free; make room and run the same command again"
    case .isBeingWritten(let holder): "\(holder) is writing it; wait until it ends, or stop it"
    case .folderNotEmpty: "exists and is not empty; remove it or pass --overwrite"
    case .notAFolder: "exists and is not a folder"
    case .cannotCreate(let why): "cannot create: \(why)"
    case .tooLarge(let found, let limit): "holds \(found) bytes, more than the \(limit) accepted"
    case .decompressesToTooMuch(let limit): "decompresses to more than the \(limit) bytes accepted"
    case .gzipIncomplete: "the gzip stream ends early; the file is incomplete"
    case .gzipInvalid(let offset, let why): "not a valid gzip stream at byte \(offset): \(why)"
    case .gzipUnavailable(let what): what
    case .foreign(let format): "is \(format.rawValue), which is not read"
    case .refused(let detail): detail
    }
  }
}

/// Free bytes on the file system that holds `folder`, or nil when it cannot be asked.
package func freeBytes(inFolder folder: String) -> UInt64? {
  var info = statvfs()
  guard statvfs(folder, &info) == 0 else { return nil }
  return UInt64(info.f_bavail) * UInt64(info.f_frsize)
}
