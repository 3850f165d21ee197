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
  /// The optimizer's step, with the norm of the gradients.
  package private(set) var optimizer = 0.0
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
    // Reads the weights from the disk, which a training does once.
    if let token = rows.first?.tokens.first {
      _ = try pass.loss([TrainingRow(tokens: [token, token], labels: [nil, token])])
    }
    var times = try TimeEstimate.times(pass, rows)
    if (times.last ?? 0) < TimeEstimate.secondsOfOnePass { times = try TimeEstimate.times(pass, rows) }
    let blocks = configuration.hiddenLayers
    optimizer = TimeEstimate.ofOptimizer(prepared.adapter.parameters, pool: pool)
    // The start, every block forward, the head, every block backward.
    guard times.count == 2 + 2 * blocks else { return }
    let steps = zip(times.dropFirst(), times).map { $0 - $1 }
    forward = steps[blocks - 1]
    head = steps[blocks]
    recomputed = steps[2 * blocks]
    backward = pass.plan.keptBlocks > 0 && blocks > 1 ? steps[blocks + 1] : recomputed - forward
    if pass.plan.keptBlocks > 0 && blocks == 1 { recomputed = backward + forward }
  }

  /// Values that the optimizer is measured with, at most.
  private static let measuredValues = 1 << 20

  private static func ofOptimizer(_ parameters: [Parameter], pool: WorkerPool) -> Double {
    let count = parameters.reduce(0) { $0 + $1.count }
    let sample = Parameter(name: "", shape: [1, max(1, min(count, measuredValues))])
    let optimizer = AdamW([sample], settings: AdamW.Settings(), pool: pool)
    func step() {
      sample.gradient.pointer.update(repeating: 1, count: sample.count)
      optimizer.step(learningRate: 1e-3, gradientScale: Float(GradientNorm.of([sample], pool: pool)))
    }
    step()
    let start = ContinuousClock.now
    step()
    return seconds(since: start) * Double(count) / Double(sample.count)
  }

  private static func seconds(since start: ContinuousClock.Instant) -> Double {
    let passed = (ContinuousClock.now - start).components
    return Double(passed.seconds) + 1e-18 * Double(passed.attoseconds)
  }

  /// Seconds since the start: 0, and at each call of `progress`.
  private static func times(_ pass: TrainingPass, _ rows: [TrainingRow]) throws -> [Double] {
    let start = ContinuousClock.now
    var times = [0.0]
    pass.progress = { _ in times.append(seconds(since: start)) }
    _ = try pass.accumulate(rows, divisor: 1, step: 0, item: 0)
    return times
  }

  /// Of training on so many tokens in so many steps of the optimizer.
  package func seconds(tokens: Int, steps: Int, plan: TrainingPlan) -> Double {
    let pass =
      Double(plan.blockCount) * forward + head + Double(plan.keptBlocks) * backward
      + Double(plan.recomputedBlocks) * recomputed
    return Double(tokens) / Double(self.tokens) * pass + Double(steps) * optimizer
  }

  /// Of measuring the loss of so many tokens.
  package func validationSeconds(tokens: Int, plan: TrainingPlan) -> Double {
    Double(tokens) / Double(self.tokens)
      * (Double(plan.blockCount) * forward + TimeEstimate.headOfLoss * head)
  }
}
