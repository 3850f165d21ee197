import ArgumentParser
import JSON
import Models
import Retrieval
import Serving
import Tokenization
import ToolSupport

/// How models that embed and rerank are served.
struct RetrievalOptions: ParsableArguments {
  /// What a model is to do.
  enum Task: String, ExpressibleByArgument, CaseIterable {
    case auto, generate, embed, rerank

    func task(of opened: OpenedModel) throws -> ModelTask {
      switch self {
      case .auto: try ModelTask(of: opened)
      case .generate: .generate
      case .embed: .embed
      case .rerank: .rerank
      }
    }
  }

  @Option(
    help: ArgumentHelp(
      "What the model does: generate, embed, rerank, or auto, which follows from its files; may be given once for each "
        + "model (default: auto).", valueName: "task"))
  var task: [Task] = []
  @Option(
    parsing: .unconditional,
    help: ArgumentHelp(
      "Number of tokens of texts and pairs that are computed together. Small batches let requests take turns.",
      valueName: "n"))
  var batchTokens = 4096
  @Option(
    parsing: .unconditional,
    help: ArgumentHelp("Maximum number of texts, documents or pairs of a request.", valueName: "n"))
  var maxInputs = 2048
  @Option(
    help: ArgumentHelp(
      "How decoders make scores: a JSON file like a model's reranker.json, over which it wins (Docs/search.md).",
      valueName: "file"))
  var rerankerSettings: String?
  @Flag(
    inversion: .prefixedNo,
    help: "Cut texts that are longer than the model takes, unless a request says otherwise; or refuse them.")
  var autoTruncate = true
  @Flag(help: "Let requests shorten vectors with dimensions, also of models that were not trained for it.")
  var allowDimensions = false

  @Flag(
    help: "Treat names of special tokens in texts that become vectors or scores as ordinary text.")
  var plainText = false

  var specials: SpecialTokens { plainText ? .plain : .recognized }

  func validate() throws {
    try OptionRange.check("--batch-tokens", batchTokens, 1...1_000_000)
    try OptionRange.check("--max-inputs", maxInputs, 1...1_000_000)
  }

  func settings() throws -> RerankerOptions? {
    guard let rerankerSettings else { return nil }
    return try RerankerOptions(JSONValue.parse(file: rerankerSettings), document: rerankerSettings)
  }

  func apply(to limits: ServerLimits) -> ServerLimits {
    var limits = limits
    limits.inputs = maxInputs
    limits.truncates = autoTruncate
    limits.shortensVectors = allowDimensions
    limits.specials = specials
    return limits
  }
}
