import Evaluation
import Files
import Foundation
import JSON

/// How a metric of items becomes one of a task.
package struct MetricRule: Equatable, Sendable {
  package enum Averaging: String, Sendable {
    /// The mean over all items.
    case items
    /// The mean over the subjects of each one's mean.
    case subjects
  }

  package enum Transform: String, Sendable {
    case mean
    /// exp(−mean): a perplexity from log likelihoods.
    case perplexity
  }

  package var name: String
  package var averaging: Averaging
  package var transform: Transform
  /// What 1 is shown as: 100 for shares, 1 for scores that are in percent already and for perplexities.
  package var scale: Double
  package var higherIsBetter: Bool

  package init(
    _ name: String, averaging: Averaging = .items, transform: Transform = .mean, scale: Double = 100,
    higherIsBetter: Bool = true
  ) {
    self.name = name
    self.averaging = averaging
    self.transform = transform
    self.scale = scale
    self.higherIsBetter = higherIsBetter
  }
}

/// One number of a task with its interval, in the unit in which it is shown.
package struct MetricSummary: Equatable, Sendable {
  package var name: String
  package var interval: ConfidenceInterval
  /// As lm-eval prints it.
  package var standardError: Double?
  package var count: Int
  package var higherIsBetter: Bool
}

/// What one model reached in one task.
package struct ModelOutcome: Sendable {
  /// What the model is called in reports.
  package var model: String
  /// In the order of the items.
  package var records: [ItemRecord]
  package var seconds: Double
  /// Items that ran in this process; the others were in a journal.
  package var itemsRun: Int
  package var tokensRun: Int
  package var tokensAsked: Int

  package init(model: String, _ outcome: RunOutcome) {
    self.model = model
    records = outcome.records
    seconds = outcome.seconds
    itemsRun = outcome.itemsRun
    tokensRun = outcome.tokensRun
    tokensAsked = outcome.tokensAsked
  }
}

