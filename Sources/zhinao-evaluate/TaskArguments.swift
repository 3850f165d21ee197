import ArgumentParser
import Evaluation
import Files
import Foundation
import Tasks
import ToolSupport

extension ChoiceMode: ExpressibleByArgument {}
extension ChoiceTemplate.Scored: ExpressibleByArgument {}
extension NeedleScore.ChineseRule: ExpressibleByArgument {}

/// Which examples stand before a question.
enum ExampleChoice: String, CaseIterable, ExpressibleByArgument {
  case first
  case drawn
}

/// How tasks are run.
struct TaskArguments: ParsableArguments {
  @Option(
    name: .customLong("task"),
    help: ArgumentHelp(
      "A task and its data, for example ceval=ceval-exam; repeat the option for more. zhinao-evaluate tasks lists the names.",
      valueName: "name=path"))
  var tasks: [String] = []

  @Option(
    help: ArgumentHelp(
      "Items of each subject at most. Needles are not affected: --lengths and --depths bound them.",
      valueName: "n"))
  var limit: Int?

  @Option(
    help: ArgumentHelp(
      "Examples before each question; the default is what the published protocol has (5 for C-Eval, CMMLU, MMLU and GSM8K, "
        + "otherwise 0).", valueName: "n"))
  var shots: Int?

  @Option(
    help: ArgumentHelp(
      "How multiple-choice questions are asked and scored: lm-eval, or OpenCompass' PPL mode as string, rounds-joined or "
        + "rounds-newline.", valueName: "mode"))
  var mode = ChoiceMode.lmEval

  @Option(
    help: ArgumentHelp(
      "The split of the data; the default is the one that results are published for.", valueName: "name"))
  var split: String?

  @Option(help: ArgumentHelp("Only these subjects, separated by commas.", valueName: "names"))
  var subjects: String?

  @Option(help: ArgumentHelp("A JSON Lines file with examples for the task choices.", valueName: "file"))
  var examples: String?

  @Option(
    help: ArgumentHelp(
      "Which examples stand before a question: first (the first rows, for every question) or drawn (each question draws its own, as "
        + "lm-eval does). The default is lm-eval's: drawn for HellaSwag, ARC and GSM8K, first for the others.",
      valueName: "which"))
  var fewshot: ExampleChoice?

  @Option(help: ArgumentHelp("The seed of drawn examples, as lm-eval's.", valueName: "n"))
  var fewshotSeed: UInt32 = FewShotSampling.usualSeed

  @Option(
    help: ArgumentHelp(
      "What the task choices scores: letters (the choices stand in the prompt) or texts (they do not).",
      valueName: "what"))
  var style = ChoiceTemplate.Scored.letters

  @Option(
    help: ArgumentHelp(
      "The text of a question of the tasks choices and generate. Names in braces are replaced: {question}, {options}, {A} to {Z} and "
        + "{subject} of choices, {prompt}, {question}, {input} and {context} of generate, and further columns; \\n is a line feed.",
      valueName: "text"))
  var template: String?

  @Option(
    help: ArgumentHelp(
      "What stands before all examples of the task choices; \\n is a line feed.", valueName: "text"))
  var description: String?

  @Option(
    help: ArgumentHelp(
      "What stands between question and choice in the task choices (default: a space).", valueName: "text"))
  var delimiter: String?

  @Option(
    name: .customLong("metric"),
    help: ArgumentHelp(
      "How answers of the task generate are scored; repeat the option for more.", valueName: "name"))
  var metrics: [String] = []

  @Option(help: ArgumentHelp("Tokens of an answer of the task generate at most.", valueName: "n"))
  var maxNewTokens: Int?

  @Flag(
    help: "Give prompts of the task generate to the model as plain text, also when it has a chat template.")
  var noChatTemplate = false

  @Option(
    name: .customLong("stop"),
    help: ArgumentHelp(
      "Text that ends an answer of the task generate; repeat the option for more.", valueName: "text"))
  var stops: [String] = []

  @Option(
    help: ArgumentHelp(
      "Context lengths of needles in tokens, separated by commas (default: 10 from 1024 to the model's context).",
      valueName: "list"))
  var lengths: String?

  @Option(
    help: ArgumentHelp(
      "Depths of needles in percent, separated by commas (default: 0, 5, … 100).", valueName: "list"))
  var depths: String?

