import ArgumentParser
import AutoGPTQ
import JSON
import Quantization
import ToolSupport
import Transformer

struct SolveCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "solve",
    abstract: "Quantize a single Linear layer, for research and comparisons.",
    discussion: """
      W has shape [out, in], and X has shape [n, in]. Each is the only tensor of its file. The output \
      holds qweight, qzeros, scales and g_idx as AutoGPTQ packs them, and dequant, F32 [out, in].

      The Hessian is 2/s · XᵀX, where X consists of s sequences (--sequences). Only the losses depend on \
      s.

      EXAMPLE
        zhinao-quantize solve --weights W.safetensors --inputs X.safetensors --bits 4 --group-size 128 \
      -o out.safetensors --json
      """,
    helpNames: [.short, .long])

  @Option(help: ArgumentHelp("Weights [out, in].", valueName: "file")) var weights: String
  @Option(help: ArgumentHelp("Inputs [n, in].", valueName: "file")) var inputs: String
  @Option(
    name: [.customShort("o"), .customLong("output")], help: ArgumentHelp("Output file.", valueName: "file")
  )
  var destination: String
  @Option(help: ArgumentHelp("Number of sequences that the rows of X consist of.", valueName: "n"))
  var sequences = 4
  @Option(
    help: ArgumentHelp(
      "Format of the zero points: gptq (stored minus one) or gptq_v2 (default: gptq where possible).",
      valueName: "format"))
  var checkpointFormat: ZeroPointFormat?
  @OptionGroup(title: "Quantization") var recipe: RecipeArguments
  @OptionGroup var compute: ComputeOptions
  @OptionGroup var output: OutputOptions

  func validate() throws {
    guard sequences >= 1 else { throw ValidationError("--sequences: expected at least 1.") }
    guard !recipe.recipe(default: .autogptq).needsStatistics else {
      throw ValidationError(
        "--preset best, --token-weights fisher and --two-sided need a whole model, whose gradients they use.")
    }
  }

  func run() throws {
    compute.apply()
    let result = try LinearJob(
      weights: weights, inputs: inputs, output: destination, sequences: sequences, format: checkpointFormat,
      recipe: recipe.recipe(default: .autogptq)
    ).run()
    for warning in result.report.warnings { Output.warn(warning) }
    try output.show(json(result)) { text(result) }
  }

  private func json(_ result: LinearJob.Result) -> JSONValue {
    var json = result.report.json.objectValue ?? JSONObject()
    json["loss"] = .init(result.report.averageLoss)
    json["output_mse"] = .init(result.outputError)
    json["checkpoint_format"] = .string(result.format.rawValue)
    json["seconds"] = .init(result.seconds)
    json["output"] = .string(destination)
    return .object(json)
  }

  private func text(_ result: LinearJob.Result) -> String {
    let (layout, report) = (result.layout, result.report)
    return """
      \(destination): [\(layout.outFeatures), \(layout.inFeatures)] in \(layout.bits) bits, zero points as \
      \(result.format.rawValue)
      loss \(report.averageLoss) (sum \(report.sumLosses)), output error \(result.outputError), damp \
      \(report.dampPercent), \(report.deadChannels) dead channels, \(Format.duration(result.seconds))
      """
  }
}
