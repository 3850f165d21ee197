import Foundation
import Synchronization

/// Persistent threads that run the iterations of a loop, and the kernels that the iterations use.
///
/// Threads split outputs, never sums, and every instruction set gives the same bits, so results depend on neither. The threads
/// end with the pool.
package final class WorkerPool: @unchecked Sendable {
  /// Threads that take part, the caller included.
  package let threadCount: Int
  /// What computations on this pool use.
  package let kernels: Kernels

  package let crew: WorkerCrew
  /// Whether a thread is sharing a loop with the crew.
  private let isTaken = Atomic<Bool>(false)

  private static let sharedStorage = Mutex<WorkerPool?>(nil)

  /// The pool of this process, made on first use with as many threads as the process may run on.
  package static var shared: WorkerPool {
    sharedStorage.withLock { pool in
      if let pool { return pool }
      let made = WorkerPool(threads: availableProcessors())
      pool = made
      return made
    }
  }

  /// Replaces the shared pool; commands call it once, for `--threads`.
  package static func useShared(threads: Int) {
    let made = WorkerPool(threads: threads)
    sharedStorage.withLock { $0 = made }
  }

  package init(threads count: Int, kernels: Kernels = .best) {
    threadCount = max(1, count)
    self.kernels = kernels
    crew = WorkerCrew(workers: threadCount - 1)
  }

  deinit { crew.dismiss() }

  /// Runs `body(0)` … `body(taskCount - 1)`, each once, and returns when all are done.
  ///
  /// Called from inside a task, or while another thread is using the pool, it runs the loop on the calling thread.
  package func run(_ taskCount: Int, _ body: (Int) -> Void) {
    guard taskCount > 0 else { return }
    if threadCount == 1 || taskCount == 1 || WorkerPool.insideTask {
      for index in 0..<taskCount { body(index) }
      return
    }
    guard isTaken.compareExchange(expected: false, desired: true, ordering: .acquiring).exchanged else {
      for index in 0..<taskCount { body(index) }
      return
    }
    withoutActuallyEscaping(body) { crew.dispatch(taskCount, $0) }
    isTaken.store(false, ordering: .releasing)
  }

  /// Runs `body` over `0..<count` cut into ranges whose lengths are multiples of `grain` (but for the last).
  package func runRanges(_ count: Int, grain: Int = 1, _ body: (Range<Int>) -> Void) {
    guard count > 0 else { return }
    let grains = (count + grain - 1) / grain
    let tasks = min(grains, threadCount == 1 ? 1 : threadCount * 4)
    run(tasks) { task in
      let start = grains * task / tasks * grain
      let end = min(count, grains * (task + 1) / tasks * grain)
      if start < end { body(start..<end) }
    }
  }

  /// Runs `body` over `0..<count` cut into ranges that become shorter towards the end, so that threads end together: where
  /// memory sets the pace, long ranges are read fastest, and a thread that waits for the other's last range reads nothing.
  package func runShrinkingRanges(_ count: Int, _ body: (Range<Int>) -> Void) {
    guard count > 0 else { return }
    // Never more ranges than items.
    withUnsafeTemporaryAllocation(of: Int.self, capacity: count) { ends in
      var (tasks, end) = (0, 0)
      while end < count {
        end = WorkerPool.endOfNextRange(after: end, of: count, threads: threadCount)
        ends.initializeElement(at: tasks, to: end)
        tasks += 1
      }
      run(tasks) { task in body((task == 0 ? 0 : ends[task - 1])..<ends[task]) }
    }
  }

  private static func endOfNextRange(after end: Int, of count: Int, threads: Int) -> Int {
    end + (threads == 1 ? count : max(1, (count - end) / (2 * threads)))
  }

  /// Where range `index` of ``runShrinkingRanges(_:_:)`` ends.
  static func endOfRange(_ index: Int, of count: Int, threads: Int) -> Int {
    (0...index).reduce(0) { end, _ in min(count, endOfNextRange(after: end, of: count, threads: threads)) }
  }

  /// Tells threads that wait for the next loop what memory it will read, in ranges that shrink.
  package func announce(_ start: UnsafeRawPointer, bytes: Int) {
    if threadCount > 1 { crew.announce(start, bytes: bytes) }
  }

  /// Runs `body` so that loops in it stay on the calling thread: for work beside a thread that uses the pool.
  package static func withoutHelpers<Result>(_ body: () throws -> Result) rethrows -> Result {
    let wasInside = insideTask
    setInsideTask(true)
    defer { setInsideTask(wasInside) }
    return try body()
  }

  // MARK: Whether this thread is already inside a task

  private static let insideKey: pthread_key_t = {
    var key = pthread_key_t()
    pthread_key_create(&key, nil)
    return key
  }()
  static var insideTask: Bool { pthread_getspecific(insideKey) != nil }
  static func setInsideTask(_ inside: Bool) {
    pthread_setspecific(insideKey, inside ? UnsafeRawPointer(bitPattern: 1) : nil)
  }

  // MARK: How many threads make sense

  /// Processors this process may use: the affinity mask, lowered to the cgroup's CPU quota (rounded up).
  package static func availableProcessors() -> Int {
    var count = ProcessInfo.processInfo.activeProcessorCount
    if let quota = cgroupQuota() { count = min(count, max(1, Int(quota.rounded(.up)))) }
    return max(1, count)
  }

  /// CPUs' worth of time the cgroup (version 2, then 1) allows, or nil when there is no limit.
  private static func cgroupQuota() -> Double? {
    func words(_ path: String) -> [Substring]? {
      (try? String(contentsOfFile: path, encoding: .utf8))?.split(whereSeparator: \.isWhitespace)
    }
    if let fields = words("/sys/fs/cgroup/cpu.max"), fields.count == 2, let quota = Double(fields[0]),
      let period = Double(fields[1]), period > 0
    {
      return quota / period
    }
    if let quota = words("/sys/fs/cgroup/cpu/cpu.cfs_quota_us")?.first.flatMap({ Double($0) }), quota > 0,
      let period = words("/sys/fs/cgroup/cpu/cpu.cfs_period_us")?.first.flatMap({ Double($0) }), period > 0
    {
      return quota / period
    }
    return nil
  }
}
