import Evaluation
import Files
import Foundation
import JSON

/// Results in the layout of lm-eval's `results_*.json`, so that scripts that read those read these. Two models: `results` is the
/// first one's, and `comparison` holds the second one's and the differences.
package struct EvaluationJSON {
  package var models: [EvaluationReport.ModelFacts]
  package var tasks: [TaskResult]
  package var generator: String
  package var command: String
  package var limit: Int?
  package var started: Date
  package var ended: Date

  package init(
    models: [EvaluationReport.ModelFacts], tasks: [TaskResult], generator: String, command: String,
    limit: Int?,
    started: Date, ended: Date
  ) {
    self.models = models
    self.tasks = tasks
    self.generator = generator
    self.command = command
    self.limit = limit
    self.started = started
    self.ended = ended
  }

  package var json: JSONValue {
    var object = JSONObject([
      ("results", results(0)),
      ("group_subtasks", .object(perTask { .array(subtasks($0).map { .string($0.name) }) })),
      ("configs", .object(perTask(configuration))), ("versions", .object(perTask { _ in 1 })),
      ("n-shot", .object(perTask { task in task.settings.first { $0.name == "shots" }?.value ?? 0 })),
      (
        "higher_is_better",
        .object(
          perTask { task in .object(JSONObject(task.rules.map { ($0.name, .bool($0.higherIsBetter)) })) })
      ),
      (
        "n-samples",
        .object(
          perTask { task in
            let count = task.outcomes.first?.records.count ?? 0
            return ["original": .init(count), "effective": .init(count)]
          })
      ),
      (
        "config",
        [
          "model": "zhinao", "model_args": .string("pretrained=\(models.first?.path ?? "")"),
          "limit": limit.map { .init($0) } ?? nil, "command": .string(command),
          "generator": .string(generator),
          "model_sha256": .string(models.first?.fingerprint ?? ""),
          "arithmetic": .string(models.first?.arithmetic ?? ""),
        ]
      ), ("date", .init(started.timeIntervalSince1970)), ("model_source", "zhinao"),
      ("model_name", .string(models.first?.path ?? "")),
      ("model_name_sanitized", .string(sanitized(models.first?.path ?? ""))),
      ("start_time", .init(started.timeIntervalSince1970)), ("end_time", .init(ended.timeIntervalSince1970)),
      ("total_evaluation_time_seconds", .string("\(ended.timeIntervalSince(started))")),
      (
        "data_files",
        .array(
          tasks.flatMap(\.files).map {
            ["path": .string($0.path), "bytes": .init($0.byteCount), "sha256": .string($0.sha256)]
          })
      ),
    ])
    if models.count == 2 { object["comparison"] = comparison() }
    return .object(object)
  }

  private func perTask(_ value: (TaskResult) -> JSONValue) -> JSONObject {
    JSONObject(tasks.map { ($0.name, value($0)) })
  }

  private func configuration(_ task: TaskResult) -> JSONValue {
    var object = JSONObject([
      ("task", .string(task.name)),
      ("output_type", .string(task.kind == .choices ? "multiple_choice" : task.kind.rawValue)),
    ])
    for (name, value) in task.settings { object[name] = value }
    return .object(object)
  }

  /// Subjects with the names of lm-eval's tasks: the task's, an underscore, the subject's.
  private func subtasks(_ task: TaskResult) -> [(name: String, subject: String)] {
    let subjects = task.subjects
    return subjects.count > 1 ? subjects.map { ("\(task.name)_\($0)", $0) } : []
  }

  private func results(_ model: Int) -> JSONValue {
    var object = JSONObject()
    for task in tasks where task.outcomes.indices.contains(model) {
      let outcome = task.outcomes[model]
      object[task.name] = metrics(task, outcome.records, alias: task.title, rules: task.rules)
      for (name, subject) in subtasks(task) {
        let flat = task.rules.map { rule in
          var rule = rule
          rule.averaging = .items
          return rule
        }
        object[name] = metrics(
          task, task.records(of: outcome, subject: subject), alias: " - \(task.title(ofSubject: subject))",
          rules: flat)
      }
    }
    return .object(object)
  }

  /// Shares as numbers between 0 and 1, as lm-eval writes them.
  private func metrics(_ task: TaskResult, _ records: [ItemRecord], alias: String, rules: [MetricRule])
    -> JSONValue
  {
    var object = JSONObject([("alias", .string(alias))])
    for rule in rules {
      guard let summary = task.summary(rule, records) else { continue }
      object["\(rule.name),none"] = .init(summary.interval.estimate / rule.scale)
      object["\(rule.name)_stderr,none"] = summary.standardError.map { .init($0 / rule.scale) } ?? "N/A"
      object["\(rule.name)_interval,none"] = [
        .init(summary.interval.lower / rule.scale), .init(summary.interval.upper / rule.scale),
      ]
    }
    object["samples"] = .init(records.count)
    return .object(object)
  }

  private func comparison() -> JSONValue {
    var differences = JSONObject()
    for task in tasks {
      var object = JSONObject()
      for rule in task.rules {
        guard let difference = task.difference(rule) else { continue }
        let scale = rule.transform == .perplexity ? 100 : rule.scale
        var entry = JSONObject([
          ("difference", .init(difference.interval.estimate / scale)),
          (
            "interval",
            [.init(difference.interval.lower / scale), .init(difference.interval.upper / scale)]
          ), ("verdict", .string(difference.verdict.rawValue)),
        ])
        if let test = difference.mcNemar {
          entry["mcnemar"] = [
            "only_first": .init(test.onlyFirst), "only_second": .init(test.onlySecond), "p": .init(test.p),
            "mid_p": .init(test.midP),
          ]
        }
        object[rule.name] = .object(entry)
      }
      object["changed_items"] = .array(task.changedItems.map { .string($0.first.id) })
      differences[task.name] = .object(object)
    }
    return [
      "model_name": .string(models[1].path), "model_sha256": .string(models[1].fingerprint),
      "arithmetic": .string(models[1].arithmetic), "results": results(1), "differences": .object(differences),
    ]
  }

  /// As lm-eval: what is no letter, digit, hyphen, underscore or dot becomes `__`.
  private func sanitized(_ name: String) -> String {
    name.unicodeScalars.map { scalar in
      let isKept =
        ("a"..."z").contains(scalar) || ("A"..."Z").contains(scalar) || ("0"..."9").contains(scalar)
        || "-_.".unicodeScalars.contains(scalar)
      return isKept ? String(Character(scalar)) : "__"
    }.joined()
  }

  // MARK: Samples

  /// One line for each item of each task and model, as lm-eval's `--log_samples` has them in spirit: prompt and answer are ours.
  package func samples(_ write: (String) throws -> Void) rethrows {
    for task in tasks {
      for (index, outcome) in task.outcomes.enumerated() {
        for record in outcome.records {
          var object = JSONObject([
            ("task", .string(task.name)),
            ("model", .string(models.indices.contains(index) ? models[index].path : outcome.model)),
          ])
          for member in record.json.objectValue?.members ?? [] { object[member.key] = member.value }
          try write(JSONValue.object(object).serialized() + "\n")
        }
      }
    }
  }
}
