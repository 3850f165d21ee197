import Foundation

/// Writes a file that appears whole or not at all: bytes go to a temporary file beside the target, which
/// `commit()` syncs and renames over it. Dropping the object without `commit()` removes the temporary file; one left by
/// a process that was killed is removed by the next that writes the same file.
package final class AtomicFile {
  package let path: String
  package let temporaryPath: String
  /// Bytes written so far, which is also the offset of the next byte.
  package private(set) var byteCount: Int = 0

  private var descriptor: Int32
  /// Keeps other processes from writing the same file meanwhile.
  private var lock: OutputLock?
  /// Writes pieces behind the caller's back, so that making the next piece and writing this one overlap.
  private let writer: BackgroundWriter

  /// - Parameters:
  ///   - expectedByteCount: when known, refused at once if the disk has less room.
  ///   - staysCached: the file will be read soon: its bytes go through the system's page cache.
  /// - Throws: ``FileError/Reason/cannotWrite``, also when another process is writing the same file.
  package init(path: String, expectedByteCount: Int? = nil, staysCached: Bool = false) throws {
    self.path = path
    let parts = PathParts(path)
    let temporaryPath = "\(path).\(getpid()).tmp"
    self.temporaryPath = temporaryPath
    lock = try OutputLock(output: path)
    OutputLock.removeAbandoned(prefix: parts.name, inFolder: parts.folder)
    if let expected = expectedByteCount, let free = freeBytes(inFolder: parts.folder), free < UInt64(expected)
    {
      throw FileError(.cannotWrite, path: path, reason: .noRoom(needed: expected, free: free))
    }
    descriptor = try OutputLock.openLocked(output: path) {
      open(temporaryPath, O_RDWR | O_CREAT | O_CLOEXEC, 0o644)
    }
    guard ftruncate(descriptor, 0) == 0 else {
      let error = FileError.fromErrno(.cannotWrite, path: path, doing: "cannot create")
      close(descriptor)
      throw error
    }
    writer = BackgroundWriter(
      descriptor: descriptor, filePath: staysCached ? nil : temporaryPath, path: path)
    PendingOutputs.add(temporaryPath)
  }

  deinit { discard() }

  package func write(_ bytes: UnsafeRawBufferPointer) throws {
    try writer.write(bytes)
    byteCount += bytes.count
  }

  package func write(_ bytes: [UInt8]) throws {
    try bytes.withUnsafeBytes { try write($0) }
  }

  package func write(_ text: String) throws { try write(Array(text.utf8)) }

  /// Appends zero bytes until `byteCount` is a multiple of `alignment`.
  package func pad(toMultipleOf alignment: Int) throws {
    let missing = (alignment - byteCount % alignment) % alignment
    if missing > 0 { try write([UInt8](repeating: 0, count: missing)) }
  }

  /// Overwrites bytes already written, for a preamble that is known only at the end.
  package func overwrite(at offset: Int, with bytes: [UInt8]) throws {
    precondition(offset >= 0 && offset + bytes.count <= byteCount, "overwrite beyond what was written")
    try bytes.withUnsafeBytes { try writer.overwrite(at: offset, with: $0) }
  }

  /// Makes the file visible under its name, on stable storage.
  /// - Parameter check: called with the path of the finished file before it gets its name; when it throws, it does not.
  package func commit(checking check: (_ temporaryPath: String) throws -> Void = { _ in }) throws {
    try writer.wait()
    try check(temporaryPath)
    guard fsync(descriptor) == 0 else {
      throw FileError.fromErrno(.inputOutput, path: path, doing: "cannot sync")
    }
    // Renamed while locked: closing first would let another process take the file for abandoned.
    guard rename(temporaryPath, path) == 0 else {
      throw FileError.fromErrno(.cannotWrite, path: path, doing: "cannot rename the finished file")
    }
    close(descriptor)
    descriptor = -1
    PendingOutputs.remove(temporaryPath)
    lock = nil
    try AtomicFile.syncFolder(PathParts(path).folder)
  }

  /// Forgets everything written. Safe to call twice and after `commit()`.
  package func discard() {
    guard descriptor >= 0 else {
      PendingOutputs.discard(temporaryPath)
      return
    }
    try? writer.wait()
    close(descriptor)
    descriptor = -1
    PendingOutputs.discard(temporaryPath)
    lock = nil
  }

  /// Writes `bytes` to `path` in one step.
  package static func write(_ bytes: [UInt8], to path: String) throws {
    let file = try AtomicFile(path: path, expectedByteCount: bytes.count)
    try file.write(bytes)
    try file.commit()
  }

  package static func write(_ text: String, to path: String) throws { try write(Array(text.utf8), to: path) }

  /// Makes the folder's entries durable.
  package static func syncFolder(_ folder: String) throws {
    let descriptor = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    guard descriptor >= 0 else {
      throw FileError.fromErrno(.inputOutput, path: folder, doing: "cannot open folder")
    }
    defer { close(descriptor) }
    guard fsync(descriptor) == 0 else {
      throw FileError.fromErrno(.inputOutput, path: folder, doing: "cannot sync folder")
    }
  }
}
