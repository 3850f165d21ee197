import ArgumentParser
import AutoGPTQ
import Calibration
import Distribution
import Foundation
import Quantization
import Tensors
import ToolSupport
import Transformer

@main
enum Entry {
  static func main() {
    let asksForScript = CommandLine.arguments.contains { $0.hasPrefix("--generate-completion-script") }
    if asksForScript { ToolMain.run(CompletedCommand.self) }
    ToolMain.run(ZhinaoQuantize.self, outlivesTerminal: true)
  }
}

/// What shells complete. ArgumentParser's scripts do not offer the options of a default subcommand, so that here they are the
/// command's own.
struct CompletedCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "zhinao-quantize", version: ToolVersion.generator, subcommands: [SolveCommand.self])

  @OptionGroup var model: QuantizeModelCommand
}

/// The command itself has no arguments, so that its subcommands can have them. Its help is the default subcommand's.
struct ZhinaoQuantize: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "zhinao-quantize",
    abstract: "Quantize a model to 2, 3, 4 or 8 bits with calibration text.",
    usage: QuantizeModelCommand.usage,
    version: ToolVersion.generator,
    subcommands: [QuantizeModelCommand.self, SolveCommand.self],
    defaultSubcommand: QuantizeModelCommand.self,
    helpNames: [])
}

struct QuantizeModelCommand: ParsableCommand {
  static let usage = """
    zhinao-quantize [<options>] <model>
    zhinao-quantize --demo
    zhinao-quantize solve [<options>]
    """

  static let configuration = CommandConfiguration(
    // A name that is unlikely to be that of a model's folder.
    commandName: "quantize-model",
    abstract: "Quantize a model to 2, 3, 4 or 8 bits with calibration text.",
    usage: usage,
    discussion: """
      Quantizes layer by layer on the CPU with GPTQ, with scales and token weights that lose less accuracy than plain GPTQ; \
      --preset best loses least, and --preset autogptq computes what AutoGPTQ 0.7.1 computes. The output is a packed .zhinao file, a folder that AutoGPTQ, GPTQModel, transformers and vLLM load, or both. If a run is \
      interrupted, the same command continues it.

      EXAMPLES
        zhinao-quantize MODEL_DIR --calibration data.json -o model-int4.zhinao --gptq-output model-int4-gptq/
        zhinao-quantize MODEL_DIR --calibration data.json --preset best -o model-int4.zhinao
        zhinao-quantize MODEL_DIR --calibration data.json --target-kl 0.05 -o out.zhinao
        zhinao-quantize MODEL_DIR --calibration corpus.txt.gz --bits 4 --group-size 32 --no-sym -o out.zhinao
        zhinao-quantize MODEL_DIR --method rtn -o baseline.zhinao
        zhinao-quantize MODEL_DIR --calibration data.json -o out.zhinao --report-html report.html
        zhinao-quantize --demo

      'zhinao-quantize solve' quantizes one Linear, for research and parity; see 'zhinao-quantize solve --help'.
      """,
    helpNames: [.short, .long])

  @Argument(help: "A float model: Hugging Face folder, .zhinao file or .gguf file.")
  var model: String?

  @Flag(help: "Quantize a small included model, verify it, and print a table.")
  var demo = false

  @OptionGroup(title: "Calibration") var calibration: CalibrationArguments
  @OptionGroup(title: "Quantization") var recipe: RecipeArguments
  @Option(
    help: ArgumentHelp(
      "Cut the calibration windows into n consecutive shards, sum each alone, and add the sums in order. As many processes can share "
        + "the work under mpirun, and write the bytes that one process writes with the same n; see Docs/cluster.md.",
      valueName: "n"))
  var shards = 1
  @OptionGroup(title: "Mixed precision") var precision: PrecisionArguments
  @OptionGroup(title: "Output") var outputs: OutputArguments
  @OptionGroup var digests: DigestOptions
  @OptionGroup(title: "Report") var report: ReportOptions
  @OptionGroup var opening: OpeningOptions
  @OptionGroup var compute: ComputeOptions
  @OptionGroup var output: OutputOptions

  func validate() throws {
    try OptionRange.check("--shards", shards, 1...QuantizationRecipe.mostShards)
    if demo {
      guard !report.isAsked else {
        throw ValidationError("--demo writes no report: leave --report-html out, or name a MODEL.")
      }
      return
    }
    guard model != nil else { throw ValidationError("Specify a MODEL or --demo.") }
    guard outputs.packed != nil || outputs.gptqOutput != nil else {
      throw ValidationError("Specify -o FILE.zhinao, --gptq-output FOLDER, or both.")
    }
    guard recipe.method == .rtn || !calibration.files.isEmpty else {
      throw ValidationError("Specify --calibration FILE, or --method rtn, which needs no calibration text.")
    }
  }

