import Evaluation
import Files
import Foundation
import JSON

/// One answer to generate.
package struct GenerationItem: Equatable, Sendable {
  /// Unique within the task.
  package var id: String
  package var subject: String
  package var prompt: String
  /// Whether the prompt becomes a user's message when the model has a chat template; otherwise it is plain text.
  package var usesChatTemplate: Bool
  /// Texts at which generation ends. They do not belong to the answer.
  package var stops: [String]
  package var maximumNewTokens: Int
  package var answers: [String]
  /// All that an answer may name, for classification.
  package var classes: [String]
  /// In words or characters as the publisher counts them, for LongBench-E's buckets.
  package var length: Int?
  /// Only the first line of the answer is scored, after line feeds at its beginning.
  package var firstLineOnly: Bool
  /// A prompt that is too long loses its middle, as LongBench does it, instead of being refused.
  package var truncatesMiddle: Bool

  package init(
    id: String, subject: String, prompt: String, usesChatTemplate: Bool, stops: [String] = [],
    maximumNewTokens: Int, answers: [String], classes: [String] = [], length: Int? = nil,
    firstLineOnly: Bool = false, truncatesMiddle: Bool = false
  ) {
    (self.id, self.subject, self.prompt) = (id, subject, prompt)
    (self.usesChatTemplate, self.stops, self.maximumNewTokens) = (usesChatTemplate, stops, maximumNewTokens)
    (self.answers, self.classes, self.length) = (answers, classes, length)
    (self.firstLineOnly, self.truncatesMiddle) = (firstLineOnly, truncatesMiddle)
  }

  /// LongBench-E's buckets: `0-4k`, `4-8k` and `8k+`.
  package var bucket: String? { length.map { $0 < 4000 ? "0-4k" : $0 < 8000 ? "4-8k" : "8k+" } }
}

/// How the items of one's own file are asked and scored.
package struct GenerationOptions: Equatable, Sendable {
  /// `{prompt}`, `{question}`, `{input}`, `{context}` and other names of the file's fields; nil for the field `prompt`, or `question`,
  /// or `context` and `input`.
  package var template: String?
  /// Names of ``AnswerMetric``; the first is the main one.
  package var metrics: [String]
  package var stops: [String]
  package var maximumNewTokens: Int
  package var usesChatTemplate: Bool
  package var firstLineOnly: Bool

  package init(
    template: String? = nil, metrics: [String] = ["exact_match"], stops: [String] = [],
    maximumNewTokens: Int = 128, usesChatTemplate: Bool = true, firstLineOnly: Bool = false
  ) {
    (self.template, self.metrics, self.stops) = (template, metrics, stops)
    (self.maximumNewTokens, self.usesChatTemplate) = (maximumNewTokens, usesChatTemplate)
    self.firstLineOnly = firstLineOnly
  }
}

