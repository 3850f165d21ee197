import ArgumentParser
import Calibration
import Files
import Foundation
import Tensors
import ToolSupport
import Training
import Tuning

extension TuningRecipe.Preset: ExpressibleByArgument {}
extension TuningRecipe.Kept: ExpressibleByArgument {}
extension LearningRateSchedule.Shape: ExpressibleByArgument {}
extension AdapterFolder.StoredType: ExpressibleByArgument {}
extension TrainedPart: ExpressibleByArgument {}
extension CalibrationFormat: ExpressibleByArgument {}
extension FloatArithmetic: ExpressibleByArgument {}

/// What is learned from.
struct DataArguments: ParsableArguments {
  @Option(
    name: .customLong("data"),
    help: ArgumentHelp(
      "Training data; may be repeated. Reads JSON and JSON Lines with conversations (360Zhinao's from/value, messages, ShareGPT, alpaca), "
        + "prompts with completions, and text, and reads plain text; each may be compressed with gzip. FILE:WEIGHT says how often the "
        + "rows of a file come in an epoch (0.5: every other row).", valueName: "file"))
  var files: [String] = []

  @Option(
    help: ArgumentHelp(
      "Data whose loss is measured and not learned; may be repeated.", valueName: "file"))
  var validation: [String] = []

  @Option(
    help: ArgumentHelp(
      "The part of the conversations and texts of --data that is kept for validation, chosen by --seed.",
      valueName: "x"))
  var validationFraction = 0.0

  @Option(
    help: ArgumentHelp(
      "How data files are read: auto (the content decides), json, jsonl or text.", valueName: "format"))
  var dataFormat = CalibrationFormat.auto

  @Option(
    help: ArgumentHelp(
      "Tokens of a row at most (default: 1024, with --preset 360zhinao 4096). Longer conversations are cut on the right.",
      valueName: "n"))
  var maxLength: Int?

  @Flag(
    help:
      "Put as many conversations into a row as fit, as 360Zhinao's is_concat does; longer ones are left out.")
  var concat = false

  @Option(
    help: ArgumentHelp(
      "Which tokens of conversations are learned: 360zhinao (as its finetune.py: answers, and the tokens that open and close turns; the "
        + "default for its models), assistant (the answers, each with the token that ends it; the default for others), last (the last "
        + "answer), or all.", valueName: "part"))
  var trainOn: TrainedPart?

  @Flag(
    help:
      "Put rows of similar lengths into a batch, as group_by_length of transformers does. Rows are never padded, so that this saves no time."
  )
  var groupByLength = false

  @Flag(help: "Treat names of special tokens in the data as ordinary text.")
  var plainText = false

  @Flag(
    help: "Print the ids and labels of all rows as JSON Lines, and end. -100 is a token that does not count.")
  var printRows = false

  func validate() throws {
    try OptionRange.check("--max-length", maxLength, 2...1 << 20)
    try OptionRange.check("--validation-fraction", validationFraction, 0...0.99)
    guard validationFraction == 0 || validation.isEmpty else {
      throw ValidationError("--validation and --validation-fraction exclude each other.")
    }
    _ = try weighted(files, "--data")
    _ = try weighted(validation, "--validation")
  }

  func weighted(_ arguments: [String], _ option: String) throws -> [TuningFile] {
    try arguments.map { argument in
      do throws(CalibrationFile.InvalidWeight) { return try CalibrationFile(argument: argument) } catch {
        throw ValidationError("\(option) \(argument): \(error.description).")
      }
    }
  }

  func options(preset: TuningRecipe.Preset, seed: UInt64) -> TuningDataOptions {
    TuningDataOptions(
      maximumLength: maxLength ?? TuningRecipe.sequenceLength(preset), packing: concat ? .concat : .separate,
      trainedPart: trainOn, contents: plainText ? .plain : .recognized, format: dataFormat,
      validationFraction: validationFraction, groupsByLength: groupByLength, seed: seed)
  }
}

