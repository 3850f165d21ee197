import Foundation

/// Temporary outputs are locked (flock) for as long as their process lives. A process killed with SIGKILL leaves its
/// temporary file behind, but not the lock, which tells it from one that is still being written: here, in another
/// container, or on another machine of a shared file system.
enum OutputLock {
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
  /// - Parameter output: the final name, for messages.
  /// - Throws: `FileError.cannotWrite` when it can't be made, or another process writes the same temporary file.
  static func openLocked(output: String, _ open: () -> Int32) throws -> Int32 {
    for attempt in 0..<50 {
      let descriptor = open()
      guard descriptor >= 0 else {
        throw FileError.fromErrno(.cannotWrite, path: output, doing: "cannot create")
      }
      if take(descriptor) {
        var status = stat()
        if fstat(descriptor, &status) == 0 && status.st_nlink > 0 { return descriptor }
      } else if attempt > 0 {
        usleep(20_000)
      }
      close(descriptor)
    }
    throw FileError(.cannotWrite, path: output, reason: .isBeingWritten)
  }

  /// Deletes `PREFIX.PID.tmp` in `folder`, files and folders that no living process holds.
  static func removeAbandoned(prefix: String, inFolder folder: String) {
    for name in (try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? [] {
      guard let process = name.bytes.dropping(prefix: prefix + ".")?.bytes.dropping(suffix: ".tmp"),
        !process.isEmpty, process.utf8.allSatisfy((UInt8(ascii: "0")...UInt8(ascii: "9")).contains)
      else { continue }
      let path = "\(folder)/\(name)"
      let descriptor = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC)
      guard descriptor >= 0 else { continue }
      // Without locks nobody can know: what is there stays.
      if flock(descriptor, LOCK_EX | LOCK_NB) == 0 { try? FileManager.default.removeItem(atPath: path) }
      close(descriptor)
    }
  }
}
