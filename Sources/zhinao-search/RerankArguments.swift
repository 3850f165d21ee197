import ArgumentParser
import Compute
import Models
import Retrieval
import Tensors
import ToolSupport

extension RerankerOptions.Kind: ExpressibleByArgument {}
extension RerankerOptions.Template: ExpressibleByArgument {}
extension RerankerOptions.Score: ExpressibleByArgument {}
extension RerankerOptions.Position: ExpressibleByArgument {
  package init?(argument: String) { self.init(argument) }
}

/// How a decoder scores pairs; each option wins over the model's `reranker.json`.
struct RerankerArguments: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "Which token a reranking head reads: before-placeholder, placeholder, last-non-pad, or a number: an offset from the end when "
        + "negative (--position=-5), otherwise from the start.", valueName: "position"))
  var position: RerankerOptions.Position?

  @Flag(
    inversion: .prefixedNo,
    help: "Whether the head reads the state after the decoder's final norm.")
  var finalNorm: Bool?

  @Option(help: ArgumentHelp("The tensor of the head's weights (default: linear.weight).", valueName: "name"))
  var headWeight: String?

  @Option(
    help: ArgumentHelp("The tensor of the head's bias (default: linear.bias, if it exists).", valueName: "name"))
  var headBias: String?

  @Option(help: ArgumentHelp("The system message of a pair (default: empty).", valueName: "text"))
  var system: String?

  @Option(help: ArgumentHelp("Longest pair, in tokens (default: the model's).", valueName: "n"))
  var maxLength: Int?

  @Option(help: ArgumentHelp("Tokens that each message of a pair leaves free (default: 64).", valueName: "n"))
  var answerLength: Int?

  @Option(
    help: ArgumentHelp(
      "Score with the logits of yes and no, after a built-in prompt: qwen3-reranker or flag-llm.", valueName: "name"))
  var template: RerankerOptions.Template?

  @Option(help: ArgumentHelp("What stands before query and passage in the prompt.", valueName: "text"))
  var prefix: String?

  @Option(
    help: ArgumentHelp(
      "The middle of the prompt, with {query}, {document} and perhaps {instruction}.", valueName: "text"))
  var body: String?

  @Option(help: ArgumentHelp("What stands after query and passage in the prompt.", valueName: "text"))
  var suffix: String?

  @Option(help: ArgumentHelp("The text whose first token means yes.", valueName: "text"))
  var yes: String?

  @Option(help: ArgumentHelp("The text whose first token means no.", valueName: "text"))
  var no: String?

  @Option(
    help: ArgumentHelp(
      "What a score is: softmax (of yes and no) or logit (of yes alone).", valueName: "kind"))
  var score: RerankerOptions.Score?

  @Option(help: ArgumentHelp("The instruction in the prompt.", valueName: "text"))
  var instruction: String?

  @Flag(help: "Treat names of special tokens in queries and passages as ordinary text.")
  var plainText = false

  func validate() throws {
    try OptionRange.check("--max-length", maxLength, 1...1 << 24)
    try OptionRange.check("--answer-length", answerLength, 0...1 << 24)
  }

  func options(arithmetic: Int4Arithmetic) -> RerankerOptions {
    var options = RerankerOptions()
    options.position = position
    options.finalNorm = finalNorm
    options.weightName = headWeight
    options.biasName = headBias
    options.system = system
    options.answerLength = answerLength
    options.maximumLength = maxLength
    options.template = template
    options.prefix = prefix
    options.body = body
    options.suffix = suffix
    options.yes = yes
    options.no = no
    options.score = score
    options.instruction = instruction
    options.specials = plainText ? .plain : .recognized
    options.arithmetic = arithmetic
    if options.position == nil, template != nil || prefix != nil || body != nil || suffix != nil {
      options.kind = .yesNo
    }
    return options
  }

  /// Opens a reranker and says what is to be known of its scores.
  func open(_ path: String, _ opening: OpeningOptions, arithmetic: ArithmeticOptions) throws -> any Reranker {
    let reranker = try RerankerLoader.open(
      try opening.open(path, accepting: .all), options: options(arithmetic: arithmetic.arithmetic ?? .exact))
    for remark in reranker.remarks { Output.warn(remark) }
    return reranker
  }
}
