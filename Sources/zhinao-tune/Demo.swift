import Adapters
import DemoModels
import Files
import Foundation
import Generation
import JSON
import Models
import Tokenization
import ToolSupport
import Training
import Transformer
import Tuning

/// Tunes the small model inside this program on 30 conversations with the keeper of a house by the river, and asks it before and after.
struct Demo {
  let options: Tune

  private static let questions = ["Who are you?", "你的猫叫什么名字？"]
  private static let maximumNewTokens = 48

  func run() throws {
    guard let data = Bundle.module.path(forResource: "demo", ofType: nil) else {
      throw FileError(
        .cannotOpen, path: "demo",
        detail: "the data of the demo are not beside the program; build it with swift build")
    }
    let reportFile = try options.report.claimed(overwrites: options.outputs.overwrite)
    let folder = try DemoModels.folder(DemoModels.decoder)
    let work = FileManager.default.temporaryDirectory.appendingPathComponent("zhinao-demo-\(getpid())").path
    PendingOutputs.register(work)
    defer { PendingOutputs.discardRegistered(work) }
    do { try FileManager.default.createDirectory(atPath: work, withIntermediateDirectories: true) } catch {
      throw FileError(.cannotWrite, path: work, reason: .cannotCreate(error.localizedDescription))
    }
    let start = Date()
    let model = try OpenedModel(path: folder)
    let before = try answers(model, adapters: [])
    let tuning = AdapterTuning(
      files: [TuningFile("\(data)/conversations.jsonl")],
      dataOptions: TuningDataOptions(trainedPart: .assistant), options: Demo.adapter, recipe: Demo.recipe,
      settings: TrainingSettings(), output: AdapterTuning.Output(path: "\(work)/adapter"),
      generator: ToolVersion.generator)
    let dataset = try tuning.dataset(model)
    let prepared = try tuning.prepared(model, dataset)
    let plan = try TuneText.Plan(prepared, tuning)
    if !options.output.json {
      try Output.print(
        "tiny-zhinao, 4 layers, hidden 256, trained on classic novels, learns from \(dataset.rows.count) conversations\n"
      )
    }
    Output.remark(plan.text)
    let progress = TuneProgress(plan: plan, keepsNothing: true)
    let outcome = try tuning.run(
      prepared, lock: try tuning.output.claimed(), observer: progress)
    let after = try answers(model, adapters: [AppliedAdapter(LoRAAdapter(path: outcome.folder))])
    try reportFile?.write(
      TunePage(
        tuning, prepared, outcome, model: DemoModels.decoder, plan: plan,
        language: options.report.reportLanguage
      ).report())
    let seconds = -start.timeIntervalSinceNow
    try options.output.show(json(outcome, prepared, before, after, seconds)) {
      text(outcome, dataset, before, after, seconds)
    }
  }

  /// A small model has to change a lot to learn a new subject: a large rank and a large learning rate.
  private static let adapter = LoRAOptions(rank: 64, alpha: 128)
  private static var recipe: TuningRecipe {
    var recipe = TuningRecipe(preset: .lora)
    recipe.batchSize = 5
    recipe.epochs = 48
    recipe.learningRate = 1e-3
    recipe.optimizer.beta2 = 0.95
    return recipe
  }

  /// The most likely answer to each question.
  private func answers(_ model: OpenedModel, adapters: [AppliedAdapter]) throws -> [String] {
    let tokenizer = try model.tokenizer()
    let template = try ChatTemplate.detected(tokenizer: tokenizer, files: model.files)
    let decoder = try model.decoder(adapters: adapters)
    let stops = try model.stopTokens(tokenizer: tokenizer, template: template)
    return try Demo.questions.map { question in
      let message = [ChatMessage(role: "user", content: question)]
      let prompt =
        try template?.encode(
          message, tokenizer: tokenizer, contents: .recognized, addingGenerationPrompt: true)
        ?? tokenizer.encode(question, specials: .recognized, addingAffixes: true)
      let request = GenerationRequest(
        prompt: prompt, stopTokens: stops, maximumNewTokens: Demo.maximumNewTokens)
      let cache = CachedSequence(
        decoder.makeCache(capacity: prompt.count + Demo.maximumNewTokens + 1, type: .f32))
      return try TextGenerator(model: decoder, tokenizer: tokenizer).generate(request, in: cache) { _ in true
      }
      .text
    }
  }

  // MARK: The result

  /// The mean loss of each epoch that is shown.
  private func epochs(_ outcome: AdapterTuning.Outcome) -> [(epoch: Int, loss: Double)] {
    let steps = TuneText.losses(outcome.result)
    let size = outcome.result.length.stepsPerEpoch
    let means = stride(from: 0, to: steps.count, by: size).enumerated().map { index, first in
      let some = steps[first..<min(steps.count, first + size)]
      let labels = some.reduce(0) { $0 + $1.labels }
      return (epoch: index + 1, loss: some.reduce(0) { $0 + $1.loss * Double($1.labels) } / Double(labels))
    }
    return means.filter { $0.epoch == 1 || $0.epoch % 8 == 0 }
  }

  private func text(
    _ outcome: AdapterTuning.Outcome, _ data: TuningDataset, _ before: [String], _ after: [String],
    _ seconds: Double
  ) -> String {
    let losses = epochs(outcome)
    let table = [
      ["epoch"] + losses.map { "\($0.epoch)" },
      ["loss"] + losses.map { Format.number($0.loss, digits: 2) },
    ]
    var lines = [Format.table(table), ""]
    for (index, question) in Demo.questions.enumerated() {
      lines.append(question)
      lines.append("  before: \(Demo.shown(before[index]))")
      lines.append("  after:  \(Demo.shown(after[index]))")
    }
    lines.append("")
    lines.append(
      "\(TuneText.losses(outcome.result).count) steps at \(Format.number(TuneText.tokensPerSecond(outcome.result), digits: 0)) tokens/s; "
        + "\(Format.duration(seconds)) in all. The adapter is used beside the model, whose weights did not change."
    )
    return lines.joined(separator: "\n")
  }

  /// A line.
  private static func shown(_ answer: String) -> String {
    answer.isEmpty ? "(an empty answer)" : answer.bytes.replacing("\n", with: " ⏎ ")
  }

  private func json(
    _ outcome: AdapterTuning.Outcome, _ prepared: AdapterTuning.Prepared, _ before: [String],
    _ after: [String], _ seconds: Double
  ) -> JSONValue {
    [
      "losses": .array(
        epochs(outcome).map { ["epoch": .init($0.epoch), "loss": .init($0.loss)] as JSONValue }),
      "answers": .array(
        Demo.questions.enumerated().map { index, question in
          [
            "question": .string(question), "before": .string(before[index]), "after": .string(after[index]),
          ] as JSONValue
        }), "steps": .init(outcome.result.state.step),
      "tokens_per_second": .init(TuneText.tokensPerSecond(outcome.result)), "seconds": .init(seconds),
    ]
  }
}
