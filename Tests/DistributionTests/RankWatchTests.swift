#if os(Linux)
  import Distribution
  import Foundation
  import Synchronization
  import TestSupport
  import Testing

  @Suite struct RankWatchTests {
    private final class Events: Sendable {
      private let events = Mutex<[RankWatch.Event]>([])
      func add(_ event: RankWatch.Event) { events.withLock { $0.append(event) } }
      /// Those of the next seconds, until there is one.
      func first(within seconds: Double) -> RankWatch.Event? {
        let start = Date()
        while -start.timeIntervalSinceNow < seconds {
          if let event = events.withLock({ $0.first }) { return event }
          usleep(10_000)
        }
        return nil
      }
    }

    @Test func aReasonReachesRankZero() throws {
      let events = Events()
      let results = try LocalRank.run(3) { communicator -> RankWatch.Event? in
        let watch = try RankWatch(communicator) { if communicator.isRoot { events.add($0) } }
        if communicator.rank == 2 {
          watch.report("the disk of /data is full", exitCode: 74)
          return nil
        }
        let event = communicator.isRoot ? events.first(within: 10) : nil
        watch.finish()
        return event
      }
      #expect(
        results.compactMap { $0 } == [.failed(rank: 2, message: "the disk of /data is full", exitCode: 74)])
    }

    @Test func anEndInPeaceIsNoEvent() throws {
      let events = Events()
      _ = try LocalRank.run(2) { communicator in
        let watch = try RankWatch(communicator) { events.add($0) }
        // Long enough for heartbeats.
        usleep(1_300_000)
        try communicator.barrier()
        watch.finish()
        #expect(watch.host(of: 1) == ProcessInfo.processInfo.hostName)
      }
      #expect(events.first(within: 1) == nil)
    }
  }
#endif
