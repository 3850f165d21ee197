import Distribution
import Foundation

/// Where a rank's time goes while it quantizes layers: phases that follow each other and never overlap.
final class PhaseClock {
  private let communicator: any Communicator
  private var phase = QuantizationPhase.forward
  private var seconds = [Double](repeating: 0, count: QuantizationPhase.allCases.count)
  private var waited: [Double]
  private var lastTime = ProcessInfo.processInfo.systemUptime
  private var lastWait: Double

  /// Starts with the forward pass.
  init(_ communicator: any Communicator) {
    self.communicator = communicator
    lastWait = communicator.secondsWaited
    waited = seconds
  }

  private func enter(_ next: QuantizationPhase) {
    let (time, wait) = (ProcessInfo.processInfo.systemUptime, communicator.secondsWaited)
    seconds[phase.rawValue] += time - lastTime
    waited[phase.rawValue] += wait - lastWait
    (lastTime, lastWait, phase) = (time, wait, next)
  }

  /// Counts the time of `body` for a phase, and that of phases inside it for those.
  func measure<Result>(_ phase: QuantizationPhase, _ body: () throws -> Result) rethrows -> Result {
    let outer = self.phase
    enter(phase)
    defer { enter(outer) }
    return try body()
  }

  /// Until now, of all ranks. All ranks call it.
  func times() throws -> [RankTimes] {
    enter(phase)
    return try communicator.gather(seconds + waited).map { both in
      let count = seconds.count
      return RankTimes(seconds: Array(both[..<count]), waited: Array(both[count...]))
    }
  }
}

/// A part of the work on layers.
package enum QuantizationPhase: Int, CaseIterable, Sendable {
  /// Activations through the layers, and weights of tokens.
  case forward
  /// The sum over this rank's tokens of a shard.
  case hessian
  /// The sum over the shards.
  case sum
  /// The factor of a Hessian and what else is computed once for a stage.
  case factor
  /// The codes of this rank's rows, and those of others.
  case codes
  /// Activations and statistics that are kept on the disk.
  case keep

  package var name: String {
    switch self {
    case .forward: "forward"
    case .hessian: "hessian"
    case .sum: "sum_of_shards"
    case .factor: "factor"
    case .codes: "codes"
    case .keep: "keep"
    }
  }
}

/// What a rank spent on each phase, in the order of ``QuantizationPhase``.
package struct RankTimes: Equatable, Sendable {
  package var seconds: [Double]
  /// Of it, for other ranks and the network.
  package var waited: [Double]
}
