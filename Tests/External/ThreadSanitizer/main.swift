// The worker pool under ThreadSanitizer: loops of many sizes, callers that compete, nested loops, slow last tasks.
// The pool is compiled into this program (see run), so it is not imported.
import Foundation
import Synchronization

final class Counter: Sendable { let value = Atomic<Int>(0) }

for threads in 1...6 {
  let pool = WorkerPool(threads: threads)
  let cells = UnsafeMutableBufferPointer<Int>.allocate(capacity: 64)
  cells.initialize(repeating: 0)
  guard let first = cells.baseAddress else { continue }
  let written = DisjointWrites(first)
  for round in 0..<3000 {
    let count = round % 37
    // Plain writes: what one loop writes, the next must see.
    pool.run(count) { task in
      written[task] += 1
      if round % 101 == 0 && task == count - 1 { usleep(300) }
    }
  }
  precondition(cells.reduce(0, +) == (0..<3000).reduce(0) { $0 + $1 % 37 })
  let total = Counter()
  let group = DispatchGroup()
  for _ in 0..<4 {
    DispatchQueue.global().async(group: group) {
      for _ in 0..<100 {
        pool.run(5) { _ in pool.run(3) { _ in total.value.add(1, ordering: .relaxed) } }
      }
    }
  }
  group.wait()
  precondition(total.value.load(ordering: .relaxed) == 4 * 100 * 15)
}
print("worker pool: no races")
