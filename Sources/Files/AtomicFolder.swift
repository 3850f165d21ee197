import Foundation

/// A folder that appears whole or not at all: files are made in `stagingPath`, a hidden sibling, which `commit()`
/// renames to `path`. Dropping the object without `commit()` removes the staging folder; one left by a process that was
/// killed is removed by the next that writes the same folder.
package final class AtomicFolder {
  package let path: String
  package let stagingPath: String
  private var committed = false
  /// Holds the lock of the staging folder.
  private var descriptor: Int32 = -1
  /// Keeps other processes from writing the same folder meanwhile.
  private var lock: OutputLock?

  /// - Parameter replacing: whether an existing folder at `path` may be replaced. An existing *empty* folder always
  ///   may.
  package init(path: String, replacing: Bool = false) throws {
    let trimmed = path.withoutTrailingSlashes
    self.path = trimmed
    let parent = PathParts(trimmed).folder
    let name = PathParts(trimmed).name
    let stagingPath = "\(parent)/.\(name).\(getpid()).tmp"
    self.stagingPath = stagingPath
    let manager = FileManager.default
    do {
      try manager.createDirectory(atPath: parent, withIntermediateDirectories: true)
    } catch {
      throw FileError(.cannotWrite, path: trimmed, detail: "cannot create: \(error.localizedDescription)")
    }
    lock = try OutputLock(output: trimmed)
    OutputLock.removeAbandoned(prefix: ".\(name)", inFolder: parent)
    AtomicFolder.restoreAside(name: name, inFolder: parent)
    if let existing = try? manager.contentsOfDirectory(atPath: trimmed), !existing.isEmpty, !replacing {
      throw FileError(
        .cannotWrite, path: trimmed, detail: "exists and is not empty; remove it or pass --overwrite")
    } else if manager.fileExists(atPath: trimmed)
      && (try? manager.contentsOfDirectory(atPath: trimmed)) == nil
    {
      throw FileError(.cannotWrite, path: trimmed, detail: "exists and is not a folder")
    }
    descriptor = try OutputLock.openLocked(output: trimmed) {
      mkdir(stagingPath, 0o755)
      return open(stagingPath, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    }
    PendingOutputs.add(stagingPath)
  }

  deinit { discard() }

  /// Where a file of the folder is to be written before `commit()`.
  package func stagedPath(_ name: String) -> String { "\(stagingPath)/\(name)" }

  package func commit() throws {
    try AtomicFile.syncFolder(stagingPath)
    let manager = FileManager.default
    if manager.fileExists(atPath: path) {
      // rename(2) replaces an empty folder only; move an old one aside first so that no moment shows a mixture.
      let aside = "\(stagingPath).old"
      try? manager.removeItem(atPath: aside)
      guard rename(path, aside) == 0 else {
        throw FileError.fromErrno(.cannotWrite, path: path, doing: "cannot replace")
      }
      guard rename(stagingPath, path) == 0 else {
        let error = FileError.fromErrno(.cannotWrite, path: path, doing: "cannot rename the finished folder")
        rename(aside, path)
        throw error
      }
      try? manager.removeItem(atPath: aside)
    } else if rename(stagingPath, path) != 0 {
      throw FileError.fromErrno(.cannotWrite, path: path, doing: "cannot rename the finished folder")
    }
    committed = true
    close(descriptor)
    descriptor = -1
    PendingOutputs.remove(stagingPath)
    lock = nil
    try AtomicFile.syncFolder(PathParts(path).folder)
  }

  package func discard() {
    guard !committed else { return }
    PendingOutputs.discard(stagingPath)
    if descriptor >= 0 { close(descriptor) }
    descriptor = -1
    lock = nil
  }

  /// What a process killed in the middle of `commit()` had put aside goes back to its name, or away if there is a new one.
  private static func restoreAside(name: String, inFolder parent: String) {
    let manager = FileManager.default
    for entry in (try? manager.contentsOfDirectory(atPath: parent)) ?? []
    where entry.bytes.hasPrefix(".\(name).") && entry.bytes.hasSuffix(".tmp.old") {
      guard let staging = entry.bytes.dropping(suffix: ".old").map({ "\(parent)/\($0)" }),
        !manager.fileExists(atPath: staging)
      else { continue }
      let aside = "\(parent)/\(entry)"
      if rename(aside, "\(parent)/\(name)") != 0 { try? manager.removeItem(atPath: aside) }
    }
  }
}
