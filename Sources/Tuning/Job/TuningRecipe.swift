import JSON
import Training

/// How a tuning goes: everything that shapes the adapter, beside the model and the rows.
package struct TuningRecipe: Equatable, Sendable {
  package enum Preset: String, CaseIterable, Sendable {
    /// For LoRA: a learning rate of 2e-4, which LoRA needs because its updates are products of small matrices that begin at zero
    /// (the QLoRA paper's for models up to 13 billion parameters); a warm-up and half a cosine, and no decay.
    case lora
    /// The hyperparameters of the 360Zhinao project's script, which trains all weights: a small learning rate, constant after the
    /// warm-up, because its DeepSpeed configuration names WarmupLR.
    case zhinao = "360zhinao"
  }

  package enum Kept: String, CaseIterable, Sendable {
    /// The values with the smallest validation loss.
    case best
    case last
  }

  /// Rows of a micro-batch, which go through the model together.
  package var batchSize = 4
  /// Micro-batches of an optimizer step.
  package var accumulation = 1
  /// Consecutive parts of a step's micro-batches whose gradients are computed each alone and then added in order: as many ranks can
  /// share the work.
  package var shards = 1
  /// Passes over the rows; a part of one is possible.
  package var epochs = 3.0
  /// Optimizer steps; nil: as many as the epochs have.
  package var steps: Int?
  package var learningRate = 2e-4
  package var schedule = LearningRateSchedule.Shape.cosine
  /// The part of all steps that the warm-up takes, rounded up.
  package var warmUpRatio = 0.03
  /// Steps of the warm-up, in place of the ratio.
  package var warmUpSteps: Int?
  package var optimizer = AdamW.Settings()
  /// Of all gradients together; 0: not limited.
  package var maximumGradientNorm = 1.0
  package var seed: UInt64 = 1024
  /// Steps between validations; nil: one after each epoch.
  package var validationInterval: Int?
  /// Validations without a smaller loss after which the run ends; nil: it does not end early.
  package var patience: Int?
  package var kept = Kept.best

  package init() {}

  package init(preset: Preset) {
    switch preset {
    case .lora: break
    case .zhinao:
      learningRate = 5e-6
      schedule = .constant
      warmUpRatio = 0.01
      optimizer = AdamW.Settings(beta1: 0.9, beta2: 0.95, epsilon: 1e-8, weightDecay: 0.1)
    }
  }

  /// Tokens of a row at most, in both presets' training.
  package static func sequenceLength(_ preset: Preset) -> Int { preset == .zhinao ? 4096 : 1024 }

  /// What decides about the result, by the names of the command's options.
  package var identity: JSONObject {
    JSONObject(
      [
        ("batch_size", .init(batchSize)), ("accumulation", .init(accumulation)), ("epochs", .init(epochs)),
        ("steps", steps.map { .init($0) } ?? nil), ("learning_rate", .init(learningRate)),
        ("schedule", .string(schedule.rawValue)), ("warm_up_ratio", .init(warmUpRatio)),
        ("warm_up_steps", warmUpSteps.map { .init($0) } ?? nil), ("beta1", .init(optimizer.beta1)),
        ("beta2", .init(optimizer.beta2)), ("epsilon", .init(optimizer.epsilon)),
        ("weight_decay", .init(optimizer.weightDecay)),
        ("max_gradient_norm", .init(maximumGradientNorm)), ("seed", .number(String(seed))),
        ("validate_every", validationInterval.map { .init($0) } ?? nil),
        ("patience", patience.map { .init($0) } ?? nil), ("keep", .string(kept.rawValue)),
      ] + (shards == 1 ? [] : [("shards", .init(shards))]))
  }
}

extension LoRAOptions {
  /// The same, in PEFT's words where it has them.
  package var identity: JSONObject {
    JSONObject([
      ("rank", .init(rank)), ("alpha", .init(alpha)), ("rslora", .bool(isRankStabilized)),
      ("dropout", .init(dropout)), ("target", .array(targets.map { .string($0) })),
      ("save_module", .array(savedModules.map { .string($0) })), ("lora_seed", .number(String(seed))),
    ])
  }
}

/// How many optimizer steps a recipe makes of some rows.
package struct TuningLength: Equatable, Sendable {
  package let stepsPerEpoch: Int
  package let totalSteps: Int
  package let warmUpSteps: Int

  /// - Parameter batchesPerEpoch: micro-batches, at least 1. What is left of an epoch after whole steps is a step too.
  package init(_ recipe: TuningRecipe, batchesPerEpoch: Int) {
    precondition(batchesPerEpoch > 0 && recipe.accumulation > 0, "a step without rows")
    stepsPerEpoch = (batchesPerEpoch - 1) / recipe.accumulation + 1
    totalSteps = recipe.steps ?? max(1, TuningLength.roundedUp(recipe.epochs * Double(stepsPerEpoch)))
    warmUpSteps =
      recipe.warmUpSteps
      ?? (recipe.warmUpRatio > 0 ? TuningLength.roundedUp(recipe.warmUpRatio * Double(totalSteps)) : 0)
  }

  /// Options are checked to be far below where this could overflow.
  private static func roundedUp(_ value: Double) -> Int { Int(min(value, 0x1p52).rounded(.up)) }

  /// The epoch of a step, and the place of the step in it; both are counted from 0.
  package func place(ofStep step: Int) -> (epoch: Int, step: Int) {
    (step / stepsPerEpoch, step % stepsPerEpoch)
  }
}