/// What is trained.
struct AdapterArguments: ParsableArguments {
  @Option(help: ArgumentHelp("Rank of the updates (default: 8).", valueName: "n"))
  var rank: Int?

  @Option(help: ArgumentHelp("Updates are multiplied with alpha / rank (default: 16).", valueName: "x"))
  var alpha: Double?

  @Flag(help: "Multiply updates with alpha / √rank (rsLoRA).")
  var rslora = false

  @Option(
    help: ArgumentHelp(
      "The part of the updates' inputs that is set to zero in training (default: 0).", valueName: "x"))
  var dropout: Double?

  @Option(
    name: .customLong("target"),
    help: ArgumentHelp(
      "A projection that gets an update, by the end of its name, for example q_proj; may be repeated. On 360Zhinao's models both "
        + "qkv_proj and q_proj, k_proj, v_proj are possible (default: every projection of every block).",
      valueName: "name"))
  var targets: [String] = []

  @Option(
    name: .customLong("save-module"),
    help: ArgumentHelp(
      "Norms that are trained as a whole, by the end of their name (modules_to_save of PEFT); may be repeated.",
      valueName: "name"))
  var savedModules: [String] = []

  @Option(
    help: ArgumentHelp(
      "Begin with the values of this adapter, which also says rank, alpha and targets.", valueName: "folder"))
  var initFrom: String?

  @Option(
    help: ArgumentHelp(
      "Write the adapter into a folder of this name in the output folder, as PEFT keeps several.",
      valueName: "name"))
  var adapterName: String?

  @Option(help: ArgumentHelp("Type of the stored tensors: f32 or bf16.", valueName: "type"))
  var adapterType = AdapterFolder.StoredType.f32

  @Option(
    help: ArgumentHelp(
      "What base_model_name_or_path of the adapter says, for example a name on the Hugging Face Hub (default: MODEL).",
      valueName: "name"))
  var baseName: String?

  func validate() throws {
    try OptionRange.check("--rank", rank, 1...4096)
    try OptionRange.check("--alpha", alpha, 1e-6...1e6)
    try OptionRange.check("--dropout", dropout, 0...0.95)
    if let adapterName {
      let isPlain =
        !adapterName.isEmpty && adapterName != "." && adapterName != ".."
        && !adapterName.utf8.contains(UInt8(ascii: "/")) && !adapterName.utf8.contains(0)
      guard isPlain else {
        throw ValidationError("--adapter-name \(adapterName): expected the name of a folder, without /.")
      }
    }
  }

  /// - Throws: also when what was asked for differs from the adapter to begin with.
  func options(seed: UInt64) throws -> LoRAOptions {
    guard let initFrom else {
      return LoRAOptions(
        rank: rank ?? 8, alpha: alpha ?? 16, isRankStabilized: rslora, dropout: dropout ?? 0,
        targets: targets, savedModules: savedModules, seed: seed)
    }
    var found = try AdapterFolder.options(ofFolder: initFrom)
    func check<Value: Equatable>(_ option: String, _ asked: Value?, _ value: Value) throws {
      guard let asked, asked != value else { return }
      throw ValidationError(
        "\(option) \(asked): the adapter of --init-from has \(value); leave the option out.")
    }
    try check("--rank", rank, found.rank)
    try check("--alpha", alpha, found.alpha)
    try check("--rslora", rslora ? true : nil, found.isRankStabilized)
    try check("--target", targets.isEmpty ? nil : targets.sorted(), found.targets.sorted())
    try check(
      "--save-module", savedModules.isEmpty ? nil : savedModules.sorted(), found.savedModules.sorted())
    found.dropout = dropout ?? found.dropout
    found.seed = seed
    return found
  }
}

