import Compute
import Training

/// What computes losses and gradients for a job: the model with its adapter.
package protocol TrainingEngine: AnyObject {
  /// In a fixed order. The job changes their values and sets their gradients to zero.
  var parameters: [Parameter] { get }

  /// Adds to every parameter's gradient that of (sum of the rows' token losses) / `divisor`.
  /// - Parameters:
  ///   - step: the optimizer step, counted from 0.
  ///   - item: the place of the first row among those of the step. Both together decide what dropout leaves out.
  /// - Returns: the sum of the counted tokens' losses in nats, and their number.
  func accumulate(_ rows: [TrainingRow], divisor: Double, step: Int, item: Int) throws -> (
    sum: Double, count: Int
  )

  /// The loss without gradients, and without dropout.
  func loss(_ rows: [TrainingRow]) throws -> (sum: Double, count: Int)

  /// Sets every parameter's gradient to that of all batches of a step, by ``accumulate(_:divisor:step:item:)``.
  /// - Parameters:
  ///   - shards: consecutive parts of the batches, whose gradients are computed each alone and then added in order.
  ///   - willRun: called with the number of a batch; what it throws ends the step.
  /// - Returns: the losses of each batch.
  func accumulate(
    batches: [[TrainingRow]], shards: Int, divisor: Double, step: Int, willRun: (Int) throws -> Void,
    didRun: (Int) -> Void
  ) throws -> [(sum: Double, count: Int)]

  /// The losses of each batch, by ``loss(_:)``.
  func losses(batches: [[TrainingRow]], willRun: (Int) throws -> Void) throws -> [(sum: Double, count: Int)]
}

extension TrainingEngine {
  package func accumulate(
    batches: [[TrainingRow]], shards: Int, divisor: Double, step: Int, willRun: (Int) throws -> Void,
    didRun: (Int) -> Void
  ) throws -> [(sum: Double, count: Int)] {
    var losses: [(sum: Double, count: Int)] = []
    let totals = shards == 1 ? [] : parameters.map { AlignedBuffer<Float>(count: $0.count) }
    var item = 0
    for shard in 0..<shards {
      clearGradients()
      for number in batches.count * shard / shards..<batches.count * (shard + 1) / shards {
        try willRun(number)
        losses.append(try accumulate(batches[number], divisor: divisor, step: step, item: item))
        item += batches[number].count
        didRun(number)
      }
      for (parameter, total) in zip(parameters, totals) {
        let (from, to) = (parameter.gradient.pointer, total.pointer)
        if shard == 0 {
          to.update(from: from, count: total.count)
        } else {
          for place in 0..<total.count { to[place] += from[place] }
        }
      }
    }
    for (parameter, total) in zip(parameters, totals) {
      parameter.gradient.pointer.update(from: total.pointer, count: total.count)
    }
    return losses
  }

  package func losses(batches: [[TrainingRow]], willRun: (Int) throws -> Void) throws -> [(
    sum: Double, count: Int
  )] {
    try batches.enumerated().map { number, rows in
      try willRun(number)
      return try loss(rows)
    }
  }

  func clearGradients() {
    for parameter in parameters {
      parameter.gradient.pointer.update(repeating: 0, count: parameter.count)
    }
  }
}

/// Who follows a tuning. Calls come from the thread that runs it, in the order of the events; each does nothing unless it is
/// implemented.
package protocol TuningObserver {
  /// The length is known and the checkpoint, if there was one, is read: the run continues after `finishedSteps`.
  func tuningStarted(_ length: TuningLength, finishedSteps: Int, checkpoint: String)
  /// A micro-batch is done.
  func batchFinished(step: Int, batch: Int, of batches: Int, tokens: Int)
  func stepFinished(_ entry: TuningLogEntry.Step, of totalSteps: Int)
  func validated(_ entry: TuningLogEntry.Validation)
  /// The run ends before its last step.
  func stoppedEarly(step: Int, validations: Int)
  func checkpointSaved(step: Int)
}

extension TuningObserver {
  package func tuningStarted(_ length: TuningLength, finishedSteps: Int, checkpoint: String) {}
  package func batchFinished(step: Int, batch: Int, of batches: Int, tokens: Int) {}
  package func stepFinished(_ entry: TuningLogEntry.Step, of totalSteps: Int) {}
  package func validated(_ entry: TuningLogEntry.Validation) {}
  package func stoppedEarly(step: Int, validations: Int) {}
  package func checkpointSaved(step: Int) {}
}
