import Evaluation
import Files
import Foundation
import JSON
import Reports
import Tasks
import TestSupport
import Testing

/// What becomes of items: figures, intervals, differences, JSON and reports.
@Suite struct TaskResultTests {
  private static func record(_ id: Int, _ subject: String, _ value: Double, metric: String = "acc")
    -> ItemRecord
  {
    ItemRecord(
      id: "\(id)", subject: subject, metrics: [(metric, value)], answer: value == 1 ? "right" : "wrong <b>",
      expected: "right", details: JSONObject([("question", "Why?")]))
  }

  private static func outcome(_ name: String, _ records: [ItemRecord]) -> ModelOutcome {
    var outcome = RunOutcome()
    outcome.records = records
    outcome.itemsRun = records.count
    outcome.seconds = 1
    return ModelOutcome(model: name, outcome)
  }

  /// Two models on 200 items of two subjects, of which the second gets `lost` of the first one's wrong.
  private static func result(
    lost: Int, gained: Int = 0, averaging: MetricRule.Averaging = .items
  ) -> TaskResult {
    var result = TaskResult(
      name: "mmlu", title: "MMLU", kind: .choices, settings: [("shots", 5)],
      rules: [MetricRule("acc", averaging: averaging)],
      files: [DataFile(path: "f.csv", byteCount: 3, sha256: "00")])
    let values = (0..<200).map { $0 % 2 }
    var changed = values
    for index in 0..<lost { changed[2 * index + 1] = 0 }
    for index in 0..<gained { changed[2 * index] = 1 }
    func records(_ values: [Int]) -> [ItemRecord] {
      values.enumerated().map { record($0.offset, $0.offset < 50 ? "law" : "physics", Double($0.element)) }
    }
    result.outcomes = [outcome("a", records(values)), outcome("b", records(changed))]
    result.groups = ["law": "social", "physics": "STEM"]
    return result
  }

  @Test func differencesAndWhatMayBeSaid() throws {
    let clear = Self.result(lost: 20)
    let rule = clear.rules[0]
    let difference = try #require(clear.difference(rule))
    #expect(abs(difference.interval.estimate + 10) < 1e-9)
    #expect(difference.mcNemar?.onlyFirst == 20 && difference.mcNemar?.onlySecond == 0)
    #expect(difference.verdict == .worse)
    #expect(try #require(Self.result(lost: 0, gained: 20).difference(rule)).verdict == .better)
    #expect(try #require(Self.result(lost: 8, gained: 6).difference(rule)).verdict == .undecided)
    // Five of five in one direction: a bootstrap excludes zero, an exact test does not (p = 1/16).
    let few = try #require(Self.result(lost: 5).difference(rule))
    #expect(few.interval.excludesZero && few.verdict == .undecided)
    #expect(try #require(Self.result(lost: 0).difference(rule)).verdict == .undecided)
  }

  @Test func meansOfItemsAndOfSubjects() throws {
    let items = Self.result(lost: 20)
    let bySubject = Self.result(lost: 20, averaging: .subjects)
    // 20 of the 25 right answers in law are lost: 5 of 50 and 75 of 150.
    let ofItems = try #require(items.summary(items.rules[0], items.outcomes[1].records))
    let ofSubjects = try #require(bySubject.summary(bySubject.rules[0], bySubject.outcomes[1].records))
    #expect(abs(ofItems.interval.estimate - 40) < 1e-9)
    #expect(abs(ofSubjects.interval.estimate - 30) < 1e-9)
    #expect(abs((try #require(bySubject.difference(bySubject.rules[0]))).interval.estimate + 20) < 1e-9)
    #expect(items.subjects == ["law", "physics"] && items.groupNames == ["social", "STEM"])
    #expect(items.changedItems.map(\.first.id) == (0..<20).map { "\(2 * $0 + 1)" })
  }

