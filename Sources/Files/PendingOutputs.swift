import Foundation
import Synchronization

/// The temporary files and folders of outputs under way, so that a command told to stop can remove them.
package enum PendingOutputs {
  private static let paths = Mutex<Set<ByteText>>([])

  static func add(_ path: String) { paths.withLock { _ = $0.insert(path.bytes) } }
  static func remove(_ path: String) { paths.withLock { _ = $0.remove(path.bytes) } }

  /// Deletes one pending output, if it is still pending.
  static func discard(_ path: String) {
    let known = paths.withLock { $0.remove(path.bytes) != nil }
    if known { try? FileManager.default.removeItem(atPath: path) }
  }

  /// Makes a scratch folder go away with the process, however it ends.
  package static func register(_ path: String) { add(path) }
  /// Deletes a scratch folder.
  package static func discardRegistered(_ path: String) { discard(path) }

  /// Deletes every pending output. Called on Ctrl-C and SIGTERM, just before the process ends.
  package static func discardAll() {
    for path in paths.withLock({ set in
      defer { set = [] }
      return set
    }) {
      try? FileManager.default.removeItem(atPath: path.text)
    }
  }
}
