import Evaluation
import Files
import Foundation
import JSON
import Retrieval

/// How tasks are run, as a person asks for it. What a task does not have a use for is refused.
package struct TaskOptions: Sendable {
  /// Examples before each question; nil: what the published protocol gives.
  package var shots: Int?
  package var mode = ChoiceMode.lmEval
  package var split: String?
  package var subjects: [String]?
  /// Items of each subject at most.
  package var limit: Int?
  /// How questions of the user's own are asked.
  package var template = ChoiceTemplate.letters
  /// A file with examples for them.
  package var examples: String?
  /// Which examples stand before a question; nil: as lm-eval chooses them for the task.
  package var sampling: FewShotSampling?
  /// Of drawn examples.
  package var fewshotSeed = FewShotSampling.usualSeed
  package var grid = NeedleGrid(lengths: [], depths: [])
  package var seed: UInt64 = 12345
  package var chineseRule = NeedleScore.ChineseRule.edit
  /// Ids of a prompt before LongBench cuts out its middle.
  package var maximumLength: Int?
  /// How prompts of the user's own are asked, and how the answers are scored.
  package var generation = GenerationOptions()
  /// Passages kept of each query.
  package var top = 1000

  package init() {}
}

/// A task with its data, ready for models.
package struct LoadedTask {
  /// Without outcomes.
  package var result: TaskResult
  /// Turns the data into what one model runs.
  package var prepare: (EvaluatedModel, RunContext) throws -> PreparedRun

  /// What the result of an item depends on beside the model. The cells of a needle do not depend on the grid around them.
  package var identity: [(String, JSONValue)] {
    let settings = result.settings.filter {
      result.kind != .needle || !["lengths", "depths"].contains($0.name)
    }
    return [("task", .string(result.name))] + settings.map { ($0.name, $0.value) } + [
      ("data", .array(result.files.map { .string($0.sha256) }))
    ]
  }
}

/// A task as one model runs it.
package struct PreparedRun {
  package var items: Int
  /// Tokens of all prompts, and tokens that are generated at most.
  package var promptTokens: Int
  /// Tokens of the prompts without what neighbours begin with in common.
  package var freshTokens: Int
  package var newTokens: Int
  /// Runs what the journal does not have. `folder` is where more than a journal may be kept; nil: nowhere.
  package var run: (Journal, _ folder: String?, RunContext) throws -> RunOutcome

  /// Tokens of `prompts` less what each shares with the one before it.
  static func fresh(_ prompts: some Sequence<[Int]>) -> Int {
    var before: [Int] = []
    var count = 0
    for prompt in prompts {
      count += prompt.count - zip(before, prompt).prefix { $0 == $1 }.count
      before = prompt
    }
    return count
  }
}

extension PreparedRun {
  /// How many tokens of a prompt take the time of one token of an answer: a guess that lies between small and large models.
  private static let promptTokensPerNewToken = 10.0

  /// The share of all work that is done before each item and after the last: from 0 to 1. What an item's sequences share with those
  /// before costs nothing.
  static func work(_ items: [[[Int]]], newTokens: [Int] = []) -> [Double] {
    var before: [Int] = []
    var sums = [0.0]
    for (index, sequences) in items.enumerated() {
      var cost = 1.0
      for ids in sequences {
        cost += Double(ids.count - zip(before, ids).prefix { $0 == $1 }.count)
        before = ids
      }
      if newTokens.indices.contains(index) { cost += promptTokensPerNewToken * Double(newTokens[index]) }
      sums.append(sums[index] + cost)
    }
    return sums.map { $0 / max(1, sums[items.count]) }
  }
}

extension LoadedTask {
  /// Every name of a task, with what it is and which files it reads.
  package static var catalogue: [CatalogueEntry] {
    var all = ChoiceTask.all.map { CatalogueEntry($0.name, $0.title, $0.layout, $0.licence) }
    all += GenerationTask.all.map { CatalogueEntry($0.name, $0.title, $0.layout, $0.licence) }
    all.append(CatalogueEntry(Lambada.name, Lambada.title, Lambada.layout, Lambada.licence))
    all += NeedleKind.allCases.map {
      CatalogueEntry($0.taskName, title($0), NeedleTexts.layout, "the terms of the texts' owners")
    }
    all.append(
      CatalogueEntry("retrieval", RetrievalData.title, RetrievalData.layout, RetrievalData.licence))
    all.append(
      CatalogueEntry("reranking", RerankingData.title, RerankingData.layout, RerankingData.licence))
    return all
  }

  /// A task for people who look for one.
  package struct CatalogueEntry: Sendable {
    package var name: String
    package var title: String
    /// Which files are expected where, as the end of a sentence.
    package var layout: String
    package var licence: String

    init(_ name: String, _ title: String, _ layout: String, _ licence: String) {
      self.name = name
      self.title = title
      self.layout = layout
      self.licence = licence
    }
  }

