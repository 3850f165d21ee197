import Evaluation
import Files
import Foundation
import JSON
import Reports

/// Makes the report of an evaluation: what each task found, on one model or two, and all that is needed to repeat it.
package struct EvaluationReport {
  package var language: ReportLanguage
  package var generator: String
  /// One model or two, as people call them.
  package var models: [ModelFacts]
  package var tasks: [TaskResult]
  /// Further sections, for example of a text's divergence or of how the model was quantized.
  package var sections: [ReportSection] = []
  /// The command as it was typed.
  package var command: String
  /// Nil: the models' names.
  package var title: String?
  /// What is said of the machine and this process.
  package var machine: [ReportField] = []

  /// What is said of a model.
  package struct ModelFacts: Sendable {
    package var name: String
    package var path: String
    package var fingerprint: String
    /// Bytes of the weights.
    package var byteCount: Int
    package var arithmetic: String

    package init(name: String, path: String, fingerprint: String, byteCount: Int, arithmetic: String) {
      self.name = name
      self.path = path
      self.fingerprint = fingerprint
      self.byteCount = byteCount
      self.arithmetic = arithmetic
    }
  }

  /// The largest number of items of a task that are listed because they changed.
  private static let mostItems = 40
  /// Subjects of a task that fit into one figure.
  private static let mostSubjects = 80

  package init(
    language: ReportLanguage, generator: String, models: [ModelFacts], tasks: [TaskResult], command: String
  ) {
    self.language = language
    self.generator = generator
    self.models = models
    self.tasks = tasks
    self.command = command
  }

  private func say(_ english: String, _ chinese: String) -> String { language.choose(english, chinese) }

  private var isComparison: Bool { models.count == 2 }

  package func make() -> Report {
    let names = models.map(\.name)
    let items = tasks.reduce(0) { $0 + ($1.outcomes.first?.records.count ?? 0) }
    return Report(
      title: title
        ?? (isComparison
          ? say("\(names[1]) compared with \(names[0])", "\(names[1]) 与 \(names[0]) 的对比评测")
          : say("Evaluation of \(names.first ?? "")", "\(names.first ?? "") 评测报告")),
      subtitle: say(
        "\(tasks.count) \(tasks.count == 1 ? "task" : "tasks"), \(items) items",
        "\(tasks.count) 项任务，共 \(items) 题"),
      language: language, generator: generator, summary: summary(),
      sections: tasks.map { section($0) } + sections + [costs()], reproduction: reproduction())
  }

  // MARK: Summary

  private func summary() -> [ReportBlock] {
    var blocks: [ReportBlock] = []
    let main = tasks.prefix(6).compactMap { task -> KeyFigure? in
      guard let rule = task.rules.first, let outcome = task.outcomes.last,
        let summary = task.summary(rule, outcome.records)
      else { return nil }
      if let difference = task.difference(rule) {
        return KeyFigure(
          title(of: task), signed(difference.interval.estimate),
          detail: "\(interval(difference.interval, signed: true)) · \(verdict(difference))")
      }
      return KeyFigure(
        title(of: task), number(summary.interval.estimate),
        detail: "\(rule.name) · \(interval(summary.interval))")
    }
    if !main.isEmpty { blocks.append(.keyFigures(main)) }
    if isComparison { blocks.append(.paragraph(conclusion())) }
    blocks.append(.table(summaryTable()))
    for task in tasks {
      for warning in task.warnings { blocks.append(.callout(.warning, warning)) }
    }
    return blocks
  }

  /// What the differences say, in a sentence.
  private func conclusion() -> String {
    let main = tasks.compactMap { task in task.rules.first.flatMap { task.difference($0) } }
    let worse = main.count { $0.verdict == .worse }
    let better = main.count { $0.verdict == .better }
    let open = main.count - worse - better
    return say(
      "Of \(main.count) \(main.count == 1 ? "task" : "tasks"), the second model is worse in \(worse), better in \(better), and in "
        + "\(open) the items do not show a difference: the 95 % interval of the difference includes zero, or p is 0.05 or more. "
        + "Both models answered the same items.",
      "在 \(main.count) 项任务中，第二个模型有 \(worse) 项更差、\(better) 项更好；其余 \(open) 项的差值 95% 置信区间包含零或 p 不小于 0.05，现有题目不足以说明差异。两个模型回答的是同一批题目。"
    )
  }

  /// The main metric of each task.
  private func summaryTable() -> ReportTable {
    var table = ReportTable(
      say("Results", "结果"), columns: [.text(say("Task", "任务"))] + metricColumns, rows: [], note: intervalNote)
    for task in tasks {
      guard let rule = task.rules.first, let row = metricRow(task, rule) else { continue }
      table.rows.append([title(of: task)] + row)
    }
    return table
  }

  private var intervalNote: String {
    say(
      "In brackets: 95 % intervals, Wilson's for shares of right answers, else by a bootstrap of the items; for differences the same "
        + "items are drawn for both models. p: McNemar's test, exact and two-sided.",
      "方括号内为 95% 区间：正确率采用 Wilson 区间，其余采用题目自助法；差值对两个模型抽取相同题目。p：McNemar 双侧精确检验。")
  }

  /// All metrics of a task.
  private func metricTable(_ task: TaskResult) -> ReportTable {
    ReportTable(columns: metricColumns, rows: task.rules.compactMap { metricRow(task, $0) })
  }

  private var metricColumns: [ReportTable.Column] {
    var columns: [ReportTable.Column] = [.text(say("Metric", "指标")), .number(say("Items", "题数"))]
    guard isComparison else {
      return columns + [.number(models.first?.name ?? ""), .text(say("95 % interval", "95% 区间"))]
    }
    columns += models.map { .number($0.name) }
    return columns + [
      .number(say("Difference", "差值")), .text(say("95 % interval", "95% 区间")), .number("p"),
      .text(say("Verdict", "结论")),
    ]
  }

  /// Nil when no item has the metric.
  private func metricRow(_ task: TaskResult, _ rule: MetricRule) -> [String]? {
    let found = task.outcomes.map { task.summary(rule, $0.records) }
    guard let first = found.first ?? nil else { return nil }
    let name = rule.transform == .perplexity ? say("perplexity", "困惑度") : rule.name
    var row = [name, "\(first.count)"]
    guard isComparison else { return row + [number(first.interval.estimate), interval(first.interval)] }
    row += found.map { $0.map { number($0.interval.estimate) } ?? "–" }
    guard let difference = task.difference(rule) else { return row + ["–", "", "–", ""] }
    let unit = rule.transform == .perplexity ? " %" : ""
    return row + [
      signed(difference.interval.estimate) + unit, interval(difference.interval, signed: true) + unit,
      difference.mcNemar.map { probability($0.p) } ?? "–", verdict(difference),
    ]
  }

  private func verdict(_ difference: TaskResult.Difference) -> String {
    switch difference.verdict {
    case .better: say("better", "更好")
    case .worse: say("worse", "更差")
    case .undecided: say("no difference shown", "未见差异")
    }
  }

  // MARK: One task

  private func title(of task: TaskResult) -> String {
    guard language == .chinese else { return task.title }
    let chinese = [
      "Multiple choice": "选择题", "Generation": "生成题", "Needle in a haystack, English": "大海捞针（英文）",
      "Needle in a haystack, Chinese": "大海捞针（中文）", "Value retrieval, English": "数值检索（英文）",
      "Value retrieval, Chinese": "数值检索（中文）", "LAMBADA (generated)": "LAMBADA（生成）",
    ]
    if let title = chinese[task.title] { return title }
    for (english, title) in [("Retrieval: ", "检索："), ("Reranking: ", "重排：")] {
      if let rest = task.title.bytes.dropping(prefix: english) { return title + rest }
    }
    return task.title
  }

  /// The settings that say something, with names for people.
  private func settings(of task: TaskResult) -> [ReportField] {
    let names = [
      "mode": ("Mode", "评测方式"), "shots": ("Examples", "示例数"), "split": ("Split", "数据划分"),
      "template": ("Template", "模板"), "description": ("Description", "说明"), "scored": ("Scored", "评分对象"),
      "delimiter": ("Delimiter", "分隔符"), "lengths": ("Lengths, tokens", "长度（词元）"),
      "depths": ("Depths, %", "深度（%）"),
      "seed": ("Seed", "随机种子"), "fewshot_seed": ("Seed of the examples", "示例抽样种子"),
      "rule": ("Score of other answers", "其他回答的评分"), "metrics": ("Metrics", "指标"),
      "max_new_tokens": ("New tokens at most", "最多生成词元"), "stops": ("Stops", "停止文本"),
      "chat_template": ("Chat template", "对话模板"), "max_length": ("Prompt at most, tokens", "提示上限（词元）"),
      "passages": ("Passages", "段落数"), "top": ("Passages kept of a query", "每条查询保留段落"),
      "ignore_identical_ids": ("Own passage left out", "排除同名段落"), "left_out": ("Rows left out", "略去行数"),
    ]
    return task.settings.compactMap { name, value in
      let text = shown(value)
      guard !text.bytes.isBlank else { return nil }
      return ReportField(names[name].map { say($0.0, $0.1) } ?? name, text)
    }
  }

  private func shown(_ value: JSONValue) -> String {
    switch value {
    case .null: ""
    case .string(let text): text
    case .bool(let value): value ? say("yes", "是") : say("no", "否")
    case .array(let values): values.map(shown).joined(separator: ", ")
    default: value.serialized()
    }
  }

  private func section(_ task: TaskResult) -> ReportSection {
    var blocks: [ReportBlock] = [
      .fields(
        settings(of: task) + [ReportField(say("Items", "题数"), "\(task.outcomes.first?.records.count ?? 0)")]),
      .table(metricTable(task)),
    ]
    if task.kind == .needle {
      blocks += task.outcomes.enumerated().map { .figure(heatMap(task, $0.element, model: $0.offset)) }
    } else if task.subjects.count > 1 {
      blocks += subjectBlocks(task)
    } else if task.rules.count > 2 {
      blocks.append(.figure(measureBars(task)))
    }
    if isComparison { blocks += changes(task) } else { blocks += examples(task) }
    return ReportSection(title(of: task), blocks)
  }

  private func heatMap(_ task: TaskResult, _ outcome: ModelOutcome, model: Int) -> ReportFigure {
    func numbers(_ key: String) -> [Int] {
      Set(outcome.records.compactMap { $0.details[key]?.intValue }).sorted()
    }
    let (lengths, depths) = (numbers("length"), numbers("depth"))
    var values: [[Double?]] = depths.map { _ in lengths.map { _ in nil } }
    for record in outcome.records {
      guard let length = record.details["length"]?.intValue, let depth = record.details["depth"]?.intValue,
        let column = lengths.firstIndex(of: length), let row = depths.firstIndex(of: depth)
      else { continue }
      values[row][column] = record.value("score").map { 100 * $0 }
    }
    let scores = outcome.records.compactMap { $0.value("score") }
    let mean = 100 * scores.reduce(0, +) / Double(max(1, scores.count))
    let name = models.indices.contains(model) ? models[model].name : outcome.model
    return ReportFigure(
      say("\(name): score by length and depth", "\(name)：各长度与深度的得分"),
      alternative: say(
        "Scores of \(outcome.records.count) cells for contexts of \(lengths.first ?? 0) to \(lengths.last ?? 0) tokens; the mean is "
          + "\(number(mean)) of 100.",
        "上下文长度 \(lengths.first ?? 0) 至 \(lengths.last ?? 0) 个词元，共 \(outcome.records.count) 格得分；平均 \(number(mean))（满分 100）。"
      ),
      .heatMap(
        HeatMap(
          columnAxis: say("Context length, tokens", "上下文长度（词元）"), columns: lengths.map { "\($0)" },
          rowAxis: say("Depth of the needle, %", "针的深度（%）"), rows: depths.map { "\($0)" }, values: values,
          range: 0...100, decimals: 0)))
  }

  /// The main metric by subject, and by group where subjects have groups.
  private func subjectBlocks(_ task: TaskResult) -> [ReportBlock] {
    guard let rule = task.rules.first else { return [] }
    var blocks: [ReportBlock] = []
    let groups = task.groupNames
    if !groups.isEmpty {
      blocks.append(
        .figure(
          chart(
            task, rule, title: say("By group", "按类别"),
            rows: groups.map { group in
              (group, task.outcomes.map { task.records(of: $0, group: group) })
            })))
    }
    let subjects = task.subjects
    for first in stride(from: 0, to: subjects.count, by: EvaluationReport.mostSubjects) {
      let some = subjects[first..<min(first + EvaluationReport.mostSubjects, subjects.count)]
      blocks.append(
        .figure(
          chart(
            task, rule, title: say("By subject", "按科目"),
            rows: some.map { subject in
              (task.title(ofSubject: subject), task.outcomes.map { task.records(of: $0, subject: subject) })
            })))
    }
    return blocks
  }

  private func chart(
    _ task: TaskResult, _ rule: MetricRule, title: String, rows: [(label: String, records: [[ItemRecord]])]
  ) -> ReportFigure {
    var flat = rule
    flat.averaging = .items
    var chart = IntervalChart(
      axis: rule.scale == 100 ? "\(rule.name), %" : rule.name, series: models.map(\.name), rows: [])
    var values: [Double] = []
    for row in rows {
      var line = IntervalChart.Row(row.label)
      line.values = row.records.map { records in
        task.summary(flat, records).map { summary in
          values.append(summary.interval.estimate)
          return IntervalChart.Interval(
            summary.interval.estimate, low: summary.interval.lower, high: summary.interval.upper)
        }
      }
      chart.rows.append(line)
    }
    return ReportFigure(
      "\(title): \(rule.name)",
      alternative: say(
        "\(rule.name) of \(rows.count) rows with 95 % intervals; values lie between \(number(values.min() ?? 0)) and "
          + "\(number(values.max() ?? 0)).",
        "\(rows.count) 行 \(rule.name) 及其 95% 区间；数值介于 \(number(values.min() ?? 0)) 与 \(number(values.max() ?? 0)) 之间。"
      ),
      .intervals(chart))
  }

  private func measureBars(_ task: TaskResult) -> ReportFigure {
    var chart = IntervalChart(axis: "%", series: models.map(\.name), rows: [])
    for rule in task.rules where rule.scale == 100 {
      var row = IntervalChart.Row(rule.name)
      row.values = task.outcomes.map { outcome in
        task.summary(rule, outcome.records).map {
          IntervalChart.Interval($0.interval.estimate, low: $0.interval.lower, high: $0.interval.upper)
        }
      }
      chart.rows.append(row)
    }
    return ReportFigure(
      say("Metrics", "各项指标"),
      alternative: say(
        "\(chart.rows.count) metrics of \(title(of: task)) with 95 % intervals.",
        "\(title(of: task)) 的 \(chart.rows.count) 项指标及其 95% 区间。"),
      .intervals(chart))
  }

  /// The items that changed sides, with both answers.
  private func changes(_ task: TaskResult) -> [ReportBlock] {
    let changed = task.changedItems
    guard !changed.isEmpty, let rule = task.rules.first else {
      return [.paragraph(say("No item changed.", "没有题目的结果发生变化。"))]
    }
    let sign = rule.higherIsBetter ? 1.0 : -1.0
    let worse = changed.count {
      sign * (($0.second.value(rule.name) ?? 0) - ($0.first.value(rule.name) ?? 0)) < 0
    }
    let items = changed.prefix(EvaluationReport.mostItems).map { pair in
      let (a, b) = (pair.first.value(rule.name) ?? 0, pair.second.value(rule.name) ?? 0)
      let isBetter = sign * (b - a) > 0
      var fields: [ReportField] = []
      if let question = pair.first.details["question"]?.stringValue {
        fields.append(ReportField(say("Question", "题目"), excerpt(question)))
      }
      fields += [
        ReportField(say("Expected", "标准答案"), excerpt(pair.first.expected)),
        ReportField("\(models[0].name) (\(number(a * rule.scale)))", excerpt(pair.first.answer)),
        ReportField("\(models[1].name) (\(number(b * rule.scale)))", excerpt(pair.second.answer)),
      ]
      return ReportItem(
        pair.first.id, mark: isBetter ? say("better", "变好") : say("worse", "变差"),
        tone: isBetter ? .good : .bad, fields)
    }
    let shown =
      items.count < changed.count
      ? say(" The first \(items.count) are listed.", "此处列出前 \(items.count) 题。") : ""
    return [
      .heading(say("Items that changed", "结果变化的题目")),
      .paragraph(
        say(
          "\(changed.count) of \(task.outcomes[0].records.count) items changed: \(worse) got worse, \(changed.count - worse) better."
            + shown,
          "\(task.outcomes[0].records.count) 题中有 \(changed.count) 题变化：\(worse) 题变差，\(changed.count - worse) 题变好。"
            + shown)),
      .items(items),
    ]
  }

  /// The first items that a single model got wrong.
  private func examples(_ task: TaskResult) -> [ReportBlock] {
    guard let rule = task.rules.first, rule.transform == .mean, let outcome = task.outcomes.first,
      task.kind != .retrieval, task.kind != .reranking
    else { return [] }
    let wrong = outcome.records.filter { ($0.value(rule.name) ?? 0) < 1 }
    guard !wrong.isEmpty else { return [] }
    let items = wrong.prefix(12).map { record in
      var fields: [ReportField] = []
      if let question = record.details["question"]?.stringValue {
        fields.append(ReportField(say("Question", "题目"), excerpt(question)))
      }
      fields += [
        ReportField(say("Expected", "标准答案"), excerpt(record.expected)),
        ReportField(say("Answer", "模型答案"), excerpt(record.answer)),
      ]
      return ReportItem(record.id, mark: number((record.value(rule.name) ?? 0) * rule.scale), fields)
    }
    return [
      .heading(say("Items without the full score", "未得满分的题目")),
      .paragraph(
        say(
          "\(wrong.count) of \(outcome.records.count) items; the first \(items.count) are listed.",
          "\(outcome.records.count) 题中有 \(wrong.count) 题未得满分；此处列出前 \(items.count) 题。")), .items(items),
    ]
  }

  private func excerpt(_ text: String) -> String {
    let start = text.bytes.prefix(scalars: 600)
    return start.hasSameBytes(as: text) ? text : start + "…"
  }

  // MARK: Speed, memory, reproduction

  private func costs() -> ReportSection {
    var rows: [[String]] = []
    for task in tasks {
      for (index, outcome) in task.outcomes.enumerated() {
        let ran = outcome.itemsRun > 0
        rows.append([
          title(of: task), models.indices.contains(index) ? models[index].name : outcome.model,
          "\(outcome.itemsRun)", ran ? number(outcome.seconds) : "–",
          ran ? number(Double(outcome.itemsRun) / max(outcome.seconds, 1e-9)) : "–",
          ran ? "\(outcome.tokensAsked)" : "–",
          ran ? "\(outcome.tokensRun)" : "–",
        ])
      }
    }
    return ReportSection(
      say("Speed and memory", "速度与内存"),
      [
        .table(
          ReportTable(
            columns: [
              .text(say("Task", "任务")), .text(say("Model", "模型")), .number(say("Items run", "运行题数")),
              .number(say("Seconds", "秒")), .number(say("Items/s", "题/秒")),
              .number(say("Tokens of all prompts", "提示总词元")),
              .number(say("Tokens run", "实际计算词元")),
            ], rows: rows,
            note: say(
              "Items that a journal held already did not run. What prompts begin with in common ran once.",
              "日志中已有的题目不再运行；提示的公共前缀只计算一次。"))),
        .fields(
          models.map {
            ReportField(say("Weights of \($0.name)", "\($0.name) 的权重"), ByteCount.text($0.byteCount))
          } + machine),
      ])
  }

  private func reproduction() -> [ReportField] {
    var fields = [
      ReportField(say("Command", "命令"), command), ReportField(say("Version", "版本"), generator),
    ]
    for model in models {
      fields.append(
        ReportField(
          model.name,
          "\(model.path) · sha256 \(model.fingerprint) · \(say("arithmetic", "算术")) \(model.arithmetic)"))
    }
    var seen: Set<ByteText> = []
    for file in tasks.flatMap(\.files) where seen.insert(file.path.bytes).inserted {
      fields.append(ReportField(file.path, "sha256 \(file.sha256) · \(ByteCount.text(file.byteCount))"))
    }
    return fields
  }

  // MARK: Numbers

  private func number(_ value: Double) -> String { String(format: "%.2f", value) }
  private func signed(_ value: Double) -> String {
    (value < 0 ? "−" : "+") + String(format: "%.2f", abs(value))
  }
  private func interval(_ interval: ConfidenceInterval, signed: Bool = false) -> String {
    func show(_ value: Double) -> String { signed ? self.signed(value) : number(value) }
    return "[\(show(interval.lower)), \(show(interval.upper))]"
  }
  private func probability(_ p: Double) -> String { p < 0.001 ? "< 0.001" : String(format: "%.3f", p) }
}