/// How it is trained.
struct TrainingArguments: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "lora (learning rate 2e-4, a warm-up of 3 % and half a cosine), or 360zhinao, the hyperparameters of its finetuning script, which "
        + "trains all weights (5e-6, betas 0.9 and 0.95, weight decay 0.1, a warm-up of 1 % and then constant, rows of 4096 tokens). "
        + "Both: 3 epochs, batches of 4, gradient norm 1. Other options change single settings.",
      valueName: "name"))
  var preset = TuningRecipe.Preset.lora

  @Option(help: ArgumentHelp("Passes over the data; a part of one is possible (default: 3).", valueName: "x"))
  var epochs: Double?

  @Option(help: ArgumentHelp("Optimizer steps, in place of --epochs.", valueName: "n"))
  var steps: Int?

  @Option(help: ArgumentHelp("Rows that go through the model together (default: 4).", valueName: "n"))
  var batchSize: Int?

  @Option(help: ArgumentHelp("Batches of an optimizer step (default: 1).", valueName: "n"))
  var accumulation: Int?

  @Option(
    help: ArgumentHelp(
      "Cut the batches of a step into n consecutive shards, compute the gradient of each alone, and add them in order. As many processes "
        + "can share the work under mpirun, with the result of one process with the same n; see Docs/cluster.md. At most --accumulation.",
      valueName: "n"))
  var shards = 1

  @Option(
    help: ArgumentHelp("The learning rate after the warm-up (default: as the preset has it).", valueName: "x")
  )
  var learningRate: Double?

  @Option(
    help: ArgumentHelp(
      "The learning rate after the warm-up: constant, linear or cosine (default: as the preset has it).",
      valueName: "shape"))
  var schedule: LearningRateSchedule.Shape?

  @Option(
    help: ArgumentHelp(
      "The part of the steps in which the learning rate rises (default: as the preset has it).",
      valueName: "x"))
  var warmUpRatio: Double?

  @Option(
    help: ArgumentHelp("Steps in which the learning rate rises, in place of --warm-up-ratio.", valueName: "n")
  )
  var warmUpSteps: Int?

  @Option(
    help: ArgumentHelp("Decoupled weight decay of matrices (default: as the preset has it).", valueName: "x"))
  var weightDecay: Double?

  @Option(help: ArgumentHelp("AdamW's first beta (default: 0.9).", valueName: "x"))
  var beta1: Double?

  @Option(help: ArgumentHelp("AdamW's second beta (default: as the preset has it).", valueName: "x"))
  var beta2: Double?

  @Option(help: ArgumentHelp("AdamW's epsilon (default: 1e-8).", valueName: "x"))
  var epsilon: Double?

  @Option(help: ArgumentHelp("Norm of all gradients at most; 0: no limit (default: 1).", valueName: "x"))
  var maxGradientNorm: Double?

  @Option(
    help: ArgumentHelp(
      "Seed of the order of rows, of the split, of the first values and of dropout.", valueName: "n"))
  var seed: UInt64 = 1024

  @Option(
    help: ArgumentHelp("Steps between validations (default: one after each epoch).", valueName: "n"))
  var validateEvery: Int?

  @Option(
    help: ArgumentHelp("End after so many validations without a smaller loss.", valueName: "n"))
  var patience: Int?

  @Option(
    help: ArgumentHelp(
      "With validation: write the values with the smallest validation loss (best) or the last ones (last).",
      valueName: "which"))
  var keep = TuningRecipe.Kept.best

  @Option(
    help: ArgumentHelp(
      "Arithmetic of products with the frozen weights: fp32, or bf16, which is faster on AMD's Zen 4 and 5. The result is the same on "
        + "every processor.", valueName: "type"))
  var trainingArithmetic = FloatArithmetic.fp32

  func validate() throws {
    try OptionRange.check("--epochs", epochs, 1e-6...1e6)
    try OptionRange.check("--steps", steps, 1...1_000_000_000)
    try OptionRange.check("--batch-size", batchSize, 1...65_536)
    try OptionRange.check("--accumulation", accumulation, 1...1_000_000)
    try OptionRange.check("--shards", shards, 1...(accumulation ?? 1))
    try OptionRange.check("--learning-rate", learningRate, 0...100)
    try OptionRange.check("--warm-up-ratio", warmUpRatio, 0...1)
    try OptionRange.check("--warm-up-steps", warmUpSteps, 0...1_000_000_000)
    try OptionRange.check("--weight-decay", weightDecay, 0...100)
    try OptionRange.check("--beta1", beta1, 0...0.999999)
    try OptionRange.check("--beta2", beta2, 0...0.99999999)
    try OptionRange.check("--epsilon", epsilon, 1e-30...1)
    try OptionRange.check("--max-gradient-norm", maxGradientNorm, 0...1e9)
    try OptionRange.check("--validate-every", validateEvery, 1...1_000_000_000)
    try OptionRange.check("--patience", patience, 1...1_000_000_000)
    guard steps == nil || epochs == nil else {
      throw ValidationError("--steps and --epochs exclude each other.")
    }
    guard warmUpSteps == nil || warmUpRatio == nil else {
      throw ValidationError("--warm-up-steps and --warm-up-ratio exclude each other.")
    }
  }

  var recipe: TuningRecipe {
    var recipe = TuningRecipe(preset: preset)
    if let epochs { recipe.epochs = epochs }
    recipe.steps = steps
    if let batchSize { recipe.batchSize = batchSize }
    if let accumulation { recipe.accumulation = accumulation }
    recipe.shards = shards
    if let learningRate { recipe.learningRate = learningRate }
    if let schedule { recipe.schedule = schedule }
    if let warmUpRatio { recipe.warmUpRatio = warmUpRatio }
    recipe.warmUpSteps = warmUpSteps
    if let weightDecay { recipe.optimizer.weightDecay = weightDecay }
    if let beta1 { recipe.optimizer.beta1 = beta1 }
    if let beta2 { recipe.optimizer.beta2 = beta2 }
    if let epsilon { recipe.optimizer.epsilon = epsilon }
    if let maxGradientNorm { recipe.maximumGradientNorm = maxGradientNorm }
    recipe.seed = seed
    recipe.validationInterval = validateEvery
    recipe.patience = patience
    recipe.kept = keep
    return recipe
  }
}

