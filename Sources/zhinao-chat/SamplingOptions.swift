import ArgumentParser
import Generation

/// How the next token is chosen. What is not given comes from ``SamplingDefaults``.
struct SamplingOptions: ParsableArguments {
  @Option(
    name: [.customLong("max-new-tokens"), .customLong("max-tokens")],
    parsing: .unconditional,
    help: ArgumentHelp("The maximum number of tokens to generate (default: 512).", valueName: "n"))
  var maxNewTokens: Int?
  @Option(
    parsing: .unconditional,
    help: ArgumentHelp(
      "0 always takes the most likely token; higher is more varied, up to 100 (default: see above).",
      valueName: "t"))
  var temperature: Double?
  @Option(
    parsing: .unconditional,
    help: ArgumentHelp("Choose among the k most likely tokens; 0 or -1: all (default).", valueName: "k"))
  var topK: Int?
  @Option(
    parsing: .unconditional,
    help: ArgumentHelp(
      "Choose among the most likely tokens that together have probability p (default: 1).", valueName: "p"))
  var topP: Double?
  @Option(
    parsing: .unconditional,
    help: ArgumentHelp(
      "Above 1 makes repetition less likely; 0.01 to 100 (default: 1).", valueName: "x"))
  var repetitionPenalty: Double?
  @Option(
    parsing: .unconditional,
    help: ArgumentHelp("The seed of the choice (default: another one each time).", valueName: "n"))
  var seed: UInt64?

  func validate() throws {
    if let maxNewTokens, maxNewTokens < 1 {
      throw ValidationError("--max-new-tokens: expected at least 1.")
    }
    if let temperature, !SamplingRange.temperature.contains(temperature) {
      throw ValidationError("--temperature: expected a number from 0 to 100.")
    }
    if let topP, !(topP > 0 && SamplingRange.topP.contains(topP)) {
      throw ValidationError("--top-p: expected a number above 0, up to 1.")
    }
    if let topK, !SamplingRange.topK.contains(topK) {
      throw ValidationError("--top-k: expected -1 or more.")
    }
    if let repetitionPenalty, !SamplingRange.repetitionPenalty.contains(repetitionPenalty) {
      throw ValidationError("--repetition-penalty: expected a number from 0.01 to 100.")
    }
  }

  func parameters(defaults: SamplingDefaults) -> SamplingParameters {
    var parameters = defaults.parameters(
      for: SamplingChoice(
        temperature: temperature, topK: topK, topP: topP, repetitionPenalty: repetitionPenalty))
    parameters.seed = seed ?? UInt64.random(in: 0...UInt64.max)
    return parameters
  }

  func limit(defaults: SamplingDefaults) -> Int { maxNewTokens ?? defaults.newTokens }
}