/// A task whose answers a model writes: which files it reads, what the model is asked, and how the answer is scored.
package struct GenerationTask: Sendable {
  enum Kind: Equatable, Sendable {
    case gsm8k, lambada, longbench
    case generate(GenerationOptions)
  }

  let kind: Kind
  package let name: String
  package let title: String
  package let licence: String
  /// Which file is expected where, as the end of a sentence.
  package let layout: String
  package let usualShots: Int
  /// The metric of a task with one; LongBench's depends on the set, see ``mainMetric(of:)``.
  private let metrics: [AnswerMetric]

  package static let all: [GenerationTask] = [
    GenerationTask(
      kind: .gsm8k, name: "gsm8k", title: "GSM8K",
      licence: "the MIT licence (openai/grade-school-math on GitHub)",
      layout: "test.jsonl, or a folder with it and, for examples, train.jsonl", usualShots: 5,
      metrics: [.gsm8k(.strict), .gsm8k(.flexible), .gsm8k(.openCompass)]),
    GenerationTask(
      kind: .lambada, name: "lambada-generate", title: "LAMBADA (generated)",
      licence:
        "CC BY 4.0 (zenodo.org/record/2630551; OpenAI's variant on Hugging Face: EleutherAI/lambada_openai)",
      layout:
        "a JSON Lines file whose objects have text, or prompt and label as OpenCompass' test.jsonl has them; or a folder with test.jsonl or "
        + "lambada_test.jsonl", usualShots: 0, metrics: [.firstWord]),
    GenerationTask(
      kind: .longbench, name: "longbench", title: "LongBench",
      licence:
        "the MIT licence (THUDM/LongBench on Hugging Face, data.zip; the texts keep the licences of their sources)",
      layout: "a folder with SET.jsonl for each of 21 sets (SET_e.jsonl for LongBench-E), as data.zip has it",
      usualShots: 0,
      metrics: []),
    generateTask(),
  ]

  package static func named(_ name: String) -> GenerationTask? { all.first { $0.name == name } }

  /// Items of the user's own.
  /// - Throws: ``DataError`` for a metric that does not exist.
  package static func generate(_ options: GenerationOptions = GenerationOptions()) throws -> GenerationTask {
    let unknown = options.metrics.filter { AnswerMetric.named($0) == nil }
    guard unknown.isEmpty, !options.metrics.isEmpty else {
      throw DataError(.unknownMetrics(unknown, known: AnswerMetric.all.map(\.name)), path: "generate")
    }
    return generateTask(options)
  }

  private static func generateTask(_ options: GenerationOptions = GenerationOptions()) -> GenerationTask {
    GenerationTask(
      kind: .generate(options), name: "generate", title: "Generation", licence: "the terms of their owner",
      layout:
        "a JSON Lines file whose objects have prompt (or question, or context and input) and answer (or answers, a list), and may have "
        + "id, subject, classes, stops and max_tokens", usualShots: 0,
      metrics: options.metrics.compactMap(AnswerMetric.named))
  }

  /// Whether the figure of the whole task is the mean of those of its subjects, whatever their sizes; otherwise every item counts the
  /// same.
  package var averagesSubjects: Bool { kind == .longbench }

  // MARK: Scores

  /// The metric that is reported first for items of this subject.
  package func mainMetric(of subject: String) -> String { metrics(of: subject)[0].name }

  /// The metrics of an item, by name, in the order of the report.
  package func metricNames(of subject: String) -> [String] { metrics(of: subject).map(\.name) }

  private func metrics(of subject: String) -> [AnswerMetric] {
    guard kind == .longbench else { return metrics }
    guard let set = LongBenchSet.named(GenerationTask.baseName(subject)) else {
      preconditionFailure("an item of LongBench has the name of a set as its subject")
    }
    // What a score is depends on what was installed beside LongBench.
    return set.metric.name == AnswerMetric.codeSimilarity.name
      ? [.codeSimilarity, .codeSimilarityIndel] : [set.metric]
  }

  /// Scores between 0 and 1, each the best over the item's answers.
  /// - Throws: ``MetricError``.
  package func score(_ answer: String, _ item: GenerationItem) throws -> [(metric: String, value: Double)] {
    var answer = answer
    if item.firstLineOnly {
      let line = answer.unicodeScalars.drop { $0 == "\n" }.prefix { $0 != "\n" }
      answer = String(String.UnicodeScalarView(line))
    }
    return try metrics(of: item.subject).map { metric in
      (metric.name, try metric.score(answer, item.answers, classes: item.classes))
    }
  }

  // MARK: Items

  /// Reads the items.
  /// - Parameters:
  ///   - split: nil for the usual one; for LongBench `e` reads the files of LongBench-E.
  ///   - subjects: of LongBench the sets, nil for all that the folder has.
  ///   - shots: examples before each question of GSM8K; other tasks have none.
  ///   - examples: the file of examples, where it is not beside the items.
  ///   - sampling: which examples of GSM8K stand before a question.
  /// - Throws: ``DataError`` and others that name the file, the line and the column.
  package func load(
    _ path: String, split: String? = nil, subjects: [String]? = nil, shots: Int? = nil,
    examples: String? = nil, sampling: FewShotSampling = .drawn(seed: FewShotSampling.usualSeed)
  ) throws -> (items: [GenerationItem], files: [DataFile]) {
    let path = path.withoutTrailingSlashes
    var isFolder: ObjCBool = false
    guard FileManager.default.fileExists(atPath: path, isDirectory: &isFolder) else {
      throw DataError(.notFound(task: title, layout: layout, licence: licence), path: path)
    }
    let shots = shots ?? usualShots
    guard shots == 0 || kind == .gsm8k else {
      throw DataError(.refused("takes no examples; its prompts have what they need"), path: name)
    }
    var result: (items: [GenerationItem], files: [DataFile])
    switch kind {
    case .gsm8k:
      result = try gsm8k(path, isFolder.boolValue, split ?? "test", shots, examples, sampling)
    case .lambada:
      let file = try file(
        path, isFolder.boolValue, ["\(split ?? "test").jsonl", "lambada_\(split ?? "test").jsonl"])
      result = ([], [])
      result.files.append(
        try JSONLines.forEach(file: file) { fields, line in
          let (context, word) = try Lambada.parts(fields)
          result.items.append(
            GenerationItem(
              id: "\(result.items.count)", subject: name,
              prompt: "Please complete the following sentence:\n\(context)", usesChatTemplate: true,
              maximumNewTokens: 5, answers: [word]))
          return true
        })
    case .longbench: result = try longBench(path, isFolder.boolValue, split, subjects)
    case .generate(let options): result = try own(path, isFolder.boolValue, split ?? "test", options)
    }
    if kind != .longbench, let subjects {
      let names = Set(result.items.map(\.subject.bytes))
      let unknown = subjects.filter { !names.contains($0.bytes) }
      guard unknown.isEmpty else {
        throw DataError(.unknownSubjects(unknown, known: names.map(\.text).sorted()), path: path)
      }
      result.items.removeAll { item in !subjects.contains { $0.hasSameBytes(as: item.subject) } }
    }
    guard !result.items.isEmpty else { throw DataError(.noItems, path: path) }
    return result
  }

  private func file(_ path: String, _ isFolder: Bool, _ names: [String]) throws -> String {
    guard isFolder else { return path }
    guard let name = names.first(where: { FileManager.default.fileExists(atPath: "\(path)/\($0)") }) else {
      throw DataError(.missingFiles([names[0]], layout: layout, licence: licence), path: path)
    }
    return "\(path)/\(name)"
  }

  /// lm-eval's prompt of `gsm8k.yaml`: examples of question and solution with blank lines between, drawn from the training split.
  private func gsm8k(
    _ path: String, _ isFolder: Bool, _ split: String, _ shots: Int, _ examples: String?,
    _ sampling: FewShotSampling
  ) throws -> ([GenerationItem], [DataFile]) {
    func rows(_ path: String, most: Int?) throws -> ([(question: String, answer: String)], DataFile) {
      var rows: [(String, String)] = []
      let file = try JSONLines.forEach(file: path) { fields, line in
        let answer = try fields.requiredString("answer")
        guard answer.bytes.contains("#### ") else {
          throw fields.refusal("answer", "has no line \"#### \" with the number")
        }
        rows.append((try fields.requiredString("question"), answer))
        return most.map { rows.count < $0 } ?? true
      }
      return (rows, file)
    }
    let itemsPath = try file(path, isFolder, ["\(split).jsonl"])
    var files: [DataFile] = []
    var pool: [String] = []
    if shots > 0 {
      let folder = isFolder ? path : PathParts(path).folder
      let examplesPath = examples ?? "\(folder)/train.jsonl"
      guard FileManager.default.fileExists(atPath: examplesPath) else {
        throw DataError(.missingFiles(["train.jsonl"], layout: layout, licence: licence), path: folder)
      }
      let (rows, file) = try rows(examplesPath, most: sampling == .first ? shots : nil)
      files.append(file)
      guard rows.count >= shots else {
        throw DataError(
          .tooFewExamples(subject: title, found: rows.count, wanted: shots, expected: "train.jsonl"),
          path: examplesPath)
      }
      pool = rows.map { "Question: \($0.question)\nAnswer: \($0.answer)\n\n" }
    }
    var sampler = FewShotSampler(sampling)
    let (rows, file) = try rows(itemsPath, most: nil)
    files.append(file)
    let items = rows.enumerated().map { index, row in
      GenerationItem(
        id: "\(index)", subject: name,
        prompt: sampler.next(shots, of: pool.count).map { pool[$0] }.joined()
          + "Question: \(row.question)\nAnswer:",
        usesChatTemplate: false, stops: ["Question:", "</s>", "<|im_end|>"], maximumNewTokens: 256,
        answers: [row.answer])
    }
    return (items, files)
  }

  /// The set of a subject: `qasper` for LongBench-E's `qasper_e`.
  static func baseName(_ subject: String) -> String { subject.bytes.dropping(suffix: "_e") ?? subject }

  private func longBench(_ path: String, _ isFolder: Bool, _ split: String?, _ subjects: [String]?) throws
    -> (
      [GenerationItem], [DataFile]
    )
  {
    guard split == nil || split == "test" || split == "e" else {
      throw DataError(.unknownSplit(split ?? "", known: ["test", "e"]), path: name)
    }
    let suffix = split == "e" ? "_e" : ""
    var sets: [(LongBenchSet, String)] = []
    if isFolder {
      let folder = FileManager.default.fileExists(atPath: "\(path)/data") ? "\(path)/data" : path
      let known = LongBenchSet.all.map { $0.name + suffix }
      if let subjects {
        let unknown = subjects.filter { LongBenchSet.named(GenerationTask.baseName($0)) == nil }
        guard unknown.isEmpty else {
          throw DataError(.unknownSubjects(unknown, known: known), path: path)
        }
      }
      let wanted = LongBenchSet.all.filter { set in
        subjects?.contains { GenerationTask.baseName($0) == set.name } ?? true
      }
      let there = wanted.filter {
        FileManager.default.fileExists(atPath: "\(folder)/\($0.name)\(suffix).jsonl")
      }
      // LongBench-E has no files for some of the sets.
      guard there.count == wanted.count || subjects == nil && suffix == "_e" && !there.isEmpty else {
        let missing = wanted.filter { set in !there.contains { $0.name == set.name } }
        throw DataError(
          .missingFiles(
            missing.map { "\($0.name)\(suffix).jsonl" }, layout: layout, licence: licence,
            canNameSubjects: true), path: path)
      }
      sets = there.map { ($0, "\(folder)/\($0.name)\(suffix).jsonl") }
    } else {
      let file = PathParts(path).name
      let stem = file.bytes.dropping(suffix: ".jsonl") ?? file
      guard let set = LongBenchSet.named(GenerationTask.baseName(stem)) else {
        throw DataError(
          .refused(
            "is not named after a set of LongBench, for example multifieldqa_zh.jsonl; the sets are "
              + LongBenchSet.all.map(\.name).joined(separator: ", ")), path: path)
      }
      sets = [(set, path)]
    }
    var result: ([GenerationItem], [DataFile]) = ([], [])
    for (set, file) in sets {
      var seen: [ByteText: Int] = [:]
      var count = 0
      let subject = set.name + (file.hasSuffix("_e.jsonl") ? "_e" : "")
      result.1.append(
        try JSONLines.forEach(file: file) { fields, line in
          let own = try fields.string("_id") ?? "\(count)"
          if let earlier = seen.updateValue(line, forKey: own.bytes) {
            throw DataError(.repeatedID(own, earlier: earlier), path: file, line: line)
          }
          result.0.append(try GenerationTask.item(fields, of: set, subject: subject, id: "\(subject)/\(own)"))
          count += 1
          return true
        })
      guard count > 0 else { throw DataError(.noItems, path: file) }
    }
    return result
  }

  /// An item of LongBench.
  package static func item(_ fields: JSONFields, of set: LongBenchSet, subject: String, id: String) throws
    -> GenerationItem
  {
    let context = try fields.requiredString("context")
    let input = try fields.string("input") ?? ""
    guard fields["answers"]?.arrayValue != nil else {
      throw fields.isPresent("answers")
        ? fields.unexpected("answers", expected: "an array of strings") : fields.error("answers", .missing)
    }
    let answers = try fields.strings("answers", most: 100_000)
    guard !answers.isEmpty else { throw fields.refusal("answers", "is empty; every item needs an answer") }
    let classes = try fields.strings("all_classes", most: 100_000)
    if set.metric.name == AnswerMetric.classification.name, classes.isEmpty {
      throw fields.error("all_classes", .missing)
    }
    // What cannot be scored is found before a model runs.
    try check(answers, by: set.metric, classes: classes, fields, "answers")
    return GenerationItem(
      id: id, subject: subject,
      prompt: ChoiceTemplate.fill(set.prompt) { $0 == "context" ? context : $0 == "input" ? input : nil },
      usesChatTemplate: set.usesChatTemplate, stops: set.stops, maximumNewTokens: set.maximumNewTokens,
      answers: answers, classes: classes, length: try fields.integer("length", in: 0...(1 << 40)),
      firstLineOnly: set.firstLineOnly, truncatesMiddle: true)
  }

  private static func check(
    _ answers: [String], by metric: AnswerMetric, classes: [String], _ fields: JSONFields, _ key: String
  ) throws {
    do {
      for answer in answers { _ = try metric.score("", [answer], classes: classes) }
    } catch let error as MetricError {
      throw fields.refusal(key, "cannot be scored: \(error)")
    }
  }

  private func own(_ path: String, _ isFolder: Bool, _ split: String, _ options: GenerationOptions) throws
    -> (
      [GenerationItem], [DataFile]
    )
  {
    let path = try file(path, isFolder, ["\(split).jsonl"])
    var items: [GenerationItem] = []
    var seen: [ByteText: Int] = [:]
    let file = try JSONLines.forEach(file: path) { fields, line in
      let item = try item(fields, options, number: items.count)
      if let earlier = seen.updateValue(line, forKey: item.id.bytes) {
        throw DataError(.repeatedID(item.id, earlier: earlier), path: path, line: line)
      }
      items.append(item)
      return true
    }
    return (items, [file])
  }

  /// An item of one's own file.
  package func item(_ fields: JSONFields, _ options: GenerationOptions, number: Int) throws -> GenerationItem
  {
    let prompt: String
    if let template = options.template {
      var missing: String?
      prompt = ChoiceTemplate.fill(template) { name in
        if let text = fields[name]?.stringValue { return text }
        if ["prompt", "question", "input", "context"].contains(name) { missing = missing ?? name }
        return nil
      }
      if let missing { throw fields.error(missing, .missing) }
    } else if let text = try fields.string("prompt") {
      prompt = text
    } else if let question = try fields.string("question") {
      let context = try fields.string("context")
      prompt = context.map { "\($0)\n\n\(question)" } ?? question
    } else if let input = try fields.string("input") {
      let context = try fields.string("context")
      prompt = context.map { "\($0)\n\n\(input)" } ?? input
    } else {
      throw fields.error("prompt", .missing)
    }
    guard !prompt.isEmpty else { throw fields.refusal("prompt", "is empty") }
    let key = fields.isPresent("answers") ? "answers" : "answer"
    let answers: [String]
    if let number = fields[key], case .number(let text) = number {
      answers = [text]
    } else {
      answers = try fields.strings(key, most: 100_000)
    }
    guard !answers.isEmpty else { throw fields.error(key, .missing) }
    let classes = try fields.strings("classes", most: 100_000)
    for metric in metrics {
      if metric.name == AnswerMetric.classification.name, classes.isEmpty {
        throw fields.error("classes", .missing)
      }
      // A pattern that is none, or an expected answer without the number, is found before a model runs.
      try GenerationTask.check(answers, by: metric, classes: classes, fields, key)
    }
    let id: String
    if let number = fields["id"]?.intValue {
      id = "\(number)"
    } else {
      id = try fields.string("id") ?? "\(number)"
    }
    return GenerationItem(
      id: id, subject: try fields.string("subject") ?? name, prompt: prompt,
      usesChatTemplate: options.usesChatTemplate,
      stops: fields.isPresent("stops") ? try fields.strings("stops", most: 64) : options.stops,
      maximumNewTokens: try fields.integer("max_tokens", in: 1...(1 << 20)) ?? options.maximumNewTokens,
      answers: answers, classes: classes, firstLineOnly: options.firstLineOnly)
  }
}
