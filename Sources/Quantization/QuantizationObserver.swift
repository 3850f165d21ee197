import Calibration
import Files

/// Who follows a quantization. Calls come from the thread that runs it, in the order of the events; each does nothing unless
/// it is implemented.
package protocol QuantizationObserver {
  /// Files of the model disagree, and one of them was chosen. Called for its weights and for its tokenizer.
  func filesDisagree(_ discrepancies: [Discrepancy])
  func calibrationRead(_ report: CalibrationReport)
  /// What a person must know of the chat template that wrote the conversations.
  func templateChosen(_ note: String)
  /// What the run will take, before the work begins.
  func planMade(_ plan: QuantizationPlan)
  /// The folder of finished layers is open. Above 0, `finishedLayers` were there already and the run continues after them.
  func storeOpened(at path: String, finishedLayers: Int)
  /// The backward pass has made a layer's statistics.
  func statisticsMade(_ done: Int, of total: Int)
  /// The folder of what a choice of bits has found is open, with the layers whose sensitivities and the rounds that are finished.
  func allocationOpened(at path: String, finishedLayers: Int, finishedRounds: Int)
  /// The sensitivities of so many layers are known.
  func sensitivitiesFound(_ done: Int, of total: Int)
  /// A quantization with bits of single modules begins; rounds are counted from 1.
  func precisionRoundStarted(_ number: Int, _ round: PrecisionRound)
  func precisionRoundMeasured(_ number: Int, _ round: PrecisionRound)
  func layerStarted(_ layer: Int, of count: Int)
  func moduleSolved(_ report: ModuleReport)
  /// A stage of a layer is done; stages of all layers are counted.
  func stageFinished(_ done: Int, of total: Int)
  func layerFinished(_ layer: Int, of count: Int)
  /// All layers are finished by several ranks, each of which sent so many bytes for a layer, the average of ranks and layers. Activations that
  /// were kept are not counted.
  func trafficCounted(sentBytesPerLayer: Int)
  /// What each rank's time went into while layers of a decoder were quantized.
  func timesMeasured(_ times: [RankTimes])
  /// An output is being written: bytes so far and in all.
  func writing(_ output: QuantizationOutput, _ done: Int, of total: Int)
  func outputWritten(_ output: QuantizationOutput, path: String)
}

/// A kind of output of a quantization.
package enum QuantizationOutput: String, Sendable {
  /// A folder as AutoGPTQ writes it.
  case folder = "gptq_output"
  /// A `.zhinao` file.
  case packed = "output"
  /// The report beside a `.zhinao` file.
  case report
}

extension QuantizationObserver {
  package func filesDisagree(_ discrepancies: [Discrepancy]) {}
  package func calibrationRead(_ report: CalibrationReport) {}
  package func templateChosen(_ note: String) {}
  package func planMade(_ plan: QuantizationPlan) {}
  package func storeOpened(at path: String, finishedLayers: Int) {}
  package func statisticsMade(_ done: Int, of total: Int) {}
  package func allocationOpened(at path: String, finishedLayers: Int, finishedRounds: Int) {}
  package func sensitivitiesFound(_ done: Int, of total: Int) {}
  package func precisionRoundStarted(_ number: Int, _ round: PrecisionRound) {}
  package func precisionRoundMeasured(_ number: Int, _ round: PrecisionRound) {}
  package func layerStarted(_ layer: Int, of count: Int) {}
  package func moduleSolved(_ report: ModuleReport) {}
  package func stageFinished(_ done: Int, of total: Int) {}
  package func layerFinished(_ layer: Int, of count: Int) {}
  package func trafficCounted(sentBytesPerLayer: Int) {}
  package func timesMeasured(_ times: [RankTimes]) {}
  package func writing(_ output: QuantizationOutput, _ done: Int, of total: Int) {}
  package func outputWritten(_ output: QuantizationOutput, path: String) {}
}

/// Follows nothing.
package struct NoObserver: QuantizationObserver {
  package init() {}
}