  func run() throws {
    guard let model, !demo else {
      compute.apply()
      try RankSession.refuseRanks("the demo")
      return try Demo().run(output)
    }
    let communicator = try compute.join()
    let reportFile = communicator.isRoot ? try report.claimed(overwrites: outputs.overwrite) : nil
    var chosen = recipe.recipe(default: .balanced)
    chosen.shards = shards
    let progress = QuantizationProgress()
    let job = QuantizationJob(
      modelPath: model, verification: opening.verify, preTokenizer: opening.preTokenizer,
      recipe: chosen, precision: try precision.target(chosen), calibrationFiles: try calibration.weighted(),
      calibrationOptions: calibration.options, outputs: outputs.outputs,
      memoryLimit: outputs.memoryLimit.flatMap(Format.byteCount), scratch: outputs.scratch,
      tool: .thisTool, communicator: communicator)
    guard let result = try job.runOnRanks(observer: progress) else { return }
    for warning in result.report.warnings { Output.warn(warning) }
    let files = try digests.digests(of: result.written.map(\.path))
    try reportFile?.write(
      QuantizationPage.report(result, model: model, plan: progress.plan, language: report.reportLanguage))
    try output.show(QuantizationText.json(result, times: progress.times, digests: files)) {
      QuantizationText.lines(result) + DigestOptions.lines(files)
    }
  }
}

extension QuantizationJob.ToolIdentity {
  static let thisTool = QuantizationJob.ToolIdentity(
    generator: ToolVersion.generator, version: ToolVersion.current)
}

/// Which text is used, and how.
struct CalibrationArguments: ParsableArguments {
  @Option(
    name: .customLong("calibration"),
    help: ArgumentHelp(
      "Calibration data; may be repeated. Reads JSON and JSON Lines with conversations (messages, ShareGPT, alpaca), pairs of question "
        + "and answer, text or input_ids, and reads plain text; each may be compressed with gzip. The content decides the format; a name "
        + "that contradicts it (.json, .csv, .yaml) is an error. FILE:WEIGHT mixes files: each gives windows in proportion to its "
        + "weight (a.jsonl:3 b.txt:1 takes three of a.jsonl for each of b.txt). For an encoder, each line of plain text is a text, and "
        + "records with query and passage, or text and pair, are pairs. See Formats/calibration.md.",
      valueName: "file"))
  var files: [String] = []

  @Option(
    name: .customLong("calibration-format"),
    help: ArgumentHelp(
      "How calibration files are read: auto (the content decides), json, jsonl or text. With text, tables, HTML and YAML are accepted "
        + "as they are.", valueName: "format")
  )
  var format = CalibrationFormat.auto

  @Option(help: ArgumentHelp("Tokens in a calibration window.", valueName: "n"))
  var sequenceLength = 512

  @Option(
    help: ArgumentHelp(
      "Maximum number of windows, for an encoder of texts. If there are more, --seed selects among them (default: 128, for an "
        + "encoder 1024).", valueName: "n"))
  var samples: Int?

  @Option(help: ArgumentHelp("Seed for selecting windows.", valueName: "n"))
  var seed: UInt64 = 0

  @Flag(help: "Join all records and cut them into full windows, instead of using the start of each record.")
  var pack = false

  @Flag(help: "Treat names of special tokens in the text as ordinary text.")
  var plainText = false

  func validate() throws {
    guard sequenceLength >= 2, sequenceLength <= 1 << 20 else {
      throw ValidationError("--sequence-length: expected a number from 2 to \(1 << 20).")
    }
    try OptionRange.check("--samples", samples, 1...Int.max)
    _ = try weighted()
  }

  /// The files with their weights.
  func weighted() throws -> [CalibrationFile] {
    try files.map { argument in
      do throws(CalibrationFile.InvalidWeight) { return try CalibrationFile(argument: argument) } catch {
        throw ValidationError("--calibration \(argument): \(error.description).")
      }
    }
  }

  var options: CalibrationOptions {
    CalibrationOptions(
      sequenceLength: sequenceLength, samples: samples ?? 128, encoderSamples: samples ?? 1024, seed: seed,
      packing: pack ? .pack : .truncate,
      contents: plainText ? .plain : .recognized, format: format)
  }
}

extension CalibrationFormat: ExpressibleByArgument {}
extension QuantizationRecipe.Method: ExpressibleByArgument {}
extension QuantizationRecipe.Preset: ExpressibleByArgument {}
extension QuantizationRecipe.TokenWeights: ExpressibleByArgument {}
extension FloatArithmetic: ExpressibleByArgument {}

