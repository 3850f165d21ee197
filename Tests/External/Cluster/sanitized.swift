import Compute
import Distribution
import Foundation

/// Ranks that do what jobs do, for sanitizers.
@main
enum Sanitized {
  static func main() throws {
    let communicator = try MPICommunicator()
    let isRoot = communicator.isRoot
    let watch = try RankWatch(communicator) { event in
      if case .failed(let rank, let message, let code) = event, isRoot {
        print("rank \(rank) says: \(message)")
        fflush(nil)
        _exit(code)
      }
      _exit(74)
    }
    let pool = WorkerPool(threads: 2)
    // Larger than a step's piece.
    let order = 3100
    for shape in [OrderedSum.Shape.upperTriangle, .square] {
      let sum = OrderedSum(order: order, shape: shape, communicator: communicator, pool: pool)
      for round in 0..<2 {
        let isThere = round == 0 || isRoot
        let matrix = AlignedBuffer<Float>(count: order * order)
        let value = Float(1 + 2 * round + communicator.rank)
        for place in 0..<matrix.count { matrix[place] = value }
        try sum.add(isThere ? matrix : nil, shards: round == 0 ? communicator.count : 1)
      }
      let total = AlignedBuffer<Float>(zeros: order * order)
      try sum.finish(into: total)
      // 1 + 2 + … of the first round and 3 of the second.
      let whole = Float(communicator.count * (communicator.count + 1) / 2 + 3)
      guard total[0] == whole, total[order * order - 1] == whole,
        total[order] == (shape == .square ? whole : 0)
      else {
        fatalError("a wrong sum")
      }
    }
    var results: [Int] = []
    try communicator.inOrder(items: 7) {
      [$0]
    } then: {
      results.append($0 + $1[0])
    }
    guard results == [0, 2, 4, 6, 8, 10, 12] else { fatalError("results in another order") }
    if CommandLine.arguments.last == "failure" {
      if communicator.rank == 1 {
        watch.report("the disk is full", exitCode: 73)
        _exit(73)
      }
      try communicator.barrier()
    }
    usleep(1_500_000)
    try communicator.barrier()
    watch.finish()
    try communicator.finish()
    if isRoot { print("\(communicator.count) ranks: as expected") }
  }
}
