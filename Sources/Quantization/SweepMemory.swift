import Compute
import Synchronization

/// Memory of a column sweep, for the next sweep of the same solver: parts of a matrix follow each other, and gate and up; fresh
/// pages took a tenth of a sweep on a virtual machine, whose host hands them out.
struct SweepMemory: Sendable {
  enum Purpose: Hashable { case weights, factor }

  private var floats: [Purpose: AlignedBuffer<Float>] = [:]

  /// At least `count` floats with any content.
  mutating func floats(_ purpose: Purpose, count: Int) -> AlignedBuffer<Float> {
    if let kept = floats[purpose], kept.count >= count { return kept }
    floats[purpose] = nil
    let made = AlignedBuffer<Float>(count: count)
    floats[purpose] = made
    return made
  }

  /// Keeps one memory between sweeps; two at a time have one of their own.
  final class Keeper: Sendable {
    private let kept = Mutex<SweepMemory?>(nil)

    func take() -> SweepMemory {
      kept.withLock { kept in
        defer { kept = nil }
        return kept ?? SweepMemory()
      }
    }

    func giveBack(_ memory: SweepMemory) { kept.withLock { $0 = memory } }
  }
}
