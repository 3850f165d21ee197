import Foundation
import Synchronization

/// The threads of a ``WorkerPool`` and the loop they share.
///
/// A worker spins briefly for the next loop and then sleeps. The caller works too, and never waits for a worker that has
/// not joined: when another process holds a worker's core, the caller does the work itself. For a worker that has joined it
/// spins briefly and then sleeps as well: a thread that yields instead may lose its core for a whole time slice to
/// whatever else runs on the machine.
package final class WorkerCrew: @unchecked Sendable {
  // Unchecked: a loop is set up while no worker is inside; all else is atomic or guarded by the mutex.
  // The loop under way. Written by the caller while no worker is active.
  private var body: (@Sendable (Int) -> Void)?
  private var taskCount = 0
  private let nextTask = Atomic<Int>(0)
  /// Bits 32...: generation; bit 31: open to join; bits 0...30: workers inside.
  private let state = Atomic<UInt64>(0)
  private static let openBit: UInt64 = 1 << 31
  private static let activeMask: UInt64 = openBit - 1

  private let sleepers = Atomic<Int>(0)
  private let callerSleeps = Atomic<Bool>(false)
  private let isDismissed = Atomic<Bool>(false)
  /// What the next loop will read: where it starts, and its bytes.
  private let aheadStart = Atomic<UInt>(0)
  private let aheadBytes = Atomic<Int>(0)
  private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
  /// Workers wait for a loop, the caller for the workers inside.
  private let opened = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
  private let left = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)

  /// About 20 µs on a current core: longer than the gap between two loops of one token, short enough to be polite.
  private static let workerSpins = 2_000
  private static let callerSpins = 4_000
  /// Bytes that a waiting worker reads ahead: part of a second-level cache.
  private static let aheadLimit = 384 << 10
  /// And those between two looks for a loop.
  private static let aheadStep = 512

  init(workers: Int) {
    pthread_mutex_init(mutex, nil)
    pthread_cond_init(opened, nil)
    pthread_cond_init(left, nil)
    for worker in 0..<workers {
      let thread = Thread { self.work(worker: worker, of: workers) }
      thread.stackSize = 1 << 20
      thread.start()
    }
  }

  deinit {
    pthread_cond_destroy(left)
    pthread_cond_destroy(opened)
    pthread_mutex_destroy(mutex)
    left.deallocate()
    opened.deallocate()
    mutex.deallocate()
  }

  /// Ends the threads; each keeps the crew until it has left.
  func dismiss() {
    isDismissed.store(true, ordering: .sequentiallyConsistent)
    pthread_mutex_lock(mutex)
    pthread_cond_broadcast(opened)
    pthread_mutex_unlock(mutex)
  }

  /// Tells workers that wait what the next loop will read.
  func announce(_ start: UnsafeRawPointer, bytes: Int) {
    aheadBytes.store(bytes, ordering: .relaxed)
    aheadStart.store(UInt(bitPattern: start), ordering: .relaxed)
  }

  /// Runs a loop with whoever joins. Only one thread may be in here at a time.
  func dispatch(_ taskCount: Int, _ body: @escaping @Sendable (Int) -> Void) {
    self.body = body
    self.taskCount = taskCount
    nextTask.store(0, ordering: .relaxed)
    let generation = (state.load(ordering: .relaxed) >> 32) &+ 1
    state.store(generation << 32 | WorkerCrew.openBit, ordering: .sequentiallyConsistent)
    if sleepers.load(ordering: .sequentiallyConsistent) > 0 {
      pthread_mutex_lock(mutex)
      pthread_cond_broadcast(opened)
      pthread_mutex_unlock(mutex)
    }
    WorkerPool.setInsideTask(true)
    drain()
    WorkerPool.setInsideTask(false)
    state.bitwiseAnd(~WorkerCrew.openBit, ordering: .acquiringAndReleasing)
    waitForWorkersInside()
    self.body = nil
  }

  private var someoneIsInside: Bool {
    state.load(ordering: .sequentiallyConsistent) & WorkerCrew.activeMask != 0
  }

  private func waitForWorkersInside() {
    for _ in 0..<WorkerCrew.callerSpins {
      guard state.load(ordering: .acquiring) & WorkerCrew.activeMask != 0 else { return }
      spinPause()
    }
    pthread_mutex_lock(mutex)
    callerSleeps.store(true, ordering: .sequentiallyConsistent)
    while someoneIsInside { pthread_cond_wait(left, mutex) }
    callerSleeps.store(false, ordering: .relaxed)
    pthread_mutex_unlock(mutex)
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

  /// What a worker's thread does.
  private func work(worker: Int, of workers: Int) {
    WorkerPool.setInsideTask(true)
    var seen: UInt64 = 0
    var ahead = ReadAhead(worker: worker, threads: workers + 1)
    while true {
      var current = state.load(ordering: .acquiring)
      var spins = 0
      while current >> 32 == seen || current & WorkerCrew.openBit == 0 {
        if isDismissed.load(ordering: .relaxed) { return }
        spins += 1
        if spins < WorkerCrew.workerSpins {
          if !ahead.step(
            start: aheadStart.load(ordering: .relaxed), bytes: aheadBytes.load(ordering: .relaxed))
          {
            spinPause()
          }
        } else {
          sleep(seen: seen)
          spins = 0
        }
        current = state.load(ordering: .acquiring)
      }
      let (joined, _) = state.compareExchange(
        expected: current, desired: current + 1, ordering: .acquiringAndReleasing)
      guard joined else { continue }
      seen = current >> 32
      drain()
      leave()
    }
  }

  /// While a worker waits, memory would rest: it asks for the start of what it will probably read next.
  private struct ReadAhead {
    let worker: Int
    let threads: Int
    private var start: UInt = 0
    private var next: UInt = 0
    private var end: UInt = 0

    init(worker: Int, threads: Int) {
      self.worker = worker
      self.threads = threads
    }

    /// - Returns: whether something was asked for.
    mutating func step(start: UInt, bytes: Int) -> Bool {
      if start != self.start {
        self.start = start
        // The caller takes the first range of the loop.
        let from = WorkerPool.endOfRange(worker, of: bytes, threads: threads)
        next = start &+ UInt(from)
        end = next &+ UInt(min(WorkerCrew.aheadLimit, bytes - from))
      }
      guard next < end else { return false }
      prefetch(next, bytes: WorkerCrew.aheadStep)
      next += UInt(WorkerCrew.aheadStep)
      return true
    }
  }

  private func leave() {
    let before = state.subtract(1, ordering: .sequentiallyConsistent).oldValue
    // This load follows the subtraction, and the caller stores before it loads the state. Therefore at least one of the two
    // threads sees the other's store.
    guard before & WorkerCrew.activeMask == 1, callerSleeps.load(ordering: .sequentiallyConsistent) else {
      return
    }
    pthread_mutex_lock(mutex)
    pthread_cond_signal(left)
    pthread_mutex_unlock(mutex)
  }

  private func sleep(seen: UInt64) {
    pthread_mutex_lock(mutex)
    sleepers.add(1, ordering: .sequentiallyConsistent)
    while !isDismissed.load(ordering: .sequentiallyConsistent) {
      let current = state.load(ordering: .sequentiallyConsistent)
      if current >> 32 != seen && current & WorkerCrew.openBit != 0 { break }
      pthread_cond_wait(opened, mutex)
    }
    sleepers.subtract(1, ordering: .sequentiallyConsistent)
    pthread_mutex_unlock(mutex)
  }
}