/// What is computed.
struct RecipeArguments: ParsableArguments {
  @Option(help: ArgumentHelp("gptq, or rtn (round-to-nearest, as a baseline).", valueName: "method"))
  var method = QuantizationRecipe.Method.gptq

  @Option(help: ArgumentHelp("Bits for each weight: 2, 3, 4 or 8.", valueName: "n"))
  var bits = 4

  @Option(
    parsing: .unconditional,
    help: ArgumentHelp(
      "Number of inputs that share a scale: 32, 64, 128, or -1 for the whole row.", valueName: "n"))
  var groupSize = 128

  @Flag(inversion: .prefixedNo, help: "Quantize symmetrically: the zero point is always the middle code.")
  var sym = true

  @Option(
    help: ArgumentHelp(
      "balanced: act-order with static groups, --scale-search and --token-weights attention, in about the time of plain GPTQ; best, which "
        + "loses least and takes a few times as long: as balanced, with --token-weights fisher, --two-sided and --error-propagation; or autogptq, the "
        + "arithmetic of AutoGPTQ 0.7.1 (default: balanced, and autogptq for solve). Other options change single settings of a preset. "
        + "Needs --method gptq.",
      valueName: "name"))
  var preset: QuantizationRecipe.Preset?

  @Flag(
    inversion: .prefixedNo,
    help: "Quantize columns in order of decreasing activation (act-order; default: as the preset has it).")
  var descAct: Bool?

  @Flag(
    inversion: .prefixedNo,
    help:
      "Form groups in the original column order (default: as the preset has it). Act-order then costs nothing at run time."
  )
  var staticGroups: Bool?

  @Flag(
    inversion: .prefixedNo,
    help:
      "Search each group for the scale with the smallest quantization loss, instead of the one that covers all its weights (default: as the preset has it)."
  )
  var scaleSearch: Bool?

  @Flag(
    help:
      "Keep --scale-search from choosing negative scales, which it may do with --sym and which a few engines for 8-bit activations do not read."
  )
  var positiveScales = false

  @Option(
    help: ArgumentHelp(
      "Weight of each calibration token: none (all tokens count the same), norm (1 / norm of the module's input), attention (as "
        + "norm; for the query, key and value modules also times the attention that the token receives), or fisher (norm of the "
        + "gradient of the module's output, from a backward pass) (default: as the preset has "
        + "it). Needs --method gptq; solve takes norm for attention.",
      valueName: "kind"))
  var tokenWeights: QuantizationRecipe.TokenWeights?

  @Flag(
    inversion: .prefixedNo,
    help:
      "Let later outputs of a module make up for the rounding errors of earlier ones, as a backward pass says that they can (default: as the preset has it)."
  )
  var twoSided: Bool?

  @Option(
    help: ArgumentHelp(
      "Maximum number of outputs that --two-sided looks at together; a module with more is cut into equal blocks. Memory grows "
        + "with the square.", valueName: "n"))
  var outputBlock = QuantizationRecipe.defaultOutputBlock

  @Flag(
    inversion: .prefixedNo,
    help:
      "Let each module make up for the errors of the modules before it: a second pass of the float model shows what it should have seen. One calibration window in eight is kept out and decides how far this goes. Takes about twice the time and memory of the forward pass (default: as the preset has it, and not without --true-sequential). Needs --method gptq; solve does not have it."
  )
  var errorPropagation: Bool?

  @Option(
    help: ArgumentHelp(
      "After GPTQ, refit the scales and move single codes, at most n times. One calibration window in eight is kept out of the Hessian "
        + "and decides for each output when to stop. Needs --method gptq; 2 is usual.", valueName: "n"))
  var refinementRounds = 0

  @Option(
    name: [.customLong("damp"), .customLong("damp-percent")],
    help: ArgumentHelp(
      "Fraction of the mean diagonal that is added to the diagonal of the Hessian (default: 0.01, or 0.005 with balanced).",
      valueName: "x"))
  var damp: Double?

  @Option(
    help: ArgumentHelp(
      "Increase of --damp for each retry when the Hessian is not positive definite; 0 fails at once.",
      valueName: "x"))
  var dampIncrement = 0.01

  @Flag(inversion: .prefixedNo, help: "Calibrate later modules of a layer on the quantized earlier ones.")
  var trueSequential = true

  @Flag(help: "Use all codes for groups without negative weights; AutoGPTQ uses half of them.")
  var mirrorPositiveGroups = false

  @Option(
    help: ArgumentHelp(
      "Arithmetic of the passes over the calibration text: fp32, or bf16, which is faster on AMD's Zen 4 and 5. The result is the "
        + "same on every processor (default: fp32, or bf16 with best).", valueName: "type"))
  var calibrationArithmetic: FloatArithmetic?

