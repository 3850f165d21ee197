import Foundation

/// A folder that appears whole or not at all: files are made in `stagingPath`, a hidden sibling, which `commit()`
/// renames to `path`. Dropping the object without `commit()` removes the staging folder.
package final class AtomicFolder {
  package let path: String
  package let stagingPath: String
  private var committed = false

  /// - Parameter replacing: whether an existing folder at `path` may be replaced. An existing *empty* folder always
  ///   may.
  package init(path: String, replacing: Bool = false) throws {
    var trimmed = path
    while trimmed.count > 1 && trimmed.hasSuffix("/") { trimmed.removeLast() }
    self.path = trimmed
    let parent = AtomicFile.folder(of: trimmed)
    let name = (trimmed as NSString).lastPathComponent
    stagingPath = "\(parent)/.\(name).\(getpid()).tmp"
    let manager = FileManager.default
    if let existing = try? manager.contentsOfDirectory(atPath: trimmed), !existing.isEmpty, !replacing {
      throw FileError(
        .cannotWrite, path: trimmed, detail: "exists and is not empty; remove it or pass --overwrite")
    } else if manager.fileExists(atPath: trimmed)
      && (try? manager.contentsOfDirectory(atPath: trimmed)) == nil
    {
      throw FileError(.cannotWrite, path: trimmed, detail: "exists and is not a folder")
    }
    try? manager.removeItem(atPath: stagingPath)
    do {
      try manager.createDirectory(atPath: stagingPath, withIntermediateDirectories: true)
    } catch {
      throw FileError(.cannotWrite, path: trimmed, detail: "cannot create: \(error.localizedDescription)")
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
    PendingOutputs.remove(stagingPath)
    try AtomicFile.syncFolder(AtomicFile.folder(of: path))
  }

  package func discard() {
    guard !committed else { return }
    PendingOutputs.discard(stagingPath)
  }
}