/// One task on one model, or on two.
package struct TaskResult: Sendable {
  package var name: String
  package var title: String
  package var kind: Kind
  /// Settings that results depend on, for people and programs.
  package var settings: [(name: String, value: JSONValue)]
  /// The first one is the task's main metric.
  package var rules: [MetricRule]
  /// Titles of subjects by name, and the group of each that has one.
  package var subjectTitles: [ByteText: String]
  package var groups: [ByteText: String]
  package var outcomes: [ModelOutcome]
  package var files: [DataFile]
  package var warnings: [String]

  package enum Kind: String, Sendable { case choices, continuation, generation, needle, retrieval, reranking }

  package init(
    name: String, title: String, kind: Kind, settings: [(name: String, value: JSONValue)],
    rules: [MetricRule],
    files: [DataFile]
  ) {
    self.name = name
    self.title = title
    self.kind = kind
    self.settings = settings
    self.rules = rules
    self.files = files
    subjectTitles = [:]
    groups = [:]
    outcomes = []
    warnings = []
  }

  /// Subjects in the order of their first item.
  package var subjects: [String] {
    var seen: Set<ByteText> = []
    return (outcomes.first?.records ?? []).map(\.subject).filter { seen.insert($0.bytes).inserted }
  }

  /// Groups in the order of their first subject.
  package var groupNames: [String] {
    var seen: Set<ByteText> = []
    return subjects.compactMap { groups[$0.bytes] }.filter { seen.insert($0.bytes).inserted }
  }

  package func title(ofSubject name: String) -> String { subjectTitles[name.bytes] ?? name }

  // MARK: Numbers

  /// A metric over some items of one model; nil when none of them has it.
  package func summary(_ rule: MetricRule, _ records: [ItemRecord]) -> MetricSummary? {
    let strata = values(rule, records)
    let all = strata.flatMap(\.self)
    guard !all.isEmpty,
      let interval = rule.averaging == .subjects ? Statistics.bootstrapMean(strata) : Statistics.mean(all)
    else { return nil }
    return MetricSummary(
      name: rule.name, interval: TaskResult.shown(interval, rule),
      standardError: rule.transform == .mean ? Statistics.standardError(all).map { $0 * rule.scale } : nil,
      count: all.count, higherIsBetter: rule.higherIsBetter)
  }

  package func summaries(of outcome: ModelOutcome) -> [MetricSummary] {
    rules.compactMap { summary($0, outcome.records) }
  }

  /// The values of a metric, by subject where subjects count the same.
  private func values(_ rule: MetricRule, _ records: [ItemRecord]) -> [[Double]] {
    guard rule.averaging == .subjects else { return [records.compactMap { $0.value(rule.name) }] }
    var order: [ByteText] = []
    var bySubject: [ByteText: [Double]] = [:]
    for record in records {
      guard let value = record.value(rule.name) else { continue }
      if bySubject[record.subject.bytes] == nil { order.append(record.subject.bytes) }
      bySubject[record.subject.bytes, default: []].append(value)
    }
    return order.map { bySubject[$0] ?? [] }
  }

  private static func shown(_ interval: ConfidenceInterval, _ rule: MetricRule) -> ConfidenceInterval {
    switch rule.transform {
    case .mean: interval.scaled(by: rule.scale)
    case .perplexity:
      ConfidenceInterval(
        estimate: exp(-interval.estimate), lower: exp(-interval.upper), upper: exp(-interval.lower))
    }
  }

  package func records(of outcome: ModelOutcome, subject: String) -> [ItemRecord] {
    outcome.records.filter { $0.subject.hasSameBytes(as: subject) }
  }

  package func records(of outcome: ModelOutcome, group: String) -> [ItemRecord] {
    outcome.records.filter { groups[$0.subject.bytes]?.hasSameBytes(as: group) ?? false }
  }

  // MARK: Two models

  /// What the second model's result is beside the first one's.
  package struct Difference: Sendable {
    package var metric: String
    /// Second less first, in the unit in which the metric is shown; for a perplexity the factor less 1, in percent.
    package var interval: ConfidenceInterval
    /// For metrics that are 0 or 1.
    package var mcNemar: Statistics.McNemar?
    package var higherIsBetter: Bool

    /// What may be said: better, worse, or no difference that the items show.
    package enum Verdict: String, Sendable { case better, worse, undecided }
    /// For shares of right answers, McNemar's test has to agree: with few items a bootstrap is too sure.
    package var verdict: Verdict {
      guard interval.excludesZero, mcNemar.map({ $0.p < 0.05 }) ?? true else { return .undecided }
      return (interval.estimate > 0) == higherIsBetter ? .better : .worse
    }
  }

  /// Nil with one model, or when no item has the metric in both.
  package func difference(_ rule: MetricRule, subject: String? = nil) -> Difference? {
    guard outcomes.count == 2 else { return nil }
    let pairs = pairs(rule).filter { pair in subject.map { pair.subject.hasSameBytes(as: $0) } ?? true }
    var order: [ByteText] = []
    var strata: [ByteText: [Double]] = [:]
    for pair in pairs {
      let key = rule.averaging == .subjects ? pair.subject.bytes : ""
      if strata[key] == nil { order.append(key) }
      strata[key, default: []].append(pair.second - pair.first)
    }
    guard let interval = Statistics.bootstrapMean(order.map { strata[$0] ?? [] }) else { return nil }
    let isBinary = pairs.allSatisfy { [0, 1].contains($0.first) && [0, 1].contains($0.second) }
    let test =
      isBinary && rule.transform == .mean
      ? Statistics.mcNemar(
        onlyFirst: pairs.count { $0.first > $0.second }, onlySecond: pairs.count { $0.first < $0.second })
      : nil
    let shown: ConfidenceInterval =
      switch rule.transform {
      case .mean: interval.scaled(by: rule.scale)
      case .perplexity:
        ConfidenceInterval(
          estimate: 100 * (exp(-interval.estimate) - 1), lower: 100 * (exp(-interval.upper) - 1),
          upper: 100 * (exp(-interval.lower) - 1))
      }
    return Difference(metric: rule.name, interval: shown, mcNemar: test, higherIsBetter: rule.higherIsBetter)
  }

  private func pairs(_ rule: MetricRule) -> [(subject: String, first: Double, second: Double)] {
    let second = Dictionary(outcomes[1].records.map { ($0.id.bytes, $0) }) { first, _ in first }
    return outcomes[0].records.compactMap { record in
      guard let other = second[record.id.bytes], let a = record.value(rule.name),
        let b = other.value(rule.name)
      else { return nil }
      return (record.subject, a, b)
    }
  }

  /// Items whose main metric differs, the largest change first; of equal ones the first item.
  package var changedItems: [(first: ItemRecord, second: ItemRecord)] {
    guard outcomes.count == 2, let rule = rules.first else { return [] }
    let second = Dictionary(outcomes[1].records.map { ($0.id.bytes, $0) }) { first, _ in first }
    let changed = outcomes[0].records.compactMap { record -> (first: ItemRecord, second: ItemRecord)? in
      guard let other = second[record.id.bytes], record.value(rule.name) != other.value(rule.name) else {
        return nil
      }
      return (record, other)
    }
    func change(_ pair: (first: ItemRecord, second: ItemRecord)) -> Double {
      abs((pair.second.value(rule.name) ?? 0) - (pair.first.value(rule.name) ?? 0))
    }
    return changed.enumerated().sorted { a, b in
      let (x, y) = (change(a.element), change(b.element))
      return x == y ? a.offset < b.offset : x > y
    }.map(\.element)
  }
}
