import CKernels
import Foundation
import Synchronization

/// Persistent threads that run the iterations of a loop.
///
/// Threads split outputs, never sums, so results do not depend on how many there are. A worker spins briefly for the
/// next loop and then sleeps. The caller works too, and never waits for a worker that has not joined: when another
/// process holds a worker's core, the caller does the work itself.
package final class WorkerPool: @unchecked Sendable {
  /// Threads that take part, the caller included.
  package let threadCount: Int

  // The loop under way. Written by the caller while no worker is active.
  private var body: ((Int) -> Void)?
  private var taskCount = 0
  private let nextTask = Atomic<Int>(0)
  /// Bits 32...: generation; bit 31: open to join; bits 0...30: workers inside.
  private let state = Atomic<UInt64>(0)
  private static let openBit: UInt64 = 1 << 31
  private static let activeMask: UInt64 = openBit - 1

  private let sleepers = Atomic<Int>(0)
  private let callerLock = Mutex<Void>(())
  private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
  private let condition = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
  private var threads: [Thread] = []

  /// About 20 µs on a current core: longer than the gap between two loops of one token, short enough to be polite.
  private static let spinCount = 2_000

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

  package init(threads count: Int) {
    threadCount = max(1, count)
    pthread_mutex_init(mutex, nil)
    pthread_cond_init(condition, nil)
    for index in 1..<max(1, threadCount) {
      let worker = Worker(pool: self)
      let thread = Thread { worker.run() }
      thread.name = "zhinao-worker-\(index)"
      thread.stackSize = 1 << 20
      thread.start()
      threads.append(thread)
    }
  }

  /// Runs `body(0)` … `body(taskCount - 1)`, each once, and returns when all are done.
  ///
  /// Called from inside a task, or while another thread is using the pool, it runs the loop on the calling thread.
  package func run(_ taskCount: Int, _ body: (Int) -> Void) {
    guard taskCount > 0 else { return }
    if threadCount == 1 || taskCount == 1 || WorkerPool.insideTask {
      for index in 0..<taskCount { body(index) }
      return
    }
    let ran = callerLock.withLockIfAvailable { _ in
      withoutActuallyEscaping(body) { dispatch(taskCount, $0) }
      return true
    }
    if ran == nil {
      for index in 0..<taskCount { body(index) }
    }
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

  private func dispatch(_ taskCount: Int, _ body: @escaping (Int) -> Void) {
    self.body = body
    self.taskCount = taskCount
    nextTask.store(0, ordering: .relaxed)
    let generation = (state.load(ordering: .relaxed) >> 32) &+ 1
    state.store(generation << 32 | WorkerPool.openBit, ordering: .sequentiallyConsistent)
    if sleepers.load(ordering: .sequentiallyConsistent) > 0 {
      pthread_mutex_lock(mutex)
      pthread_cond_broadcast(condition)
      pthread_mutex_unlock(mutex)
    }
    WorkerPool.setInsideTask(true)
    drain()
    WorkerPool.setInsideTask(false)
    // Close, then wait for those inside.
    state.bitwiseAnd(~WorkerPool.openBit, ordering: .acquiringAndReleasing)
    var spins = 0
    while state.load(ordering: .acquiring) & WorkerPool.activeMask != 0 {
      spins += 1
      if spins < 4_000 { zn_pause() } else { sched_yield() }
    }
    self.body = nil
  }

  private func drain() {
    let count = taskCount
    let body = self.body!
    while true {
      let task = nextTask.wrappingAdd(1, ordering: .relaxed).oldValue
      guard task < count else { return }
      body(task)
    }
  }

  private final class Worker: @unchecked Sendable {
    let pool: WorkerPool
    init(pool: WorkerPool) { self.pool = pool }

    func run() {
      WorkerPool.setInsideTask(true)
      var seen: UInt64 = 0
      while true {
        var current = pool.state.load(ordering: .acquiring)
        var spins = 0
        while current >> 32 == seen || current & WorkerPool.openBit == 0 {
          spins += 1
          if spins < WorkerPool.spinCount {
            zn_pause()
          } else {
            pool.sleep(seen: seen)
            spins = 0
          }
          current = pool.state.load(ordering: .acquiring)
        }
        let (joined, _) = pool.state.compareExchange(
          expected: current, desired: current + 1, ordering: .acquiringAndReleasing)
        guard joined else { continue }
        seen = current >> 32
        pool.drain()
        pool.state.subtract(1, ordering: .acquiringAndReleasing)
      }
    }
  }

  private func sleep(seen: UInt64) {
    pthread_mutex_lock(mutex)
    sleepers.add(1, ordering: .sequentiallyConsistent)
    while true {
      let current = state.load(ordering: .sequentiallyConsistent)
      if current >> 32 != seen && current & WorkerPool.openBit != 0 { break }
      pthread_cond_wait(condition, mutex)
    }
    sleepers.subtract(1, ordering: .sequentiallyConsistent)
    pthread_mutex_unlock(mutex)
  }

  // MARK: Whether this thread is already inside a task

  private static let insideKey: pthread_key_t = {
    var key = pthread_key_t()
    pthread_key_create(&key, nil)
    return key
  }()
  private static var insideTask: Bool { pthread_getspecific(insideKey) != nil }
  private static func setInsideTask(_ inside: Bool) {
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
