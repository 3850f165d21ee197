import Files
import Foundation
import JSON
import ToolSupport
import Training
import Tuning

/// What the command says.
enum TuneText {
  // MARK: Data

  /// As JSON Lines, in the order of the data.
  static func printRows(_ data: TuningDataset) throws {
    for (rows, set) in [(data.rows, "train"), (data.validationRows, "validation")] {
      for (index, row) in rows.enumerated() {
        let line: JSONValue = [
          "set": .string(set), "row": .init(index), "input_ids": .array(row.tokens.map { .init($0) }),
          "labels": .array(row.labels.map { .init($0 ?? -100) }),
        ]
        try Output.print(line.serialized())
      }
    }
  }

  /// What became of the data, on standard error.
  static func remark(_ report: TuningDataReport) {
    for source in report.sources {
      var parts = ["\(source.records) records (\(source.kind))"]
      if source.rows > 0 { parts.append("\(source.rows) rows") }
      if source.validationRows > 0 { parts.append("\(source.validationRows) rows for validation") }
      parts.append("\(source.tokens) tokens, \(source.countedLabels) of them learned")
      parts.append("the longest row has \(source.longest)")
      Output.remark("\(source.path): \(parts.joined(separator: ", "))")
      for entry in source.leftOut.reasons {
        Output.warn(
          "\(source.path): left out \(entry.count) record\(entry.count == 1 ? "" : "s"), the first at \(entry.place): \(entry.problem)"
        )
      }
      if source.cutRows > 0 {
        Output.warn(
          "\(source.path): \(source.cutRows) rows were cut to the maximum length and lost \(source.tokensCutOff) tokens; --max-length "
            + "sets it")
      }
      let unused = source.unusedFields.sorted { $0.key < $1.key }.map { "\($0.key.text) (\($0.value))" }
      if !unused.isEmpty {
        Output.remark(
          "\(source.path): fields that are not used, with their number: \(unused.joined(separator: ", "))")
      }
    }
    for note in report.notes { Output.warn(note) }
  }

  // MARK: The result

  static func warning(_ result: TuningJob.Result) -> String? {
    guard result.keptStep == 0, result.state.step > 0 else { return nil }
    return
      "no validation loss was smaller than before the training, so that the adapter has its first values and changes nothing; "
      + "--keep last writes the last ones"
  }

  static func losses(_ result: TuningJob.Result) -> [TuningLogEntry.Step] {
    result.entries.compactMap { if case .step(let entry) = $0 { entry } else { nil } }
  }

  static func validations(_ result: TuningJob.Result) -> [TuningLogEntry.Validation] {
    result.entries.compactMap { if case .validation(let entry) = $0 { entry } else { nil } }
  }

  /// Of all steps whose time is known.
  static func tokensPerSecond(_ result: TuningJob.Result) -> Double {
    let steps = losses(result)
    let seconds = steps.reduce(0) { $0 + $1.seconds }
    return seconds > 0 ? Double(steps.reduce(0) { $0 + $1.tokens }) / seconds : 0
  }

  static func lines(_ outcome: AdapterTuning.Outcome, _ prepared: AdapterTuning.Prepared, model: String)
    -> String
  {
    let result = outcome.result
    let steps = losses(result)
    var rows: [[String]] = [["steps", "\(result.state.step) of \(result.length.totalSteps)"]]
    if let first = steps.first, let last = steps.last {
      rows.append([
        "training loss", "\(number(first.loss)) at the first step, \(number(last.loss)) at the last",
      ])
    }
    let validations = validations(result)
    if let first = validations.first, let best = result.state.best {
      rows.append([
        "validation loss", "\(number(first.loss)) before, \(number(best.loss)) after step \(best.step)",
      ])
    }
    if result.state.hasStoppedEarly {
      rows.append(["ended early", "\(result.state.staleValidations) validations without a smaller loss"])
    }
    rows.append(["values of", "step \(result.keptStep)"])
    rows.append([
      "speed",
      "\(Format.number(tokensPerSecond(result), digits: 0)) tokens/s, \(Format.duration(result.state.seconds))",
    ])
    rows.append(["peak memory", Format.bytes(ProcessMemory.peakResidentBytes)])
    rows.append(["adapter", outcome.folder])
    if let file = outcome.eventFile { rows.append(["TensorBoard", PathParts(file).folder]) }
    return Format.table(rows, isText: true)
      + "\n\nzhinao-chat \(model) --lora \(outcome.folder) uses it beside the model; "
      + "zhinao-convert \(model) --merge-lora \(outcome.folder) merges it."
  }