  func validate() throws {
    let usesHessian =
      (preset ?? .autogptq) != .autogptq || tokenWeights != nil || twoSided != nil
      || errorPropagation != nil || refinementRounds > 0
    guard method == .gptq || !usesHessian else {
      throw ValidationError(
        "--method rtn has no Hessian: --preset, --token-weights, --two-sided, --error-propagation and --refinement-rounds need --method gptq."
      )
    }
    guard (0...QuantizationRecipe.mostRefinementRounds).contains(refinementRounds) else {
      throw ValidationError(
        "--refinement-rounds: expected a number from 0 to \(QuantizationRecipe.mostRefinementRounds).")
    }
    guard refinementRounds == 0 || !recipe(default: .balanced).roundsBothSides else {
      throw ValidationError(
        "--refinement-rounds would undo what --two-sided does: pass --no-two-sided, or leave it out.")
    }
    guard trueSequential || errorPropagation != true else {
      throw ValidationError("--error-propagation needs --true-sequential.")
    }
  }

  /// - Parameter preset: that of GPTQ if none is given.
  func recipe(default preset: QuantizationRecipe.Preset) -> QuantizationRecipe {
    var recipe = QuantizationRecipe(
      method: method, bits: bits, groupSize: groupSize, isSymmetric: sym, dampIncrement: dampIncrement,
      trueSequential: trueSequential,
      mirrorsPositiveGroups: mirrorPositiveGroups, signedScales: !positiveScales, outputBlock: outputBlock)
    recipe.apply(self.preset ?? (method == .gptq ? preset : .autogptq))
    if let damp { recipe.dampPercent = damp }
    if let descAct { recipe.descendingActivation = descAct }
    if let staticGroups { recipe.staticGroups = staticGroups }
    if let scaleSearch { recipe.searchesScales = scaleSearch }
    if let tokenWeights { recipe.tokenWeights = tokenWeights }
    if let twoSided { recipe.roundsBothSides = twoSided }
    // A preset's choice gives way to what was asked for.
    recipe.propagatesErrors = errorPropagation ?? (recipe.propagatesErrors && trueSequential)
    if refinementRounds > 0 { recipe.refinementRounds = refinementRounds }
    if let calibrationArithmetic { recipe.calibrationArithmetic = calibrationArithmetic }
    return recipe
  }
}

/// What is written.
struct OutputArguments: ParsableArguments {
  @Option(
    name: [.customShort("o"), .customLong("output")],
    help: ArgumentHelp("Packed model file to write.", valueName: "file.zhinao"))
  var packed: String?

  @Option(help: ArgumentHelp("AutoGPTQ folder to write.", valueName: "folder"))
  var gptqOutput: String?

  @Option(
    help: ArgumentHelp(
      "Format of the zero points in the folder: gptq (version 1) or gptq_v2 (default: gptq if symmetric).",
      valueName: "format"))
  var checkpointFormat: ZeroPointFormat?

  @Option(help: ArgumentHelp("Maximum size of a safetensors file in the folder, in MB.", valueName: "MB"))
  var shardSize = 5000

  @Option(
    help: ArgumentHelp(
      "Bits of the output head in the packed file: 16 (unchanged), 8 or 4. Folders keep it unchanged.",
      valueName: "n"))
  var headBits = 16

  @Option(
    help: ArgumentHelp(
      "Maximum memory, for example 6GiB or 500MB. A job whose plan needs more is refused.",
      valueName: "size"))
  var memoryLimit: String?

  @Option(
    help: ArgumentHelp("Folder for a temporary file of activations, instead of memory.", valueName: "folder"))
  var scratch: String?

  @Flag(help: "Replace existing outputs.")
  var overwrite = false

  func validate() throws {
    if let memoryLimit, Format.byteCount(memoryLimit) == nil {
      throw ValidationError(
        "--memory-limit \(memoryLimit): expected a number with B, kB, MB, GB, KiB, MiB or GiB.")
    }
    guard [4, 8, 16].contains(headBits) else { throw ValidationError("--head-bits: expected 16, 8 or 4.") }
    guard shardSize >= 1, shardSize <= 1_000_000_000 else {
      throw ValidationError("--shard-size: expected a number from 1 to 1000000000.")
    }
  }

  var outputs: QuantizationJob.Outputs {
    QuantizationJob.Outputs(
      packed: packed, folder: gptqOutput, format: checkpointFormat, shardByteLimit: shardSize * 1_000_000,
      headBits: headBits, overwrites: overwrite)
  }
}
