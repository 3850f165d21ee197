import ArgumentParser
import Evaluation
import Models
import Tokenization
import ToolSupport

/// The text a model is measured on, and how it is cut.
struct TextOptions: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "Evaluation text, plain or gzip'd. It is encoded once, without added tokens.", valueName: "file")
  )
  var text: String?

  @Option(
    help: ArgumentHelp("Evaluation token ids: a JSON array, or an object with \"ids\".", valueName: "file")
  )
  var ids: String?

  @Option(help: ArgumentHelp("Tokens in a window.", valueName: "n"))
  var window = 512

  @Option(
    help: ArgumentHelp(
      "Distance between the starts of windows. Windows that overlap score only new tokens.",
      valueName: "n"))
  var stride: Int?

  @Option(help: ArgumentHelp("Maximum number of windows.", valueName: "n"))
  var maxWindows: Int?

  func validate() throws {
    guard (text == nil) != (ids == nil) else { throw ValidationError("Specify either --text or --ids.") }
    try OptionRange.check("--window", window, 2...1 << 20)
    try OptionRange.check("--stride", stride, 1...window)
    try OptionRange.check("--max-windows", maxWindows, 1...Int.max)
  }

  var windowing: WindowProtocol { WindowProtocol(length: window, stride: stride, maximumWindows: maxWindows) }

  /// The ids, with those of `model`'s own tokenizer for `--text`.
  func load(for model: OpenedModel) throws -> [Int] {
    try load(for: model, tokenizer: text == nil ? nil : model.tokenizer())
  }

  /// - Parameter tokenizer: of `model`; needed for `--text`.
  func load(for model: OpenedModel, tokenizer: (any Tokenizer)?) throws -> [Int] {
    let path = text ?? ids ?? ""
    let loaded: [Int]
    if text != nil, let tokenizer {
      Output.warn(tokenizer.discrepancies)
      loaded = try EvaluationText.ids(textFile: path, tokenizer: tokenizer)
    } else {
      loaded = try EvaluationText.ids(jsonFile: path)
    }
    try EvaluationText.check(loaded, vocabularySize: model.configuration.vocabularySize, path: path)
    return loaded
  }
}