/// Where it goes.
struct TuningOutputArguments: ParsableArguments {
  @Option(name: .shortAndLong, help: ArgumentHelp("Folder of the adapter to write.", valueName: "folder"))
  var output: String?

  @Flag(help: "Replace existing outputs.")
  var overwrite = false

  @Flag(help: "Say what would be trained, with memory and time, and end.")
  var plan = false

  @Option(
    help: ArgumentHelp(
      "Steps between checkpoints (default: as often as costs no more than a fiftieth of the time).",
      valueName: "n"))
  var checkpointEvery: Int?

  @Option(
    help: ArgumentHelp(
      "Write losses and learning rates for TensorBoard into this folder.", valueName: "folder"))
  var tensorboard: String?

  @Option(
    help: ArgumentHelp(
      "Maximum memory, for example 6GiB or 500MB. What does not fit is computed again; a training that needs more is refused.",
      valueName: "size"))
  var memoryLimit: String?

  @Option(
    help: ArgumentHelp("Folder for a temporary file of activations, instead of memory.", valueName: "folder"))
  var scratch: String?

  func validate() throws {
    try OptionRange.check("--checkpoint-every", checkpointEvery, 1...1_000_000_000)
    if let memoryLimit, Format.byteCount(memoryLimit) == nil {
      throw ValidationError(
        "--memory-limit \(memoryLimit): expected a number with B, kB, MB, GB, KiB, MiB or GiB.")
    }
  }

  func settings(_ training: TrainingArguments) -> TrainingSettings {
    TrainingSettings(
      arithmetic: training.trainingArithmetic, memoryLimit: memoryLimit.flatMap(Format.byteCount),
      scratch: scratch)
  }
}
