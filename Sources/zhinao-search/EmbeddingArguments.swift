import ArgumentParser
import Models
import Retrieval
import Tensors
import ToolSupport

extension VectorType: ExpressibleByArgument {}

/// Which vectors are made of texts.
struct EmbeddingArguments: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "The prompt of this name, as the model's folder defines it, is put before each text.", valueName: "name"))
  var promptName: String?

  @Option(help: ArgumentHelp("This text is put before each text.", valueName: "text"))
  var prompt: String?

  @Option(
    help: ArgumentHelp(
      "Keep the first n components of each vector, before it is normalized. Only models trained for it (Matryoshka) keep their "
        + "quality.", valueName: "n"))
  var dimensions: Int?

  @Flag(
    inversion: .prefixedNo,
    help: "Whether vectors have length 1. The default is what the model's folder says.")
  var normalize: Bool?

  @Flag(help: "Treat names of special tokens in texts as ordinary text.")
  var plainText = false

  func validate() throws {
    guard promptName == nil || prompt == nil else {
      throw ValidationError("Specify either --prompt-name or --prompt.")
    }
    try OptionRange.check("--dimensions", dimensions, 1...1 << 20)
  }

  /// Opens an encoder, and says where its files disagree.
  static func open(_ path: String, _ opening: OpeningOptions, _ arithmetic: ArithmeticOptions) throws
    -> TextEmbedder
  {
    let embedder = try TextEmbedder(
      try opening.open(path, accepting: .encoders), arithmetic: arithmetic.arithmetic ?? .exact)
    Output.warn(embedder.tokenizer.discrepancies)
    for remark in embedder.remarks { Output.remark(remark) }
    return embedder
  }

  /// - Parameter role: whose prompt is used when none is named.
  func run(_ embedder: TextEmbedder, role: EmbeddingSettings.Role) throws -> EmbeddingRun {
    var run = EmbeddingRun(embedder)
    if let dimensions {
      guard dimensions <= embedder.dimensions else {
        throw ValidationError(
          "--dimensions: the model's vectors have \(embedder.dimensions) components, not \(dimensions).")
      }
      run.size = dimensions
    }
    run.prompt = try promptText(embedder, role: role)
    run.normalizes = normalize
    run.specials = plainText ? .plain : .recognized
    return run
  }

  private func promptText(_ embedder: TextEmbedder, role: EmbeddingSettings.Role) throws -> String? {
    if let prompt { return prompt }
    let settings = embedder.settings
    guard let promptName else { return settings.prompt(for: role)?.text }
    guard let text = settings.prompts[promptName] else {
      let known = settings.prompts.keys.sorted().joined(separator: ", ")
      throw ValidationError(
        "--prompt-name \(promptName): the model defines \(known.isEmpty ? "no prompts" : "the prompts \(known)").")
    }
    return text
  }
}
