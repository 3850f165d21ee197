import ArgumentParser
import Distribution
import Files
import Foundation
import Generation
import JSON
import Models
import Reports
import Tasks
import ToolSupport

/// Everything that a run can be told.
struct RunOptions: ParsableArguments {
  @Argument(help: "Hugging Face or AutoGPTQ folder, .zhinao or .gguf file.")
  var model: String?
  @Option(help: ArgumentHelp("A second model, which answers the same items.", valueName: "model"))
  var compare: String?
  @Flag(help: "Run every kind of task on small included data; without a model, on two small included ones.")
  var demo = false
  @OptionGroup(title: "Tasks") var tasks: TaskArguments
  @OptionGroup(title: "Results") var results: ResultArguments
  @OptionGroup(title: "Models") var running: ModelArguments
  @OptionGroup var compute: ComputeOptions
  @OptionGroup var output: OutputOptions

  func validate() throws {
    guard demo || model != nil || tasks.tasks.isEmpty else { throw ValidationError("Specify a model.") }
    guard demo || model == nil || !tasks.tasks.isEmpty || results.text != nil else {
      throw ValidationError(
        "Specify what to measure with --task NAME=PATH; zhinao-evaluate tasks lists the names.")
    }
    guard results.text == nil || compare != nil || demo else {
      throw ValidationError("--text shows where two models differ: it needs --compare.")
    }
  }
}

/// How the models run.
struct ModelArguments: ParsableArguments {
  @OptionGroup var arithmetic: ArithmeticOptions
  @OptionGroup var cache: KVCacheOptions
  @OptionGroup var adapters: AdapterOptions
  @OptionGroup var opening: OpeningOptions

  @Option(
    help: ArgumentHelp(
      "Tokens of prompt and answer at most (default: what the model was made for).", valueName: "n"))
  var context: Int?
  @Option(help: ArgumentHelp("Answers that are written together.", valueName: "n"))
  var parallel = 8
  @Option(
    help: ArgumentHelp(
      "Memory that the process should stay below, for example 12GiB (default: four fifths of what is available).",
      valueName: "bytes"))
  var memoryLimit: String?
  @Flag(
    help: ArgumentHelp(
      "Put the tokenizer's beginning-of-text token before prompts of lm-eval's protocols, as its add_bos_token does."
    ))
  var addBos = false

  func validate() throws {
    try OptionRange.check("--context", context, 8...1 << 24)
    try OptionRange.check("--parallel", parallel, 1...1024)
    if let memoryLimit, Format.byteCount(memoryLimit) == nil {
      throw ValidationError("--memory-limit \(memoryLimit): expected a size such as 6GiB or 500MB.")
    }
  }

  var settings: EvaluatedModel.Settings {
    var settings = EvaluatedModel.Settings()
    settings.arithmetic = arithmetic.arithmetic ?? .exact
    settings.cacheType = cache.type(beside: settings.arithmetic)
    settings.contextLimit = context
    settings.parallel = parallel
    settings.memoryLimit = memoryLimit.flatMap(Format.byteCount) ?? MemoryPlan.defaultLimit()
    settings.addsBeginning = addBos
    return settings
  }
}