  @Option(help: ArgumentHelp("Decides the cities and numbers of value needles.", valueName: "n"))
  var seed: UInt64 = 12345

  @Option(
    help: ArgumentHelp(
      "How a Chinese needle's answer without the name is scored: edit (edit distance, as the vendor's README) or f1-per-character.",
      valueName: "rule"))
  var needleScore = NeedleScore.ChineseRule.edit

  @Option(
    help: ArgumentHelp(
      "Tokens of a LongBench prompt before its middle is cut out (default: the context less 596).",
      valueName: "n"))
  var maxLength: Int?

  @Option(help: ArgumentHelp("Passages kept of each query of the task retrieval.", valueName: "n"))
  var top = 1000

  func validate() throws {
    try OptionRange.check("--limit", limit, 1...Int.max)
    try OptionRange.check("--shots", shots, 0...1000)
    try OptionRange.check("--max-new-tokens", maxNewTokens, 1...1 << 20)
    try OptionRange.check("--max-length", maxLength, 2...1 << 24)
    try OptionRange.check("--top", top, 1...1_000_000)
    for task in tasks { _ = try TaskArguments.split(task) }
    _ = try numbers("--lengths", lengths, 1...1 << 24)
    _ = try numbers("--depths", depths, 0...100)
  }

  /// A task and where its data are.
  struct Named {
    var name: String
    var path: String
    /// What the task is run with; nil: what the options say.
    var options: TaskOptions?
  }

  static func split(_ task: String) throws -> (name: String, path: String) {
    let bytes = task.utf8
    guard let equals = bytes.firstIndex(of: UInt8(ascii: "=")), equals > bytes.startIndex,
      bytes.index(after: equals) < bytes.endIndex
    else {
      throw ValidationError(
        "--task \(task): expected a name, an equals sign and a path, for example ceval=ceval-exam.")
    }
    return (String(task[..<equals]), String(task[bytes.index(after: equals)...]))
  }

  private func numbers(_ option: String, _ list: String?, _ range: ClosedRange<Int>) throws -> [Int]? {
    guard let list else { return nil }
    let numbers = try list.bytes.split(separator: ",").map { part in
      guard let number = Int(part.bytes.trimmed), range.contains(number) else {
        throw ValidationError(
          "\(option): expected whole numbers from \(range.lowerBound) to \(range.upperBound) with commas between, not \(part)."
        )
      }
      return number
    }
    guard Set(numbers).count == numbers.count, !numbers.isEmpty else {
      throw ValidationError("\(option): expected different numbers.")
    }
    return numbers
  }

  /// - Parameter context: tokens that the models take; the default of the longest needle.
  func options(context: Int) throws -> TaskOptions {
    var options = TaskOptions()
    options.shots = shots
    options.mode = mode
    options.split = split
    options.subjects = subjects.map { $0.bytes.split(separator: ",").map { $0.bytes.trimmed } }
    options.limit = limit
    options.template = style == .letters ? .letters : .texts
    if let template { options.template.question = unescaped(template) }
    if let description { options.template.description = unescaped(description) }
    if let delimiter { options.template.delimiter = unescaped(delimiter) }
    options.examples = examples
    // Another seed alone says nothing of tasks that take the first rows.
    options.sampling = fewshot.map { $0 == .first ? .first : .drawn(seed: fewshotSeed) }
    options.fewshotSeed = fewshotSeed
    options.grid = NeedleGrid(
      lengths: try numbers("--lengths", lengths, 1...1 << 24)
        ?? NeedleGrid.evenly(min(1024, context)...context, count: context > 1024 ? 10 : 1),
      depths: try numbers("--depths", depths, 0...100) ?? Array(stride(from: 0, through: 100, by: 5)))
    options.seed = seed
    options.chineseRule = needleScore
    options.maximumLength = maxLength
    if !metrics.isEmpty { options.generation.metrics = metrics }
    if let maxNewTokens { options.generation.maximumNewTokens = maxNewTokens }
    options.generation.stops = stops.map(unescaped)
    options.generation.template = template.map(unescaped)
    options.generation.usesChatTemplate = !noChatTemplate
    options.top = top
    return options
  }

  private func unescaped(_ text: String) -> String { text.bytes.replacing("\\n", with: "\n") }
}
