import ArgumentParser
import Distribution
import Files
import Foundation
import JSON
import Models
import Reports
import Synchronization
import ToolSupport
import Training
import Tuning

@main
enum Entry {
  static func main() { ToolMain.run(Tune.self, outlivesTerminal: true) }
}

struct Tune: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "zhinao-tune",
    abstract: "Train a LoRA adapter for a model on the CPU.",
    usage: """
      zhinao-tune <model> --data <file> ... --output <folder> [<options>]
      zhinao-tune <model> --data <file> ... --print-rows
      zhinao-tune --demo
      """,
    discussion: """
      The model's weights, floats or integers, stay as they are: low-rank updates beside them are trained on conversations or text. \
      The output is a folder as PEFT writes it, which zhinao-chat --lora and zhinao-serve --lora use beside the model and \
      zhinao-convert --merge-lora merges. If a run is interrupted, the same command continues it, and the adapter comes out the same.

      EXAMPLES
        zhinao-tune MODEL_DIR --data conversations.jsonl --output adapter
        zhinao-tune model-int4.zhinao --data train.jsonl --validation test.jsonl --patience 3 --output adapter
        zhinao-tune MODEL_DIR --data data.json --preset 360zhinao --concat --rank 64 --alpha 128 --output adapter
        zhinao-tune MODEL_DIR --data book.txt --steps 200 --batch-size 4 --max-length 512 --output adapter --report-html loss.html
        zhinao-tune MODEL_DIR --data data.json --plan
        zhinao-tune --demo
      """,
    version: ToolVersion.generator,
    helpNames: [.short, .long])

  @Argument(help: "The model: Hugging Face or AutoGPTQ folder, .zhinao or .gguf file.")
  var model: String?

  @Flag(
    help: "Tune a small included model on 30 included conversations, and show an answer before and after.")
  var demo = false

  @OptionGroup(title: "Data") var data: DataArguments
  @OptionGroup(title: "Adapter") var adapter: AdapterArguments
  @OptionGroup(title: "Training") var training: TrainingArguments
  @OptionGroup(title: "Output") var outputs: TuningOutputArguments
  @OptionGroup(title: "Report") var report: ReportOptions
  @OptionGroup var opening: OpeningOptions
  @OptionGroup var compute: ComputeOptions
  @OptionGroup var output: OutputOptions

  func validate() throws {
    if demo {
      guard model == nil, data.files.isEmpty, outputs.output == nil else {
        throw ValidationError(
          "--demo has a model, data and output of its own: leave out MODEL, --data and --output.")
      }
      return
    }
    guard model != nil else { throw ValidationError("Specify a MODEL or --demo.") }
    guard !data.files.isEmpty else { throw ValidationError("Specify what to train on with --data FILE.") }
    guard outputs.output != nil || data.printRows || outputs.plan else {
      throw ValidationError("Specify --output FOLDER, --plan or --print-rows.")
    }
    guard report.reportHtml == nil || outputs.output != nil else {
      throw ValidationError("--report-html needs --output: there is nothing to report before a training.")
    }
  }

  func run() throws {
    guard let model, !demo else {
      compute.apply()
      try RankSession.refuseRanks("the demo")
      return try Demo(options: self).run()
    }
    if data.printRows || outputs.plan { try RankSession.refuseRanks("--print-rows or --plan") }
    let communicator = try compute.join()
    let options = try adapter.options(seed: training.seed)
    let tuning = AdapterTuning(
      files: try data.weighted(data.files, "--data"),
      validationFiles: try data.weighted(data.validation, "--validation"),
      dataOptions: data.options(preset: training.preset, seed: training.seed), options: options,
      initialAdapter: adapter.initFrom, recipe: training.recipe, settings: outputs.settings(training),
      output: AdapterTuning.Output(
        path: outputs.output ?? "adapter", adapterName: adapter.adapterName, type: adapter.adapterType,
        baseModel: adapter.baseName, overwrites: outputs.overwrite),
      checkpointInterval: outputs.checkpointEvery, tensorBoard: outputs.tensorboard,
      generator: ToolVersion.generator)
    guard communicator.isRoot else {
      Stop.leaveToRankZero()
      let opened = try opening.open(model)
      try RankSession.check("the model", ModelFingerprint.of(opened), communicator)
      return try tuning.help(opened, communicator)
    }
    try run(tuning, model, communicator)
  }

  private func run(_ tuning: AdapterTuning, _ path: String, _ communicator: any Communicator) throws {
    // Before anything that takes long.
    let isDry = data.printRows || outputs.plan
    let reportFile = isDry ? nil : try report.claimed(overwrites: outputs.overwrite)
    let lock = isDry ? nil : try tuning.output.claimed()
    let opened = try opening.open(path)
    try RankSession.check("the model", ModelFingerprint.of(opened), communicator)
    let dataset = try tuning.dataset(opened)
    TuneText.remark(dataset.report)
    if data.printRows { return try TuneText.printRows(dataset) }
    let prepared = try tuning.prepared(opened, dataset)
    let plan = try TuneText.Plan(prepared, tuning)
    if outputs.plan { return try output.show(plan.json) { plan.text } }
    Output.remark(plan.text)
    guard let lock else { return }
    let progress = TuneProgress(plan: plan)
    let outcome = try tuning.run(
      prepared, lock: lock, observer: progress, communicator: communicator,
      shouldStop: Stop.watch(progress))
    if let note = TuneText.warning(outcome.result) { Output.warn(note) }
    try reportFile?.write(
      TunePage(tuning, prepared, outcome, model: path, plan: plan, language: report.reportLanguage).report())
    try output.show(TuneText.json(outcome, prepared)) { TuneText.lines(outcome, prepared, model: path) }
  }
}

/// The first SIGINT or SIGTERM saves the state and ends the run; the next one ends it where it is.
enum Stop {
  private static let isAsked = Atomic<Bool>(false)

  /// A launcher tells all ranks: the first signal is rank 0's, which ends the others when the state is saved.
  static func leaveToRankZero() { Interruption.gracefulStop.withLock { $0 = {} } }

  static func watch(_ progress: TuneProgress) -> () -> Bool {
    Interruption.gracefulStop.withLock {
      $0 = {
        isAsked.store(true, ordering: .relaxed)
        Output.note(
          "stopping: the state is saved as soon as the present step allows; once more stops at once")
      }
    }
    return { isAsked.load(ordering: .relaxed) }
  }
}
