/// Finds ranks that work much longer than the others on the same part of a job, from how far each rank is (``Communicator/progress``).
///
/// A rank is slow when all others have come to an operation and have waited there for ``patience``, and for twice as long as they worked
/// before it. Rank 0 does parts of a job alone, and is never named.
package struct SlowRanks {
  /// Ranks that the others wait for.
  package struct Finding: Equatable, Sendable {
    package var ranks: [Int]
    /// How long the others have waited.
    package var seconds: Int
    /// How long the others worked before.
    package var secondsOfOthers: Int

    package init(ranks: [Int], seconds: Int, secondsOfOthers: Int) {
      (self.ranks, self.seconds, self.secondsOfOthers) = (ranks, seconds, secondsOfOthers)
    }
  }

  /// Seconds that the others wait at least.
  package static let patience = 20.0

  /// The operation of the ranks that are ahead, and when the first rank came from the one before it.
  private var operation: UInt32 = 0
  private var began = 0.0
  /// Who is late for it, and since when nobody else is.
  private var late: [Int] = []
  private var since = 0.0
  private var named: Set<Int> = []

  package init() {}

  /// - Parameters:
  ///   - progress: of each rank.
  ///   - now: seconds on a clock that does not go back.
  /// - Returns: slow ranks that have not been named yet.
  package mutating func found(_ progress: [UInt32], now: Double) -> Finding? {
    let front = progress.max() ?? 0
    if front / 2 != operation {
      (operation, began) = (front / 2, now)
      (late, since) = ([], now)
    }
    // Nobody has come to the next operation yet.
    guard front % 2 == 1 else { return nil }
    let behind = progress.indices.filter { progress[$0] < front }
    if behind != late { (late, since) = (behind, now) }
    guard !late.isEmpty, !late.contains(0) else { return nil }
    let (waited, worked) = (now - since, since - began)
    let new = late.filter { !named.contains($0) }
    guard !new.isEmpty, waited >= max(SlowRanks.patience, 2 * worked) else { return nil }
    named.formUnion(new)
    return Finding(ranks: new, seconds: Int(waited), secondsOfOthers: Int(worked))
  }
}
