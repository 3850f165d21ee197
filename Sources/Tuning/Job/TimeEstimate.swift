import Compute
import Foundation
import Models
import Training

/// How long a tuning takes, from a measured pass through two blocks and the head with the first rows of the data.
package struct TimeEstimate: Equatable, Sendable {
  /// A forward pass through a block.
  package private(set) var forward = 0.0
  /// The backward pass of a block that kept its activations, and of one that computes them again.
  package private(set) var backward = 0.0
  package private(set) var recomputed = 0.0
  /// The final norm and the head, forward and backward.
  package private(set) var head = 0.0
  /// Tokens of the measured rows.
  package private(set) var tokens = 1

  /// Passes that take longer than this are measured once; the first pass is slower than the others.
  private static let secondsOfOnePass = 1.0
  /// The part of the head's time that a loss without gradients takes.
  private static let headOfLoss = 0.4

  /// - Throws: errors of the weights.
  package init(
    _ prepared: AdapterTuning.Prepared, recipe: TuningRecipe, settings: TrainingSettings,
    pool: WorkerPool = .shared
  )
    throws
  {
    let rows = (prepared.data.batches(epoch: 0, size: recipe.batchSize).first ?? []).map {
      prepared.data.rows[$0]
    }
    let lengths = rows.map(\.tokens.count)
    tokens = max(1, lengths.reduce(0, +))
    var configuration = prepared.model.configuration
    configuration.hiddenLayers = min(2, configuration.hiddenLayers)
    let builder = DecoderBuilder(configuration, weights: prepared.model.store)
    var measured = settings
    measured.scratch = nil
    // Weights are read again where the training reads them again.
    measured.memoryLimit = prepared.plan.releasesWeights ? 1 : nil
    let pass = try TrainingPass(
      builder: builder, adapter: TrainedAdapter(builder: builder, options: prepared.adapter.options),
      settings: measured, tokens: tokens, longest: lengths.max() ?? 1,
      residentBytes: prepared.model.store.residentBytes, pool: pool)
    var times = try TimeEstimate.times(pass, rows)
    if (times.last ?? 0) < TimeEstimate.secondsOfOnePass { times = try TimeEstimate.times(pass, rows) }
    let blocks = configuration.hiddenLayers
    // The start, every block forward, the head, every block backward.
    guard times.count == 2 + 2 * blocks else { return }
    let steps = zip(times.dropFirst(), times).map { $0 - $1 }
    forward = steps[blocks - 1]
    head = steps[blocks]
    recomputed = steps[2 * blocks]
    backward = pass.plan.keptBlocks > 0 && blocks > 1 ? steps[blocks + 1] : recomputed - forward
    if pass.plan.keptBlocks > 0 && blocks == 1 { recomputed = backward + forward }
  }

  /// Seconds since the start: 0, and at each call of `progress`.
  private static func times(_ pass: TrainingPass, _ rows: [TrainingRow]) throws -> [Double] {
    let start = ContinuousClock.now
    var times = [0.0]
    pass.progress = { _ in
      let passed = ContinuousClock.now - start
      times.append(Double(passed.components.seconds) + 1e-18 * Double(passed.components.attoseconds))
    }
    _ = try pass.accumulate(rows, divisor: 1, step: 0, item: 0)
    return times
  }

  /// Of training on so many tokens.
  package func seconds(tokens: Int, plan: TrainingPlan) -> Double {
    let pass =
      Double(plan.blockCount) * forward + head + Double(plan.keptBlocks) * backward
      + Double(plan.recomputedBlocks) * recomputed
    return Double(tokens) / Double(self.tokens) * pass
  }

  /// Of measuring the loss of so many tokens.
  package func validationSeconds(tokens: Int, plan: TrainingPlan) -> Double {
    Double(tokens) / Double(self.tokens)
      * (Double(plan.blockCount) * forward + TimeEstimate.headOfLoss * head)
  }
}