  package static func title(_ kind: NeedleKind) -> String {
    switch kind {
    case .english: "Needle in a haystack, English"
    case .chinese: "Needle in a haystack, Chinese"
    case .valueEnglish: "Value retrieval, English"
    case .valueChinese: "Value retrieval, Chinese"
    }
  }

  /// Reads the data of a task.
  /// - Throws: ``DataError``, ``TaskError`` for a name that no task has, and others that name the file.
  package static func load(_ name: String, path: String, _ options: TaskOptions) throws -> LoadedTask {
    if name == "choices" { return try choices(.choices(options.template), path, options) }
    if let task = ChoiceTask.named(name) { return try choices(task, path, options) }
    if name == "generate" { return try generation(.generate(options.generation), path, options) }
    if let task = GenerationTask.named(name) { return try generation(task, path, options) }
    if name == Lambada.name { return try lambada(path, options) }
    if let kind = NeedleKind.allCases.first(where: { $0.taskName == name }) {
      return try needle(kind, path, options)
    }
    if name == "retrieval" { return try retrieval(path, options) }
    if name == "reranking" { return try reranking(path, options) }
    throw TaskError(.unknownTask(known: catalogue.map(\.name)), path: name)
  }

  // MARK: Multiple choice

  private static func choices(_ task: ChoiceTask, _ path: String, _ options: TaskOptions) throws -> LoadedTask
  {
    let shots = options.shots ?? task.usualShots
    let usual = task.drawsExamples && options.mode == .lmEval
    let sampling = options.sampling ?? (usual ? .drawn(seed: options.fewshotSeed) : .first)
    var data = try task.load(
      path, split: options.split, subjects: options.subjects, examples: options.examples,
      readsAllExamples: sampling != .first && shots > 0)
    for index in data.subjects.indices {
      data.subjects[index].items = data.subjects[index].items.filter { task.includes($0, mode: options.mode) }
    }
    let metrics = options.mode == .lmEval ? task.metrics : ["acc"]
    // OpenCompass' summaries are plain means of subjects; lm-eval weighs them by their questions.
    let averaging: MetricRule.Averaging = options.mode == .lmEval ? .items : .subjects
    var settings: [(name: String, value: JSONValue)] = [
      ("mode", .string(options.mode.rawValue)), ("shots", .init(shots)),
      ("split", .string(options.split ?? task.usualSplit)),
    ]
    if case .drawn(let seed) = sampling, shots > 0 { settings.append(("fewshot_seed", .init(Int(seed)))) }
    if task.name == "choices" {
      settings += [
        ("template", .string(options.template.question)),
        ("description", .string(options.template.description)),
        ("scored", .string(options.template.scored.rawValue)),
        ("delimiter", .string(options.template.delimiter)),
      ]
    }
    var result = TaskResult(
      name: task.name, title: task.title, kind: .choices, settings: settings,
      rules: metrics.map { MetricRule($0, averaging: averaging) }, files: data.files)
    for subject in data.subjects {
      result.subjectTitles[subject.name.bytes] = subject.title
      result.groups[subject.name.bytes] = subject.group
    }
    let run = ChoiceRun(task: task, data: data, mode: options.mode, shots: shots, sampling: sampling)
    return LoadedTask(result: result) { model, _ in
      let questions = try run.questions(model, limit: options.limit)
      return likelihood(model, task.name, questions, losing: run.lostPart)
    }
  }

  private static func likelihood(
    _ model: EvaluatedModel, _ task: String, _ questions: [LikelihoodRun.Question], losing what: String
  ) -> PreparedRun {
    PreparedRun(
      items: questions.count,
      promptTokens: questions.reduce(0) { $0 + $1.sequences.reduce(0) { $0 + $1.ids.count } },
      freshTokens: PreparedRun.fresh(questions.lazy.flatMap { $0.sequences.lazy.map(\.ids) }), newTokens: 0
    ) { journal, _, context in
      try LikelihoodRun(model: model, task: task, journal: journal).run(questions, losing: what, context)
    }
  }

  private static func lambada(_ path: String, _ options: TaskOptions) throws -> LoadedTask {
    var (items, files) = try Lambada.load(path)
    items = Array(items.prefix(options.limit ?? .max))
    let result = TaskResult(
      name: Lambada.name, title: Lambada.title, kind: .continuation, settings: [],
      rules: [
        MetricRule("acc"),
        MetricRule("log_likelihood", transform: .perplexity, scale: 1, higherIsBetter: false),
      ], files: files)
    let run = ContinuationRun(task: Lambada.name, items: items)
    return LoadedTask(result: result) { model, _ in
      likelihood(model, Lambada.name, try run.questions(model), losing: "their beginning")
    }
  }

  // MARK: Written answers

