import Compute
import Foundation
import Synchronization
import Testing

@Suite struct WorkerPoolTests {
  @Test(arguments: [1, 2, 3, 8]) func everyTaskRunsExactlyOnce(threads: Int) {
    let pool = WorkerPool(threads: threads)
    for round in 0..<500 {
      let count = round % 37
      let hits = (0..<count).map { _ in CountBox() }
      pool.run(count) { hits[$0].value.add(1, ordering: .relaxed) }
      #expect(hits.allSatisfy { $0.value.load(ordering: .relaxed) == 1 })
    }
  }

  @Test func nestedAndConcurrentLoopsComplete() async {
    let pool = WorkerPool(threads: 3)
    let total = CountBox()
    await withTaskGroup(of: Void.self) { group in
      for _ in 0..<4 {
        group.addTask {
          for _ in 0..<50 {
            pool.run(5) { _ in pool.run(4) { _ in total.value.add(1, ordering: .relaxed) } }
          }
        }
      }
    }
    #expect(total.value.load(ordering: .relaxed) == 4 * 50 * 5 * 4)
  }

  @Test func rangesCoverEverythingOnce() {
    let pool = WorkerPool(threads: 4)
    for (count, grain) in [(1, 1), (7, 3), (100, 16), (1000, 8)] {
      let hits = (0..<count).map { _ in CountBox() }
      pool.runRanges(count, grain: grain) { range in
        #expect(range.lowerBound % grain == 0)
        for index in range { hits[index].value.add(1, ordering: .relaxed) }
      }
      #expect(hits.allSatisfy { $0.value.load(ordering: .relaxed) == 1 })
    }
  }

  /// The worker that holds the last task outlasts the caller's patience, again and again.
  @Test(arguments: [1, 2, 3, 8]) func shrinkingRangesCoverEverythingOnce(threads: Int) {
    let pool = WorkerPool(threads: threads)
    // What is announced is only ever asked for, never read: no address does harm.
    pool.announce(UnsafeRawPointer(bitPattern: 64)!, bytes: 1 << 20)
    for count in [0, 1, 2, 5, 64, 1000] {
      let ranges = Mutex<[Range<Int>]>([])
      pool.runShrinkingRanges(count) { range in ranges.withLock { $0.append(range) } }
      let sorted = ranges.withLock { $0 }.sorted { $0.lowerBound < $1.lowerBound }
      #expect(sorted.flatMap(Array.init) == Array(0..<count))
      #expect(zip(sorted, sorted.dropFirst()).allSatisfy { $0.count >= $1.count })
    }
  }

  @Test func theCallerSleepsThroughSlowWorkersAndIsWoken() {
    let pool = WorkerPool(threads: 3)
    let total = CountBox()
    for _ in 0..<40 {
      pool.run(3) { task in
        if task > 0 { usleep(2000) }
        total.value.add(1, ordering: .relaxed)
      }
    }
    #expect(total.value.load(ordering: .relaxed) == 120)
  }

  /// Every thread holds the crew until it ends.
  @Test func threadsEndWithThePool() {
    weak var crew: WorkerCrew?
    do {
      let pool = WorkerPool(threads: 4)
      pool.run(20) { _ in }
      crew = pool.crew
      #expect(crew != nil)
    }
    for _ in 0..<1000 where crew != nil { usleep(10_000) }
    #expect(crew == nil)
  }

  final class CountBox: Sendable {
    let value = Atomic<Int>(0)
  }
}
