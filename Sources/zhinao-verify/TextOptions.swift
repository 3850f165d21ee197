import ArgumentParser
import Evaluation
import Models
import ToolSupport

/// The text a model is measured on, and how it is cut.
struct TextOptions: ParsableArguments {
  @Option(
    help: ArgumentHelp("Text to measure on, plain or gzip'd; encoded once, nothing added.", valueName: "file")
  )
  var text: String?

  @Option(
    help: ArgumentHelp("Token ids to measure on: a JSON array, or an object with \"ids\".", valueName: "file")
  )
  var ids: String?

  @Option(help: ArgumentHelp("Tokens of one window.", valueName: "n"))
  var window = 512

  @Option(
    help: ArgumentHelp(
      "Distance of window starts; smaller than the window, each window scores only what earlier ones did not.",
      valueName: "n"))
  var stride: Int?

  @Option(help: ArgumentHelp("Stop after this many windows.", valueName: "n"))
  var maxWindows: Int?

  func validate() throws {
    guard (text == nil) != (ids == nil) else { throw ValidationError("Give one of --text and --ids.") }
    try OptionRange.check("--window", window, 2...1 << 20)
    try OptionRange.check("--stride", stride, 1...window)
    try OptionRange.check("--max-windows", maxWindows, 1...Int.max)
  }

  var windowing: WindowProtocol { WindowProtocol(length: window, stride: stride, maximumWindows: maxWindows) }

  /// The ids, with those of `model`'s own tokenizer for `--text`.
  func load(for model: OpenedModel) throws -> [Int] {
    let path = text ?? ids ?? ""
    let loaded =
      text != nil
      ? try EvaluationText.ids(textFile: path, tokenizer: model.tokenizer())
      : try EvaluationText.ids(jsonFile: path)
    try EvaluationText.check(loaded, vocabularySize: model.configuration.vocabularySize, path: path)
    return loaded
  }
}