  private static func answers(
    _ model: EvaluatedModel, _ task: String, _ questions: [AnswerRun.Question], parallel: Int
  ) -> PreparedRun {
    PreparedRun(
      items: questions.count, promptTokens: questions.reduce(0) { $0 + $1.prompt.count },
      freshTokens: PreparedRun.fresh(questions.lazy.map(\.prompt)),
      newTokens: questions.reduce(0) { $0 + $1.maximumNewTokens }
    ) { journal, _, context in
      try AnswerRun(model: model, task: task, journal: journal, parallel: parallel).run(questions, context)
    }
  }

  private static func generation(_ task: GenerationTask, _ path: String, _ options: TaskOptions) throws
    -> LoadedTask
  {
    var (items, files) = try task.load(
      path, split: options.split, subjects: options.subjects,
      shots: task.name == "gsm8k" ? options.shots : nil,
      examples: task.name == "gsm8k" ? options.examples : nil)
    if let limit = options.limit {
      var counts: [ByteText: Int] = [:]
      items = items.filter { item in
        counts[item.subject.bytes, default: 0] += 1
        return counts[item.subject.bytes] ?? 0 <= limit
      }
    }
    let isLongBench = task.name == "longbench"
    var settings: [(name: String, value: JSONValue)] = []
    if task.usualShots > 0 { settings.append(("shots", .init(options.shots ?? task.usualShots))) }
    if isLongBench {
      settings.append(("max_length", options.maximumLength.map { .init($0) } ?? "context less 596"))
    }
    if task.name == "generate" {
      settings += [
        ("metrics", .array(options.generation.metrics.map { .string($0) })),
        ("max_new_tokens", .init(options.generation.maximumNewTokens)),
        ("stops", .array(options.generation.stops.map { .string($0) })),
        ("template", options.generation.template.map { .string($0) } ?? nil),
        ("chat_template", .bool(options.generation.usesChatTemplate)),
      ]
    }
    // The sets of LongBench have different metrics: `score` is each one's own.
    let names = isLongBench ? ["score"] : task.metricNames(of: items[0].subject)
    var result = TaskResult(
      name: task.name, title: task.title, kind: .generation, settings: settings,
      rules: names.map { MetricRule($0, averaging: task.averagesSubjects ? .subjects : .items) }, files: files
    )
    if isLongBench {
      for item in items {
        result.subjectTitles[item.subject.bytes] = "\(item.subject) (\(task.mainMetric(of: item.subject)))"
      }
    }
    let run = GenerationRun(task: task, items: items, maximumLength: options.maximumLength)
    return LoadedTask(result: result) { model, context in
      answers(model, task.name, try run.questions(model, context), parallel: model.settings.parallel)
    }
  }

  private static func needle(_ kind: NeedleKind, _ path: String, _ options: TaskOptions) throws -> LoadedTask
  {
    let texts = try NeedleTexts(path: path)
    var settings: [(name: String, value: JSONValue)] = [
      ("lengths", .array(options.grid.lengths.map { .init($0) })),
      ("depths", .array(options.grid.depths.map { .init($0) })),
    ]
    if kind.hasValue { settings.append(("seed", .init(Int(options.seed)))) }
    if kind == .chinese { settings.append(("rule", .string(options.chineseRule.rawValue))) }
    let result = TaskResult(
      name: kind.taskName, title: title(kind), kind: .needle, settings: settings,
      rules: [MetricRule("score")], files: texts.files)
    let run = NeedleRun(
      kind: kind, grid: options.grid, texts: texts.texts, path: path, seed: options.seed,
      rule: options.chineseRule)
    return LoadedTask(result: result) { model, _ in
      // One at a time: every prompt goes on from what the one before it left.
      answers(model, kind.taskName, try run.questions(model), parallel: 1)
    }
  }

  // MARK: Rankings

  private static func retrieval(_ path: String, _ options: TaskOptions) throws -> LoadedTask {
    var data = try RetrievalData.load(path, split: options.split)
    if let limit = options.limit { data.queries = Array(data.queries.prefix(limit)) }
    let result = TaskResult(
      name: "retrieval", title: "\(RetrievalData.title): \(PathParts(path).name)", kind: .retrieval,
      settings: [
        ("passages", .init(data.corpus.count)), ("top", .init(options.top)),
        ("ignore_identical_ids", .bool(data.ignoresIdenticalIDs)),
      ], rules: RetrievalRun.rules, files: data.files)
    let run = RetrievalRun(data: data, top: options.top)
    return LoadedTask(result: result) { model, _ in try run.prepare(model) }
  }

  private static func reranking(_ path: String, _ options: TaskOptions) throws -> LoadedTask {
    var data = try RerankingData.load(path, split: options.split)
    if let limit = options.limit { data.rows = Array(data.rows.prefix(limit)) }
    let result = TaskResult(
      name: "reranking", title: "\(RerankingData.title): \(PathParts(path).name)", kind: .reranking,
      settings: [("left_out", .init(data.leftOut))], rules: RerankingRun.rules, files: data.files)
    let run = RerankingRun(data: data)
    return LoadedTask(result: result) { model, _ in try run.prepare(model) }
  }
}