  /// Whole numbers without a fraction.
  static func plain(_ value: Double) -> String {
    value.rounded() == value && abs(value) < 1e15 ? "\(Int(value))" : "\(value)"
  }

  static func number(_ value: Double) -> String { Format.number(value, digits: 4) }

  static func json(_ outcome: AdapterTuning.Outcome, _ prepared: AdapterTuning.Prepared) -> JSONValue {
    let result = outcome.result
    return [
      "adapter": .string(outcome.folder), "steps": .init(result.state.step),
      "total_steps": .init(result.length.totalSteps), "kept_step": .init(result.keptStep),
      "stopped_early": .bool(result.state.hasStoppedEarly),
      "first_loss": losses(result).first.map { .init($0.loss) } ?? nil,
      "last_loss": losses(result).last.map { .init($0.loss) } ?? nil,
      "best_validation_loss": result.state.best.map { .init($0.loss) } ?? nil,
      "tokens": .init(result.state.tokens), "seconds": .init(result.state.seconds),
      "tokens_per_second": .init(tokensPerSecond(result)),
      "peak_memory_bytes": .init(ProcessMemory.peakResidentBytes), "data": prepared.data.report.json,
      "log": .array(result.entries.map(\.json)),
    ]
  }
}

// MARK: - The plan

extension TuneText {
  /// What a training will do and take.
  struct Plan {
    private let plan: TrainingPlan
    let length: TuningLength
    private let rowsPerStep: Int
    private let parameters: Int
    private let updates: Int
    private let norms: Int
    private let memoryLimit: Int?
    /// Tokens of all steps, about.
    private let tokens: Int
    let seconds: Double?

    init(_ prepared: AdapterTuning.Prepared, _ tuning: AdapterTuning) throws {
      plan = prepared.plan
      length = prepared.length
      let recipe = tuning.recipe
      rowsPerStep = recipe.batchSize * recipe.accumulation
      parameters = prepared.adapter.parameters.reduce(0) { $0 + $1.count }
      updates = prepared.adapter.updates.count
      norms = prepared.adapter.parameters.count - 2 * updates
      memoryLimit = tuning.settings.memoryLimit
      let data = prepared.data
      let perEpoch = data.rows.isEmpty ? 0 : data.rows.tokenCount * data.rowsPerEpoch / data.rows.count
      let trained = Int(Double(perEpoch) * Double(length.totalSteps) / Double(length.stepsPerEpoch))
      tokens = trained
      let validations =
        data.validationRows.isEmpty
        ? 0 : length.totalSteps / (recipe.validationInterval ?? length.stepsPerEpoch) + 1
      let steps = length.totalSteps
      // A measurement that fails is no reason not to train.
      let estimate = try? TimeEstimate(prepared, recipe: recipe, settings: tuning.settings)
      seconds = estimate.map {
        $0.seconds(tokens: trained, steps: steps, plan: prepared.plan)
          + $0.validationSeconds(
            tokens: validations * data.validationRows.tokenCount, plan: prepared.plan)
      }
    }

    var text: String {
      var lines = [
        "plan: \(length.totalSteps) steps of \(rowsPerStep) rows, \(length.stepsPerEpoch) an epoch, "
          + "\(length.warmUpSteps) of them warm-up; about \(tokens) tokens",
        "adapter: \(parameters) values, \(updates) updates" + (norms > 0 ? " and \(norms) norms" : ""),
      ]
      var parts = [
        "weights \(Format.bytes(plan.weightBytes))\(plan.releasesWeights ? " (read again for each pass)" : "")",
        "adapter and optimizer \(Format.bytes(plan.parameterBytes))",
      ]
      parts.append(
        plan.usesScratch
          ? "inputs of blocks in a file of \(Format.bytes(plan.scratchBytes))"
          : "inputs of blocks \(Format.bytes(plan.inputBytes))")
      parts.append(
        "activations of \(plan.keptBlocks) of \(plan.blockCount) blocks \(Format.bytes(plan.keptBlocks * plan.blockBytes)), "
          + "the others are computed again")
      parts.append("work \(Format.bytes(plan.workBytes))")
      lines.append("memory: \(Format.bytes(plan.memoryBytes)): \(parts.joined(separator: ", "))")
      if let seconds, length.totalSteps > 0 {
        let step = Format.duration(seconds / Double(length.totalSteps))
        lines.append("time: about \(Format.duration(seconds)), \(step) a step")
      }
      return lines.joined(separator: "\n")
    }

