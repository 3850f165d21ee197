import Evaluation
import Files
import Foundation
import JSON
import Tasks
import Terminal
import ToolSupport
import Transformer

/// What a job will do, with an estimate of its time from a short measurement.
struct PlanText {
  private let rows: [EvaluationJob.PlanRow]
  /// Seconds of each row; nil: not estimated.
  private let seconds: [Double?]
  private let weightBytes: Int
  private let limitBytes: Int

  /// Tokens of the measurement.
  private static let promptTokens = 128
  private static let answerTokens = 4

  /// Whether there is anything to say.
  var hasRows: Bool { !rows.isEmpty }

  init(_ jobs: [(job: EvaluationJob, models: [EvaluatedModel])]) throws {
    var (rows, seconds): ([EvaluationJob.PlanRow], [Double?]) = ([], [])
    for (job, models) in jobs {
      let plan = job.plan
      var rates: [(prompt: Double, answer: Double)?] = []
      for (index, model) in models.enumerated() {
        let isUsed = plan.enumerated().contains {
          $0.offset % models.count == index && $0.element.promptTokens > 0
            && $0.element.finished < $0.element.items
        }
        rates.append(model.isDecoder && isUsed ? try PlanText.measure(model) : nil)
      }
      rows += plan
      seconds += plan.enumerated().map { index, row in
        guard let rate = rates[index % models.count], row.items > 0 else { return nil }
        let share = Double(row.items - row.finished) / Double(row.items)
        return share * (Double(row.freshTokens) / rate.prompt + Double(row.newTokens) / rate.answer)
      }
    }
    (self.rows, self.seconds) = (rows, seconds)
    let models = jobs.flatMap(\.models)
    weightBytes = models.reduce(0) { $0 + $1.opened.store.residentBytes }
    limitBytes = models.first?.settings.memoryLimit ?? 0
  }

  /// Tokens per second of a prompt, and of one answer.
  private static func measure(_ model: EvaluatedModel) throws -> (prompt: Double, answer: Double) {
    let decoder = try model.decoder(for: "plan")
    let count = min(promptTokens, model.contextLimit - answerTokens - 1)
    guard count > 0 else { return (1, 1) }
    let cache = decoder.makeCache(capacity: count + answerTokens, type: model.settings.cacheType)
    let ids = (0..<count).map { $0 % decoder.vocabularySize }
    // The first run reads the weights.
    _ = decoder.hiddenStates(Array(ids.prefix(1)), cache: cache)
    cache.truncate(to: 0)
    var start = Date()
    var states = decoder.hiddenStates(ids, cache: cache)
    let prompt = Double(count) / max(1e-6, Date().timeIntervalSince(start))
    start = Date()
    for _ in 0..<answerTokens {
      states = decoder.hiddenStates([0], cache: cache)
      _ = decoder.logits(states, rows: 0..<1)
    }
    return (prompt, Double(answerTokens) / max(1e-6, Date().timeIntervalSince(start)))
  }

  var text: String {
    var table = [["task", "model", "items", "done", "prompt tokens", "to run", "new tokens", "time"]]
    for (row, seconds) in zip(rows, seconds) {
      table.append([
        row.task, row.model, "\(row.items)", "\(row.finished)", "\(row.promptTokens)", "\(row.freshTokens)",
        row.newTokens > 0 ? "≤ \(row.newTokens)" : "0", seconds.map { "about \(Format.duration($0))" } ?? "–",
      ])
    }
    let known = seconds.compactMap { $0 }.reduce(0, +)
    return Format.table(table)
      + "\nabout \(Format.duration(known)) in all on this machine; weights \(Format.bytes(weightBytes)), memory limit "
      + Format.bytes(limitBytes)
  }

  var json: JSONValue {
    [
      "tasks": .array(
        zip(rows, seconds).map { row, seconds in
          [
            "task": .string(row.task), "model": .string(row.model), "items": .init(row.items),
            "finished": .init(row.finished), "prompt_tokens": .init(row.promptTokens),
            "fresh_tokens": .init(row.freshTokens), "maximum_new_tokens": .init(row.newTokens),
            "seconds": seconds.map { .init($0) } ?? nil,
          ]
        }),
      "seconds": .init(seconds.compactMap { $0 }.reduce(0, +)), "weight_bytes": .init(weightBytes),
      "memory_limit_bytes": .init(limitBytes),
    ]
  }
}
