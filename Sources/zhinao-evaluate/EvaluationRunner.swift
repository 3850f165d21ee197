import Adapters
import ArgumentParser
import Distribution
import Evaluation
import Files
import Foundation
import JSON
import Models
import Reports
import Tasks
import Terminal
import ToolSupport

/// Opens models, loads tasks, runs them, and writes what was asked for.
struct EvaluationRunner {
  let options: RunOptions
  /// Only rank 0 reads data and writes; the others score choices for it.
  let communicator: any Communicator

  /// Models that answer the same items of some tasks.
  struct Group {
    /// What reports call the models, and where they are.
    var models: [(name: String, path: String)]
    var tasks: [TaskArguments.Named]
    /// How the models run, where it is not as the options say.
    var settings: EvaluatedModel.Settings?
  }

  private struct Opened {
    var name: String
    var path: String
    var model: EvaluatedModel
  }

  /// The models by their names, and by their paths where names are equal.
  static func named(_ paths: [String]) -> [(name: String, path: String)] {
    let names = paths.map { PathParts($0).name }
    let areEqual = names.count == 2 && names[0].hasSameBytes(as: names[1])
    return zip(names, paths).map { (areEqual ? $1 : $0, $1) }
  }

  /// - Parameters:
  ///   - groups: each has as many models as the first.
  ///   - title: of the report; nil: the models' names.
  func run(_ groups: [Group], _ reports: [ReportFile], title: String? = nil) throws {
    let started = Date()
    guard communicator.isRoot else { return try help(groups) }
    let saved = try options.results.quantizationReport.map(savedReport)
    let journal = options.results.journal ?? options.results.paths.first.map { $0 + ".journal" }
    let opened = try groups.map { group in
      try group.models.enumerated().map { place, model in
        try open(
          model.name, model.path, group.settings, hasAdapters: place == group.models.count - 1)
      }
    }
    let scoring = try scoring(opened)
    // Found wrong now, not after hours.
    let text = try options.results.text.map { try alongText($0, opened.first ?? []) }
    var jobs: [(job: EvaluationJob, models: [Opened])] = []
    for (group, models) in zip(groups, opened) {
      let context = models.filter(\.model.isDecoder).map(\.model.contextLimit).min() ?? 1024
      let usual = try options.tasks.options(context: context)
      let tasks = try group.tasks.map { try LoadedTask.load($0.name, path: $0.path, $0.options ?? usual) }
      let job = try EvaluationJob(
        tasks: tasks, models: models.map { ($0.name, $0.model) },
        journalFolder: options.results.plan ? nil : journal, warn: Output.warn)
      jobs.append((job, models))
    }
    let plan = try PlanText(jobs.map { ($0.job, $0.models.map(\.model)) })
    if options.results.plan {
      try scoring?.finish()
      return try options.output.show(plan.json) { plan.text }
    }
    if plan.hasRows { Output.remark(plan.text) }
    sayHowToContinue(journal)
    var results: [TaskResult] = []
    for (job, models) in jobs { results += try run(job, models) }
    try scoring?.finish()
    var facts = jobs.first?.models.map(facts) ?? []
    for (_, models) in jobs.dropFirst() {
      for (index, model) in models.enumerated() where facts.indices.contains(index) {
        let other = self.facts(model)
        facts[index].path += ", \(other.path)"
        facts[index].fingerprint += ", \(other.fingerprint)"
        facts[index].byteCount += other.byteCount
      }
    }
    let extra = Extra(text: text, quantization: saved)
    try finish(results, facts, extra, reports, title: title, started: started)
    // Deleted only now, when everything it was kept for is on disk.
    if options.results.journal == nil { jobs.forEach { $0.job.removeJournals() } }
    for path in options.results.paths { Output.remark("wrote \(path)") }
  }

  /// Has the models score choices on all ranks; nil: there is one.
  private func scoring(_ opened: [[Opened]]) throws -> RankedScoring? {
    guard !communicator.isAlone else { return nil }
    let models = opened.flatMap { $0 }.map(\.model)
    try RankSession.check("a model", models.map(\.fingerprint).joined(separator: ", "), communicator)
    let scoring = RankedScoring(models, communicator)
    for model in models { model.scoring = scoring }
    return scoring
  }

  /// The part of another rank than 0.
  private func help(_ groups: [Group]) throws {
    let opened = try groups.map { group in
      try group.models.enumerated().map { place, model in
        try open(model.name, model.path, group.settings, hasAdapters: place == group.models.count - 1)
      }
    }
    try scoring(opened)?.serve()
  }

  private func run(_ job: EvaluationJob, _ models: [Opened]) throws -> [TaskResult] {
    var bars: [ByteText: ProgressReporter] = [:]
    return try job.run(
      progress: { task, model, done, total, share in
        let label = models.count > 1 ? "\(task), \(model)" : task
        let bar = bars[label.bytes] ?? ProgressReporter(label, unit: "items")
        bars[label.bytes] = bar
        bar.update(done, of: total, share: share)
      }, warn: Output.warn)
  }

  private func facts(_ opened: Opened) -> EvaluationReport.ModelFacts {
    EvaluationReport.ModelFacts(
      name: opened.name, path: opened.path, fingerprint: opened.model.fingerprint,
      byteCount: opened.model.opened.store.residentBytes,
      arithmetic: opened.model.settings.arithmetic.rawValue)
  }