    var memoryBytes: Int { plan.memoryBytes }

    var json: JSONValue {
      [
        "steps": .init(length.totalSteps), "steps_per_epoch": .init(length.stepsPerEpoch),
        "warm_up_steps": .init(length.warmUpSteps), "rows_per_step": .init(rowsPerStep),
        "tokens": .init(tokens), "parameters": .init(parameters), "updates": .init(updates),
        "memory_bytes": .init(plan.memoryBytes), "weight_bytes": .init(plan.weightBytes),
        "releases_weights": .bool(plan.releasesWeights), "adapter_bytes": .init(plan.parameterBytes),
        "input_bytes": .init(plan.inputBytes), "scratch_bytes": .init(plan.scratchBytes),
        "kept_blocks": .init(plan.keptBlocks), "blocks": .init(plan.blockCount),
        "work_bytes": .init(plan.workBytes), "seconds": seconds.map { .init($0) } ?? nil,
      ]
    }
  }
}

/// Says on standard error how a training goes.
final class TuneProgress: TuningObserver {
  private let plan: TuneText.Plan
  private let bar = ProgressReporter("train", unit: "steps")
  private var finished = 0
  private var total = 1
  private var loss = ""
  private var tokens = 0
  private var start = Date()

  /// Whether what a run that ends early leaves behind goes away.
  private let keepsNothing: Bool

  init(plan: TuneText.Plan, keepsNothing: Bool = false) {
    self.plan = plan
    self.keepsNothing = keepsNothing
  }

  func tuningStarted(_ length: TuningLength, finishedSteps: Int, checkpoint: String) {
    finished = finishedSteps
    total = length.totalSteps
    start = Date()
    if finishedSteps > 0 { Output.note("continuing after step \(finishedSteps), kept in \(checkpoint)") }
    guard !keepsNothing else { return }
    Interruption.farewell.withLock { farewell in
      farewell = {
        guard CheckpointFolder.isOfUse(at: checkpoint) else {
          try? FileManager.default.removeItem(atPath: checkpoint)
          return nil
        }
        return "the last checkpoint is kept in \(checkpoint); the same command continues there"
      }
    }
  }

  func batchFinished(step: Int, batch: Int, of batches: Int, tokens: Int) {
    guard batch < batches else { return }
    show(Double(step - 1) + Double(batch) / Double(batches), done: step - 1, extraTokens: tokens)
  }

  func stepFinished(_ entry: TuningLogEntry.Step, of totalSteps: Int) {
    tokens += entry.tokens
    loss = "loss \(TuneText.number(entry.loss)), "
    show(Double(entry.step), done: entry.step, extraTokens: 0)
  }

  private func show(_ position: Double, done: Int, extraTokens: Int) {
    let seconds = max(1e-6, -start.timeIntervalSinceNow)
    let rate = Format.number(Double(tokens + extraTokens) / seconds, digits: 0)
    bar.update(
      done, of: total, share: (position - Double(finished)) / Double(max(1, total - finished)),
      detail: "\(loss)\(rate) tokens/s")
  }

  func validated(_ entry: TuningLogEntry.Validation) {
    Output.remark(
      "step \(entry.step): validation loss \(TuneText.number(entry.loss))\(entry.isBest && entry.step > 0 ? ", the smallest so far" : "")"
    )
  }

  func stoppedEarly(step: Int, validations: Int) {
    Output.remark("ended after step \(step): \(validations) validations without a smaller loss")
  }
}
