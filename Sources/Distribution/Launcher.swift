import Foundation

/// What a launcher (`mpirun`, `mpiexec`, `srun`) told this process about its rank.
package struct Launcher: Equatable, Sendable {
  package var rank: Int
  package var count: Int

  /// - Parameter environment: of this process. Open MPI, MPICH and its relatives, and Slurm with PMIx or PMI-2 set different variables.
  ///   `ZHINAO_RANKS=alone` says that each of a launcher's processes has work of its own.
  /// - Returns: nil when no launcher started it.
  package init?(_ environment: [String: String] = ProcessInfo.processInfo.environment) {
    func number(_ names: String...) -> Int? {
      names.lazy.compactMap { environment[$0].flatMap { Int($0) } }.first
    }
    if environment["ZHINAO_RANKS"] == "alone" { return nil }
    let isManaged = environment["PMIX_RANK"] != nil || environment["PMI_RANK"] != nil
    guard
      let count = number("OMPI_COMM_WORLD_SIZE", "PMI_SIZE") ?? (isManaged ? number("SLURM_NTASKS") : nil),
      let rank = number("OMPI_COMM_WORLD_RANK", "PMI_RANK", "PMIX_RANK"), count > 0, rank >= 0, rank < count
    else { return nil }
    (self.rank, self.count) = (rank, count)
  }
}