  // MARK: What is written

  /// What a report has beside the tasks.
  private struct Extra {
    var text: (ids: [Int], reference: EvaluatedModel, candidate: EvaluatedModel)?
    /// What `zhinao-quantize` wrote.
    var quantization: JSONValue?
  }

  private func finish(
    _ results: [TaskResult], _ facts: [EvaluationReport.ModelFacts], _ extra: Extra, _ reports: [ReportFile],
    title: String?, started: Date
  ) throws {
    var report = EvaluationReport(
      language: options.results.reportLanguage, generator: ToolVersion.generator, models: facts,
      tasks: results,
      command: Reproduction.command)
    report.title = title
    report.machine = ProcessMemory.fields(report.language)
    let layout = EvaluationJSON(
      models: facts, tasks: results, generator: ToolVersion.generator, command: Reproduction.command,
      limit: options.tasks.limit, started: started, ended: Date())
    var json = layout.json.objectValue ?? JSONObject()
    if let text = extra.text {
      let comparison = try divergence(text.ids, text.reference, text.candidate)
      json["text"] = comparison.json
      let path = options.results.text ?? ""
      report.sections.append(DivergenceSection(comparison, path: path, language: report.language).make())
    }
    if let saved = extra.quantization, let path = options.results.quantizationReport {
      report.sections += try QuantizationSections.make(json: saved, path: path, language: report.language)
    }
    let made = report.make()
    if let path = options.results.resultFile {
      try AtomicFile.write(JSONValue.object(json).serialized(indent: 2) + "\n", to: path)
    }
    if let path = options.results.samples {
      let file = try AtomicFile(path: path)
      try layout.samples { try file.write($0) }
      try file.commit()
    }
    for file in reports { try file.write(made) }
    try options.output.show(.object(json)) {
      var shown = made
      shown.sections = []
      shown.reproduction = []
      return shown.text
    }
  }

  /// - Parameter hasAdapters: whether it is the model that `--lora` is about: the second one, if there are two.
  private func open(
    _ name: String, _ path: String, _ settings: EvaluatedModel.Settings?, hasAdapters: Bool
  ) throws -> Opened {
    let model = try options.running.opening.open(path, accepting: .all)
    let adapters = hasAdapters ? try options.running.adapters.adapters() : []
    for applied in adapters {
      let notes = [applied.adapter.untargetedNote, applied.adapter.templateNote(base: model.files)]
      for note in notes.compactMap(\.self) { Output.warn(note) }
    }
    let evaluated = try EvaluatedModel(
      model, settings: settings ?? options.running.settings, adapters: adapters)
    // Found wrong now, not when the first task begins.
    if let first = adapters.first { _ = try evaluated.decoder(for: "--lora \(first.adapter.path)") }
    let parts = [name] + adapters.map { PathParts($0.adapter.path).name }
    return Opened(name: parts.joined(separator: " + "), path: path, model: evaluated)
  }

  private func sayHowToContinue(_ journal: String?) {
    guard let journal else { return }
    Interruption.farewell.withLock { farewell in
      farewell = { "finished items are kept in \(journal); the same command continues" }
    }
  }

  /// A report of `zhinao-quantize`, read before anything runs.
  private func savedReport(_ path: String) throws -> JSONValue {
    let file = try MappedFile(path: path)
    let json = try withExtendedLifetime(file) { () throws -> JSONValue in
      do throws(JSONError) { return try JSONValue.parse(file.bytes) } catch {
        throw FileError(.badContent, path: path, detail: error.description)
      }
    }
    _ = try QuantizationSections.make(json: json, path: path, language: options.results.reportLanguage)
    return json
  }

  // MARK: Along a text

  /// The ids of a text for two decoders that can be compared on it.
  private func alongText(_ path: String, _ models: [Opened]) throws
    -> (ids: [Int], reference: EvaluatedModel, candidate: EvaluatedModel)
  {
    guard models.count == 2 else {
      throw ValidationError("--text shows where two models differ: it needs --compare.")
    }
    let (a, b) = (models[0].model, models[1].model)
    for model in [a, b] where !model.isDecoder {
      throw TaskError(.needsDecoder(task: "--text"), path: model.opened.path)
    }
    let sizes = (a.opened.configuration.vocabularySize, b.opened.configuration.vocabularySize)
    guard sizes.0 == sizes.1 else {
      throw EvaluationError(.vocabulariesDiffer(reference: sizes.0, candidate: sizes.1))
    }
    let ids = try EvaluationText.ids(textFile: path, tokenizer: a.tokenizer)
    try EvaluationText.check(ids, vocabularySize: sizes.0, path: path)
    _ = try windowing.windows(of: ids.count)
    return (ids, a, b)
  }

  private var windowing: WindowProtocol {
    WindowProtocol(length: 512, maximumWindows: options.results.maxWindows)
  }

  private func divergence(_ ids: [Int], _ a: EvaluatedModel, _ b: EvaluatedModel) throws -> Comparison {
    let bar = ProgressReporter("divergence", unit: "windows")
    return try Comparison.measure(
      reference: a.decoder(for: "--text"), candidate: b.decoder(for: "--text"), ids: ids, protocol: windowing,
      texts: TokenTexts(a.tokenizer), worst: 20
    ) { bar.update($0, of: $1) }
  }
}
