import Compute
import Foundation
import Synchronization

/// Work on a thread beside the caller's, one piece at a time: waiting for a disk while the cores compute.
final class SideTask: Sendable {
  private let failure = Mutex<(any Error)?>(nil)
  private let queue = DispatchQueue(label: "side task")

  /// Starts `work` once the piece before it is done. It gets no help from worker pools, whose threads are the caller's.
  /// - Throws: what the piece before it threw.
  func start(_ work: @escaping @Sendable () throws -> Void) throws {
    try wait()
    queue.async { [self] in
      do { try WorkerPool.withoutHelpers(work) } catch { failure.withLock { $0 = error } }
    }
  }

  /// Returns when all work is done.
  /// - Throws: what it threw.
  func wait() throws {
    queue.sync {}
    if let error = failure.withLock({ $0 }) { throw error }
  }
}
