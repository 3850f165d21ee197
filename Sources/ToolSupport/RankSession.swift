import CSignals
import Compute
import Distribution
import Files
import Foundation
import Synchronization

/// The ranks of a job that a launcher of MPI started (`Docs/cluster.md`), and this process's part among them: rank 0 speaks to the person, the
/// others are silent and tell rank 0 why they cannot go on.
package enum RankSession {
  private static let launcher = Launcher()
  private static let joined = Mutex<Joined?>(nil)

  private struct Joined: Sendable {
    var communicator: any Communicator
    #if os(Linux)
      var watch: RankWatch
    #endif
  }

  /// Whether a command that shares its work has begun, under a launcher.
  private static let isSharing = Atomic<Bool>(false)

  /// Whether this process leaves speaking to rank 0.
  package static var isSilent: Bool {
    isSharing.load(ordering: .relaxed) && (launcher?.rank ?? 0) > 0
  }

  static var isJoined: Bool { joined.withLock { $0 != nil } }

  /// Joins the other ranks; without a launcher this process is alone.
  /// - Throws: ``DistributionError`` when there are several, and the program is built for one or the ranks do not reach each other.
  package static func join() throws -> any Communicator {
    guard let launcher, launcher.count > 1 else { return SingleProcess() }
    isSharing.store(true, ordering: .relaxed)
    if isSilent { ProgressReporter.isSilent = true }
    #if MPI && os(Linux)
      endUnlessJoined()
      let communicator = try MPICommunicator()
      let watch = try RankWatch(communicator) { end(on: $0) }
      joined.withLock { $0 = Joined(communicator: communicator, watch: watch) }
      hasJoined.store(true, ordering: .relaxed)
      // MPI's library may find out about a lost rank before the watch does: UCX, below MPICH, aborts when it cannot read its memory.
      zn_signals_delay_abort(2)
      try checkPrograms(communicator, watch)
      try shareProcessors(communicator)
      Interruption.takeOver { signalled(communicator) }
      return communicator
    #else
      throw DistributionError.notBuilt(ranks: launcher.count)
    #endif
  }

  /// Refuses a launcher of several processes, for work that is done by one.
  package static func refuseRanks(_ what: String) throws {
    if let launcher, launcher.count > 1 {
      throw DistributionError.onlyOneRank(what: what, ranks: launcher.count)
    }
  }

  /// The text of another rank that differs from rank 0's, in the words of an error; nil: all have the same.
  package static func check(_ what: String, _ value: String, _ communicator: any Communicator) throws {
    let values = try communicator.gather(text: value)
    guard let rank = values.firstIndex(where: { $0 != values[0] }) else { return }
    throw DistributionError.ranksDiffer(
      what: what, here: values[0], there: values[rank], rank: rank, host: host(of: rank))
  }

  /// The name of a rank's machine.
  package static func host(of rank: Int) -> String {
    #if os(Linux)
      if let watch = joined.withLock({ $0?.watch }) { return watch.host(of: rank) }
    #endif
    return ProcessInfo.processInfo.hostName
  }

  /// Leaves the ranks, when this one's work is done; returns when all are.
  static func leave() throws {
    #if MPI && os(Linux)
      guard let joined = joined.withLock({ $0 }), let communicator = joined.communicator as? MPICommunicator
      else { return }
      try communicator.barrier()
      joined.watch.finish()
      self.joined.withLock { $0 = nil }
      try communicator.finish()
    #endif
  }

  /// Tells rank 0 that this rank fails.
  /// - Returns: whether rank 0 is there to say so.
  static func report(_ text: String, exitCode: Int32) -> Bool {
    guard let launcher, launcher.rank > 0 else { return false }
    #if os(Linux)
      if let joined = joined.withLock({ $0 }) {
        joined.watch.report(text, exitCode: exitCode)
        return true
      }
    #endif
    // What is wrong with the command line, rank 0 says as well.
    return exitCode == FailureCategory.usage.exitCode
  }

  #if MPI && os(Linux)
    /// MPICH's launcher does not end the others when a rank dies before it has joined, if it is told to leave that to them; MPI then waits
    /// without an end.
    private static func endUnlessJoined() {
      let environment = ProcessInfo.processInfo.environment
      guard environment["PMI_RANK"] != nil, environment["OMPI_COMM_WORLD_RANK"] == nil,
        environment["SLURM_NTASKS"] == nil
      else { return }
      Thread.detachNewThread {
        sleep(secondsToJoin)
        guard !hasJoined.load(ordering: .relaxed) else { return }
        Interruption.end(exitCode: FailureCategory.inputOutput.exitCode) { _ in
          isSilent
            ? nil : "error: not all ranks have started within \(secondsToJoin) seconds; one may have died"
        }
      }
    }

    private static let secondsToJoin: UInt32 = 25
    private static let hasJoined = Atomic<Bool>(false)

    private static func checkPrograms(_ communicator: MPICommunicator, _ watch: RankWatch) throws {
      try check("the program", ToolVersion.generator, communicator)
      try check("the MPI library", communicator.library, communicator)
    }

    /// Ranks of one machine that may all use the same processors get an equal number of threads each, unless `--threads` says another.
    private static func shareProcessors(_ communicator: any Communicator) throws {
      let status = (try? String(contentsOfFile: "/proc/self/status", encoding: .utf8)) ?? ""
      let allowed = status.split(separator: "\n").first { $0.hasPrefix("Cpus_allowed:") } ?? ""
      let own = "\(ProcessInfo.processInfo.hostName) \(allowed)"
      let neighbours = try communicator.gather(text: own).count { $0 == own }
      let threads = max(1, WorkerPool.availableProcessors() / neighbours)
      if !ComputeOptions.isThreadCountGiven, neighbours > 1 { WorkerPool.useShared(threads: threads) }
    }

    private static func sayWhoIsSlow(_ found: SlowRanks.Finding) {
      let names = found.ranks.map { "rank \($0) on \(host(of: $0))" }.joined(separator: ", ")
      let worked = found.secondsOfOthers == 0 ? "less than a second" : "\(found.secondsOfOthers) seconds"
      Output.warn(
        "the other ranks have waited \(found.seconds) seconds for \(names), after they had worked for \(worked), and go on "
          + "waiting; its machine may be overloaded")
    }

    /// Another rank is gone: rank 0 says so, and every rank ends.
    private static func end(on event: RankWatch.Event) {
      if case .slow(let found) = event { return sayWhoIsSlow(found) }
      guard !isSilent else {
        if case .ended = event { usleep(200_000) }
        PendingOutputs.discardAll()
        _exit(FailureCategory.inputOutput.exitCode)
      }
      let (text, code): (String, Int32)
      switch event {
      case .failed(let rank, let message, let exitCode):
        // What fails on all ranks, rank 0 says itself.
        usleep(500_000)
        (text, code) = ("error: rank \(rank) on \(host(of: rank)): \(withoutPrefix(message))", exitCode)
      case .ended(let rank):
        let error = DistributionError.rankEnded(rank: rank, host: host(of: rank))
        (text, code) = ("error: \(error.description)", error.category.exitCode)
      case .silent(let rank, let seconds):
        let error = DistributionError.rankSilent(rank: rank, host: host(of: rank), seconds: seconds)
        (text, code) = ("error: \(error.description)", error.category.exitCode)
      case .slow: return
      }
      Interruption.end(exitCode: code) { text + ($0.map { "; \($0), with any number of ranks" } ?? "") }
    }

    private static func withoutPrefix(_ message: String) -> String {
      let prefix = "error: "
      return message.hasPrefix(prefix) ? String(message.dropFirst(prefix.count)) : message
    }

    /// What a launcher sends when another rank has ended, or the person pressed Ctrl-C. Rank 0 waits a moment for what its watch says.
    private static func signalled(_ communicator: any Communicator) {
      guard communicator.isRoot else { _exit(FailureCategory.interrupted.exitCode) }
      usleep(700_000)
    }
  #endif
}
