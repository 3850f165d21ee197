import Files

/// Why ranks cannot do a job together.
package enum DistributionError: DiagnosedError, Equatable {
  /// A launcher started several processes of a program that was built without MPI.
  case notBuilt(ranks: Int)
  /// What a command does is not spread over ranks.
  case onlyOneRank(what: String, ranks: Int)
  case tooFewShards(option: String, shards: Int, ranks: Int)
  /// `what` is not the same on two ranks.
  case ranksDiffer(what: String, here: String, there: String, rank: Int, host: String)
  /// An operation failed; `detail` is the library's.
  case library(operation: String, detail: String)
  case cannotWatch(detail: String)
  /// A rank has ended without a message.
  case rankEnded(rank: Int, host: String)
  /// A rank does not answer.
  case rankSilent(rank: Int, host: String, seconds: Int)

  package var category: FailureCategory {
    switch self {
    case .notBuilt, .onlyOneRank, .tooFewShards: .usage
    case .ranksDiffer: .badInput
    case .library, .cannotWatch, .rankEnded, .rankSilent: .inputOutput
    }
  }

  package var description: String {
    switch self {
    case .notBuilt(let ranks):
      "\(ranks) processes were started for one job, but this program was built for one process; build it with: "
        + "swift build -c release --traits MPI"
    case .onlyOneRank(let what, let ranks):
      "\(what) runs in one process, and \(ranks) were started; start it without a launcher"
    case .tooFewShards(let option, let shards, let ranks):
      "\(option) \(shards): \(ranks) ranks need at least \(ranks) shards, of which each rank takes whole ones; pass "
        + "\(option) \(ranks), or start fewer ranks. The number of shards is part of the recipe, that of the ranks is not"
    case .ranksDiffer(let what, let here, let there, let rank, let host):
      "\(what) differs between the ranks: \(here) on rank 0, \(there) on rank \(rank) (\(host)); give every rank the "
        + "same program and the same files"
    case .library(let operation, let detail): "MPI failed to \(operation): \(detail)"
    case .cannotWatch(let detail): "the ranks cannot watch each other: \(detail)"
    case .rankEnded(let rank, let host): "rank \(rank) on \(host) has ended unexpectedly"
    case .rankSilent(let rank, let host, let seconds):
      "rank \(rank) on \(host) has not answered for \(seconds) seconds; its machine or its network may have failed"
    }
  }
}