/// Where results go.
struct ResultArguments: ParsableArguments {
  @Option(
    name: .customLong("report"),
    help: ArgumentHelp("Write a report: FILE.html or FILE.md; repeat the option for both.", valueName: "file")
  )
  var reports: [String] = []
  @Option(help: ArgumentHelp("The language of reports: en or zh.", valueName: "language"))
  var reportLanguage = ReportLanguage.english
  @Option(
    name: .customLong("output"),
    help: ArgumentHelp(
      "Write the results as JSON in the layout of lm-eval's results files.", valueName: "file"))
  var resultFile: String?
  @Option(
    help: ArgumentHelp("Write a JSON line for each item: answer, expectation, scores.", valueName: "file"))
  var samples: String?
  @Option(
    help: ArgumentHelp(
      "Keep finished items in this folder, so that no later run does them again (default: beside the first output file, and "
        + "deleted at the end).", valueName: "folder"))
  var journal: String?
  @Option(
    help: ArgumentHelp(
      "With --compare: show in the report where the models differ along this text.", valueName: "file"))
  var text: String?
  @Option(help: ArgumentHelp("Windows of 512 tokens of the text at most.", valueName: "n"))
  var maxWindows = 40
  @Option(
    name: .customLong("quantization-report"),
    help: ArgumentHelp(
      "Include the report of zhinao-quantize (…report.json) in the report.", valueName: "file"))
  var quantizationReport: String?
  @Flag(help: "Say what would run, and how long it would take, and end.")
  var plan = false
  @Flag(help: "Replace output files that exist.")
  var overwrite = false

  func validate() throws { try OptionRange.check("--max-windows", maxWindows, 1...1_000_000) }

  /// Everything that will be written, in the order in which it is named.
  var paths: [String] { reports + [resultFile, samples].compactMap { $0 } }

  /// Refuses names of reports that say no format, and files that cannot be written, before anything runs.
  func check() throws -> [ReportFile] {
    let files = try reports.map { try ReportFile(path: $0, option: "--report") }
    guard Set(paths.map(\.bytes)).count == paths.count else {
      throw ValidationError("Two outputs have the same name.")
    }
    for path in paths { try ReportFile.checkWritable(path, overwrites: overwrite) }
    return files
  }
}

struct RunCommand: ParsableCommand {
  static let abstract = "Measure a model on tasks, or two models on the same items."
  static let usage = """
    zhinao-evaluate <model> --task <name=path> ... [--compare <model>] [<options>]
    zhinao-evaluate tasks [<name>]
    zhinao-evaluate --demo
    """

  static let configuration = CommandConfiguration(
    // A name that is unlikely to be that of a model's folder.
    commandName: "run-tasks",
    abstract: abstract,
    usage: usage,
    discussion: """
      Tasks read the files of their publishers from disk; 'zhinao-evaluate tasks' says which files each of them expects. With \
      --compare, both models answer the same items, and every difference comes with a 95 % confidence interval. If a run is \
      interrupted, the same command continues it.

      EXAMPLES
        zhinao-evaluate MODEL_DIR --task ceval=ceval-exam --output results.json
        zhinao-evaluate MODEL_DIR --compare model-int4.zhinao --task mmlu=data --task needle-zh=novels.jsonl --report report.html
        zhinao-evaluate MODEL_DIR --task choices=questions.jsonl --examples dev.jsonl --shots 5
        zhinao-evaluate ENCODER_DIR --task retrieval=T2Retrieval
        zhinao-evaluate tasks
        zhinao-evaluate --demo --report demo.html
      """,
    helpNames: [.short, .long])

  @OptionGroup var options: RunOptions

  func run() throws {
    guard options.model != nil || options.demo else { throw CleanExit.helpRequest(RunCommand.self) }
    if options.demo {
      options.compute.apply()
      try RankSession.refuseRanks("the demo")
      return try Demo(options: options).run(options.results.check())
    }
    let communicator = try options.compute.join()
    let reports = communicator.isRoot ? try options.results.check() : []
    let models = EvaluationRunner.named([options.model, options.compare].compactMap { $0 })
    try EvaluationRunner(options: options, communicator: communicator).run(
      [.init(models: models, tasks: try tasks())], reports)
  }

  private func tasks() throws -> [TaskArguments.Named] {
    var seen: Set<ByteText> = []
    return try options.tasks.tasks.map { task in
      let named = try TaskArguments.split(task)
      guard seen.insert(named.name.bytes).inserted else {
        throw ValidationError("--task \(named.name) is given twice; results are listed by name.")
      }
      return TaskArguments.Named(name: named.name, path: named.path)
    }
  }
}
