import Files
import Foundation
import JSON

/// Runs tasks on one model or two, keeps what is done in journals, and gathers the results.
package struct EvaluationJob {
  package let tasks: [LoadedTask]
  package let models: [(name: String, model: EvaluatedModel)]
  /// Folder of the journals; nil: what a killed run did is lost.
  package let journalFolder: String?
  private let prepared: [[PreparedRun]]
  private let journals: [[Journal]]
  private var warnings: [[String]]

  /// One line of the plan.
  package struct PlanRow: Sendable {
    package var task: String
    package var model: String
    package var items: Int
    /// Items that a journal has.
    package var finished: Int
    package var promptTokens: Int
    package var freshTokens: Int
    package var newTokens: Int
  }

  /// Encodes all prompts and opens all journals, so that nothing is found wrong after hours.
  /// - Throws: ``TaskError``, ``DataError``, ``FileError``.
  package init(
    tasks: [LoadedTask], models: [(name: String, model: EvaluatedModel)], journalFolder: String?,
    warn: @escaping (String) -> Void
  ) throws {
    self.tasks = tasks
    self.models = models
    self.journalFolder = journalFolder
    warnings = tasks.map { _ in [] }
    let bytes = models.map(\.model.opened.store.residentBytes)
    for (index, entry) in models.enumerated() { entry.model.otherBytes = bytes.reduce(0, +) - bytes[index] }
    var prepared: [[PreparedRun]] = []
    for (index, task) in tasks.enumerated() {
      var runs: [PreparedRun] = []
      for (name, model) in models {
        var said: [String] = []
        runs.append(
          try task.prepare(model, RunContext(warn: { said.append(models.count > 1 ? "\(name): \($0)" : $0) }))
        )
        said.forEach(warn)
        warnings[index] += said
      }
      prepared.append(runs)
    }
    // Only now, so that a run that is refused leaves nothing behind.
    journals = try tasks.map { task in
      try models.map { name, model in
        let identity = JSONObject(task.identity + (model.isDecoder ? model.identity : model.encoderIdentity))
        return try journalFolder.map {
          try Journal(folder: $0, name: "\(task.result.name)-\(name)", identity: identity)
        } ?? Journal()
      }
    }
    self.prepared = prepared
  }

  package var plan: [PlanRow] {
    tasks.indices.flatMap { task in
      models.indices.map { model in
        let run = prepared[task][model]
        return PlanRow(
          task: tasks[task].result.name, model: models[model].name, items: run.items,
          finished: min(run.items, journals[task][model].count), promptTokens: run.promptTokens,
          freshTokens: run.freshTokens, newTokens: run.newTokens)
      }
    }
  }

  /// Runs what is left, task by task, each on all models.
  /// - Parameters:
  ///   - progress: called with the task, the model, the items done, all of them, and the share of the work that is done.
  ///   - warn: called with sentences that a person should know.
  package func run(
    progress: @escaping (_ task: String, _ model: String, _ done: Int, _ total: Int, _ share: Double) -> Void,
    warn: @escaping (String) -> Void
  ) throws -> [TaskResult] {
    var results: [TaskResult] = []
    for (index, task) in tasks.enumerated() {
      var result = task.result
      result.warnings = warnings[index]
      for (number, entry) in models.enumerated() {
        var said: [String] = []
        let context = RunContext(
          progress: { progress(task.result.name, entry.name, $0, $1, $2) },
          warn: { said.append(models.count > 1 ? "\(entry.name): \($0)" : $0) })
        let outcome = try prepared[index][number].run(journals[index][number], journalFolder, context)
        result.outcomes.append(ModelOutcome(model: entry.name, outcome))
        said.forEach(warn)
        result.warnings += said
      }
      results.append(result)
    }
    return results
  }

  /// Deletes what this job kept, and the folder when nothing else is in it.
  package func removeJournals() {
    guard let journalFolder else { return }
    let manager = FileManager.default
    journals.joined().forEach { $0.discard() }
    for name in (try? manager.contentsOfDirectory(atPath: journalFolder)) ?? []
    where name.bytes.hasPrefix(RetrievalRun.indexPrefix) {
      try? manager.removeItem(atPath: "\(journalFolder)/\(name)")
    }
    rmdir(journalFolder)
  }
}
