import Architecture
import ArgumentParser
import Generation

/// How the next token is chosen. What is not given comes from the model, or takes the most likely token.
struct SamplingOptions: ParsableArguments {
  @Option(
    name: [.customLong("max-new-tokens"), .customLong("max-tokens")],
    help: ArgumentHelp("Most tokens to generate (default: 512).", valueName: "n"))
  var maxNewTokens: Int?
  @Option(
    help: ArgumentHelp(
      "0 always takes the most likely token (default); higher is more varied.", valueName: "t"))
  var temperature: Double?
  @Option(
    parsing: .unconditional,
    help: ArgumentHelp("Choose among the k most likely tokens; 0 or -1: all (default).", valueName: "k"))
  var topK: Int?
  @Option(
    help: ArgumentHelp(
      "Choose among the most likely tokens that together have probability p (default: 1).", valueName: "p"))
  var topP: Double?
  @Option(help: ArgumentHelp("Above 1 makes repetition less likely (default: 1).", valueName: "x"))
  var repetitionPenalty: Double?
  @Option(help: ArgumentHelp("Seed of the choice (default: another each time).", valueName: "n"))
  var seed: UInt64?

  func validate() throws {
    if let maxNewTokens, maxNewTokens < 1 {
      throw ValidationError("--max-new-tokens: expected at least 1.")
    }
    if let temperature, !(temperature >= 0 && temperature.isFinite) {
      throw ValidationError("--temperature: expected 0 or more.")
    }
    if let topP, !(topP > 0 && topP <= 1) {
      throw ValidationError("--top-p: expected a number above 0, up to 1.")
    }
    if let topK, topK < -1 { throw ValidationError("--top-k: expected -1 or more.") }
    if let repetitionPenalty, !(repetitionPenalty > 0 && repetitionPenalty.isFinite) {
      throw ValidationError("--repetition-penalty: expected a positive number.")
    }
  }

  /// - Parameter defaults: the model's `generation_config.json`; as transformers reads it, a temperature counts only with
  ///   `do_sample`. A `top_p` or penalty out of range counts as none.
  func parameters(defaults: GenerationConfiguration) -> SamplingParameters {
    let usual = defaults.doSample == true ? defaults.temperature ?? 1 : 0
    let usualTopP = defaults.topP.flatMap { $0 > 0 && $0 <= 1 ? $0 : nil } ?? 1
    let usualPenalty = defaults.repetitionPenalty.flatMap { $0 > 0 && $0.isFinite ? $0 : nil } ?? 1
    return SamplingParameters(
      temperature: temperature ?? (usual >= 0 && usual.isFinite ? usual : 0),
      topK: topK ?? max(0, defaults.topK ?? 0), topP: topP ?? usualTopP,
      repetitionPenalty: repetitionPenalty ?? usualPenalty,
      seed: seed ?? UInt64.random(in: 0...UInt64.max))
  }

  func limit(defaults: GenerationConfiguration) -> Int {
    maxNewTokens ?? max(1, defaults.maxNewTokens ?? 512)
  }
}
