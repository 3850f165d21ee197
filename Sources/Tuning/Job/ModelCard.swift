import Files
import Foundation
import JSON
import Training

/// `README.md` of an adapter, for the Hugging Face Hub and for people.
struct ModelCard {
  private let tuning: AdapterTuning
  private let prepared: AdapterTuning.Prepared
  private let result: TuningJob.Result

  init(_ tuning: AdapterTuning, _ prepared: AdapterTuning.Prepared, _ result: TuningJob.Result) {
    self.tuning = tuning
    self.prepared = prepared
    self.result = result
  }

  var text: String {
    let base = tuning.output.baseModel ?? prepared.model.path
    let options = tuning.options
    let recipe = tuning.recipe
    let losses = result.entries.compactMap { if case .step(let entry) = $0 { entry.loss } else { nil } }
    var rows: [(String, String)] = [
      (
        "Rank, alpha",
        "\(options.rank), \(number(options.alpha))\(options.isRankStabilized ? " (rsLoRA)" : "")"
      ),
      ("Dropout", number(options.dropout)),
      ("Optimizer steps", "\(result.state.step) of \(recipe.batchSize * recipe.accumulation) rows"),
      (
        "Learning rate",
        "\(number(recipe.learningRate)), \(recipe.schedule.rawValue), \(result.length.warmUpSteps) steps of warm-up"
      ),
      (
        "AdamW",
        "β \(number(recipe.optimizer.beta1)) and \(number(recipe.optimizer.beta2)), "
          + "weight decay \(number(recipe.optimizer.weightDecay))"
      ),
      ("Training rows, tokens", "\(prepared.data.rows.count), \(result.state.tokens) seen"),
    ]
    if let first = losses.first, let last = losses.last {
      rows.append(("Training loss", "\(fixed(first)) at the first step, \(fixed(last)) at the last"))
    }
    if let best = result.state.best {
      rows.append(("Validation loss", "\(fixed(best.loss)) after step \(best.step)"))
    }
    rows.append(("Values of", "step \(result.keptStep)"))
    return """
      ---
      base_model: \(JSONValue.string(base).serialized())
      library_name: peft
      pipeline_tag: text-generation
      tags:
      - lora
      ---

      # LoRA adapter

      Trained with \(tuning.generator) on a CPU. `training_log.jsonl` has the loss of every step, `tuning.json` all settings.

      | | |
      |---|---|
      \(rows.map { "| \($0) | \($1) |" }.joined(separator: "\n"))

      ```python
      from peft import PeftModel
      model = PeftModel.from_pretrained(model, "this folder")
      ```

      """
  }

  private func number(_ value: Double) -> String {
    value.rounded() == value && abs(value) < 1e15 ? String(Int(value)) : "\(value)"
  }

  private func fixed(_ value: Double) -> String { String(format: "%.4f", value) }
}
