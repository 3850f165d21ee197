import Distribution
import Foundation
import Synchronization
import TestSupport
import Testing

@Suite struct CommunicatorTests {
  @Test(arguments: [1, 2, 5])
  func valuesArriveInTheOrderOfTheRanks(ranks: Int) throws {
    let results = try LocalRank.run(ranks) { communicator in
      let gathered = try communicator.gather(Array(repeating: communicator.rank, count: communicator.rank))
      let texts = try communicator.gather(text: "rank \(communicator.rank)")
      let told = try communicator.broadcast(communicator.isRoot ? [3.5, -0.0] : nil)
      try communicator.barrier()
      return (gathered, texts, told)
    }
    for (gathered, texts, told) in results {
      #expect(gathered == (0..<ranks).map { Array(repeating: $0, count: $0) })
      #expect(texts == (0..<ranks).map { "rank \($0)" })
      #expect(told.map(\.bitPattern) == [3.5, -0.0].map(\.bitPattern))
    }
  }

  /// More and fewer items than ranks; each item is computed once.
  @Test(arguments: [1, 2, 3, 7], [0, 1, 5])
  func itemsKeepTheirOrder(ranks: Int, items: Int) throws {
    let computed = Mutex<[Int]>([])
    let results = try LocalRank.run(ranks) { communicator in
      var values: [[Int]] = []
      try communicator.inOrder(items: items) { item in
        computed.withLock { $0.append(item) }
        return Array(repeating: item, count: item)
      } then: { item, some in
        #expect(item == values.count)
        values.append(some)
      }
      return values
    }
    #expect(computed.withLock { $0.sorted() } == Array(0..<items))
    for result in results { #expect(result == (0..<items).map { Array(repeating: $0, count: $0) }) }
  }

  @Test func oneProcessIsARank() throws {
    let alone = SingleProcess()
    #expect(try alone.gather([1, 2]) == [[1, 2]])
    #expect(try alone.broadcast(value: 7) == 7)
    #expect(alone.traffic == Traffic())
  }

  @Test func launchersAreRecognized() throws {
    #expect(Launcher([:]) == nil)
    #expect(Launcher(["SLURM_NTASKS": "4"]) == nil)
    let open = try #require(Launcher(["OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_RANK": "3"]))
    #expect((open.rank, open.count) == (3, 4))
    let hydra = try #require(Launcher(["PMI_SIZE": "2", "PMI_RANK": "0"]))
    #expect((hydra.rank, hydra.count) == (0, 2))
    let slurm = try #require(Launcher(["SLURM_NTASKS": "8", "PMIX_RANK": "5"]))
    #expect((slurm.rank, slurm.count) == (5, 8))
    #expect(Launcher(["PMI_SIZE": "2", "PMI_RANK": "2"]) == nil)
    #expect(Launcher(["PMI_SIZE": "2", "PMI_RANK": "0", "ZHINAO_RANKS": "alone"]) == nil)
  }
}
