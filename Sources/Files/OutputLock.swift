import Foundation
import Synchronization

/// The right of this process to write one output, held as long as the object lives: `.NAME.lock` beside the output, locked
/// (flock), with the process id in it. A second process is refused as soon as it asks. A lock file that a killed process left
/// behind is no longer locked, here, in another container, or on another machine of a shared file system; the next process
/// that writes the same output takes it over.
package final class OutputLock: Sendable {
  private let lockPath: String

  /// Locks of this process: a job holds one from its start to its end, and what writes the output for it takes it again.
  private static let held = Mutex<[String: (descriptor: Int32, holders: Int)]>([:])

  /// - Parameter output: file or folder to be written; the folder it is in exists.
  /// - Throws: ``FileError/Reason/cannotWrite`` when another process holds it, or the lock file cannot be made.
  package init(output: String) throws {
    let parts = PathParts(output)
    let folder = URL(fileURLWithPath: parts.folder).resolvingSymlinksInPath().path
    let lockPath = "\(folder)/.\(parts.name).lock"
    self.lockPath = lockPath
    try OutputLock.held.withLock { held in
      if held[lockPath] == nil {
        held[lockPath] = (try OutputLock.open(lockPath, output: output), 0)
        PendingOutputs.add(lockPath)
      }
      held[lockPath]?.holders += 1
    }
  }

  deinit {
    OutputLock.held.withLock { held in
      held[lockPath]?.holders -= 1
      guard let lock = held[lockPath], lock.holders == 0 else { return }
      held[lockPath] = nil
      // Deleted while locked, so that nobody takes a lock on a file without a name for one on the output.
      PendingOutputs.discard(lockPath)
      close(lock.descriptor)
    }
  }

  private static func open(_ lockPath: String, output: String) throws -> Int32 {
    let descriptor = try openLocked(
      output: output,
      { Foundation.open(lockPath, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0o644) },
      refusal: holder(of:))
    let text = Array("\(getpid()) \(hostName)\n".utf8)
    // Only a message lacks something if this fails.
    _ = ftruncate(descriptor, 0) == 0 ? pwrite(descriptor, text, text.count, 0) : 0
    return descriptor
  }

  private static var hostName: String {
    var name = [CChar](repeating: 0, count: 256)
    guard gethostname(&name, name.count - 1) == 0 else { return "" }
    return String(decoding: name.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
  }

  /// Who holds the lock file, as a process id and, when it is not this one, a machine; nil when it does not say yet.
  private static func holder(of descriptor: Int32) -> String? {
    var bytes = [UInt8](repeating: 0, count: 512)
    let count = pread(descriptor, &bytes, bytes.count, 0)
    guard count > 0, bytes[count - 1] == UInt8(ascii: "\n") else { return nil }
    let words = bytes[..<(count - 1)].split(separator: UInt8(ascii: " "), maxSplits: 1)
      .map { String(decoding: $0, as: UTF8.self) }
    guard let process = words.first.flatMap({ Int32($0) }) else { return nil }
    guard words.count == 2, words[1] != hostName else { return "process \(process)" }
    return "process \(process) on \(words[1])"
  }

  // MARK: Locks of files and folders

  /// Takes the lock without waiting.
  /// - Returns: false when another process holds it. A file system without locks counts as ours.
  static func take(_ descriptor: Int32) -> Bool {
    while flock(descriptor, LOCK_EX | LOCK_NB) != 0 {
      if errno == EINTR { continue }
      return errno != EWOULDBLOCK
    }
    return true
  }

  /// Opens what `open` makes, locked. Tries again when someone who took it for abandoned deletes it meanwhile.
  /// - Parameters:
  ///   - output: the final name, for messages.
  ///   - holder: who holds an opened file that is locked; while nobody can say, it tries again for a second.
  /// - Throws: `FileError.cannotWrite` when it can't be made, or another process holds it.
  static func openLocked(
    output: String, _ open: () -> Int32, refusal holder: (Int32) -> String? = { _ in nil }
  ) throws -> Int32 {
    func refused(_ holder: String) -> FileError {
      FileError(.cannotWrite, path: output, reason: .isBeingWritten(holder: holder))
    }
    for attempt in 0..<50 {
      let descriptor = open()
      guard descriptor >= 0 else {
        throw FileError.fromErrno(.cannotWrite, path: output, doing: "cannot create")
      }
      if take(descriptor) {
        var status = stat()
        if fstat(descriptor, &status) == 0 && status.st_nlink > 0 { return descriptor }
        close(descriptor)
        continue
      }
      let known = holder(descriptor)
      close(descriptor)
      if let known { throw refused(known) }
      if attempt > 0 { usleep(20_000) }
    }
    throw refused("another process")
  }

  /// Deletes `PREFIX.PID.tmp` in `folder`, files and folders that no living process holds.
  package static func removeAbandoned(prefix: String, inFolder folder: String) {
    for name in (try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? [] {
      guard let process = name.bytes.dropping(prefix: prefix + ".")?.bytes.dropping(suffix: ".tmp"),
        !process.isEmpty, process.utf8.allSatisfy((UInt8(ascii: "0")...UInt8(ascii: "9")).contains)
      else { continue }
      let path = "\(folder)/\(name)"
      let descriptor = Foundation.open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC)
      guard descriptor >= 0 else { continue }
      // Where the file system has no locks, the owner is unknown, so the file stays.
      if flock(descriptor, LOCK_EX | LOCK_NB) == 0 { try? FileManager.default.removeItem(atPath: path) }
      close(descriptor)
    }
  }
}
