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