  @Test func perplexitiesAreExponentials() throws {
    var result = TaskResult(
      name: "lambada", title: "LAMBADA", kind: .continuation, settings: [],
      rules: [MetricRule("log_likelihood", transform: .perplexity, scale: 1, higherIsBetter: false)],
      files: [])
    func records(_ shift: Double) -> [ItemRecord] {
      (0..<100).map { Self.record($0, "s", -1 - Double($0 % 3) - shift, metric: "log_likelihood") }
    }
    result.outcomes = [Self.outcome("a", records(0)), Self.outcome("b", records(0.1))]
    let mean = (0..<100).reduce(0.0) { $0 + 1 + Double($1 % 3) } / 100
    let summary = try #require(result.summary(result.rules[0], result.outcomes[0].records))
    #expect(abs(summary.interval.estimate - exp(mean)) < 1e-9)
    #expect(
      summary.interval.lower < summary.interval.estimate && summary.interval.estimate < summary.interval.upper
    )
    let difference = try #require(result.difference(result.rules[0]))
    // In percent, and a higher perplexity is worse.
    #expect(abs(difference.interval.estimate - 100 * (exp(0.1) - 1)) < 1e-6)
    #expect(difference.verdict == .worse)
  }

  private static let models = ["a", "b"].map {
    EvaluationReport.ModelFacts(
      name: $0, path: "/models/\($0)", fingerprint: "ff", byteCount: 10, arithmetic: "exact")
  }

  @Test func jsonHasLMEvalsLayout() throws {
    let json = EvaluationJSON(
      models: Self.models, tasks: [Self.result(lost: 20)], generator: "g", command: "c", limit: nil,
      started: Date(timeIntervalSince1970: 1), ended: Date(timeIntervalSince1970: 3)
    ).json
    let task = try #require(json["results"]?["mmlu"])
    #expect(task["acc,none"]?.doubleValue == 0.5)
    // √(0.25 · 200/199 / 200)
    #expect(abs((task["acc_stderr,none"]?.doubleValue ?? 0) - (0.25 / 199).squareRoot()) < 1e-12)
    #expect(json["results"]?["mmlu_law"]?["acc,none"]?.doubleValue == 0.5)
    #expect(json["group_subtasks"]?["mmlu"]?.arrayValue?.count == 2)
    #expect(json["n-shot"]?["mmlu"]?.intValue == 5)
    #expect(json["higher_is_better"]?["mmlu"]?["acc"]?.boolValue == true)
    #expect(json["model_name_sanitized"]?.stringValue == "__models__a")
    let difference = try #require(json["comparison"]?["differences"]?["mmlu"]?["acc"])
    #expect(abs((difference["difference"]?.doubleValue ?? 0) + 0.1) < 1e-12)
    #expect(difference["verdict"]?.stringValue == "worse")
    #expect(json["comparison"]?["differences"]?["mmlu"]?["changed_items"]?.arrayValue?.count == 20)
  }

  @Test(arguments: ReportLanguage.allCases)
  func reportsSayWhatWasFound(language: ReportLanguage) throws {
    let report = EvaluationReport(
      language: language, generator: "g", models: Self.models, tasks: [Self.result(lost: 20)],
      command: "zhinao-evaluate x"
    ).make()
    let html = report.html
    #expect(html.contains("−10.00") && html.contains("zhinao-evaluate x") && html.contains("f.csv"))
    #expect(html.contains(language == .english ? "worse" : "更差"))
    #expect(html.contains("wrong &lt;b&gt;") && !html.contains("wrong <b>"))
    #expect(report.markdown.contains("MMLU") && report.text.contains("MMLU"))
    // One model: no difference, and items without the full score.
    var alone = Self.result(lost: 0)
    alone.outcomes.removeLast()
    let single = EvaluationReport(
      language: language, generator: "g", models: [Self.models[0]], tasks: [alone], command: "x"
    ).make()
    #expect(single.html.contains(language == .english ? "Items without the full score" : "未得满分的题目"))
  }
}
