import Evaluation
import Foundation
import Generation

/// Lets a model answer prompts, several at a time, and scores each answer.
package struct AnswerRun {
  /// What a model is asked, and where it stops.
  package struct Prompt {
    package var id: String
    package var prompt: [Int]
    package var maximumNewTokens: Int
    package var stopTokens: Set<Int>
    package var stops: [String]
  }

  /// One prompt, and what becomes of the answer.
  package struct Question {
    package var asked: Prompt
    package var finish: (Answer) throws -> ItemRecord

    package init(
      id: String, prompt: [Int], maximumNewTokens: Int, stopTokens: Set<Int>, stops: [String],
      finish: @escaping (Answer) throws -> ItemRecord
    ) {
      asked = Prompt(
        id: id, prompt: prompt, maximumNewTokens: maximumNewTokens, stopTokens: stopTokens, stops: stops)
      self.finish = finish
    }

    package var id: String { asked.id }
    package var prompt: [Int] { asked.prompt }
    package var maximumNewTokens: Int { asked.maximumNewTokens }
  }

  package struct Answer {
    package var text: String
    package var summary: GenerationSummary
  }

  private let model: EvaluatedModel
  private let task: String
  private let journal: Journal
  /// Prompts that run together.
  private let parallel: Int

  /// - Parameter parallel: 1 keeps what neighbouring prompts begin with, however long they are.
  package init(model: EvaluatedModel, task: String, journal: Journal, parallel: Int) {
    self.model = model
    self.task = task
    self.journal = journal
    self.parallel = parallel
  }

  /// - Parameter questions: ids are unique.
  /// - Throws: ``GenerationError``, ``TaskError``, ``FileError``.
  package func run(_ questions: [Question], _ context: RunContext) throws -> RunOutcome {
    let start = Date()
    var outcome = RunOutcome()
    let waiting = questions.filter { journal.record($0.id) == nil }
    var done = questions.count - waiting.count
    context.progress(done, questions.count, 0)
    if !waiting.isEmpty {
      let work = PreparedRun.work(waiting.map { [$0.prompt] }, newTokens: waiting.map(\.maximumNewTokens))
      var finished = 0.0
      try answer(waiting) { place, answer in
        try journal.append(try waiting[place].finish(answer))
        let summary = answer.summary
        outcome.tokensAsked += summary.promptTokens + summary.newTokens
        outcome.tokensRun += summary.promptTokens - summary.reusedTokens + summary.newTokens
        done += 1
        finished += work[place + 1] - work[place]
        context.progress(done, questions.count, finished)
      }
    }
    outcome.records = questions.compactMap { journal.record($0.id) }
    outcome.seconds = Date().timeIntervalSince(start)
    outcome.itemsRun = waiting.count
    return outcome
  }

  /// All ranks answer, or this process.
  private func answer(_ waiting: [Question], _ finish: (Int, Answer) throws -> Void) throws {
    _ = try model.decoder(for: task)
    var limits = Answerer.Limits(
      parallel: parallel, tokens: waiting.map { $0.prompt.count + $0.maximumNewTokens }.max() ?? 1,
      queue: waiting.count)
    let room = Answerer.context(model, limits) - 1
    for question in waiting where question.prompt.count > room {
      throw TaskError(
        .promptTooLong(item: question.id, tokens: question.prompt.count, limit: room), path: task)
    }
    guard let scoring = model.scoring else {
      let answerer = try Answerer(model, task: task, limits)
      return try withExtendedLifetime(answerer) { try answerer.answer(waiting.map(\.asked), finish) }
    }
    // So many that a rank hardly waits for the last of a round, and that little is lost when one fails.
    limits.queue = min(8 * parallel, (waiting.count + scoring.ranks - 1) / scoring.ranks)
    let run = scoring.startRun()
    for first in stride(from: 0, to: waiting.count, by: limits.queue * scoring.ranks) {
      let round = waiting[first...].prefix(limits.queue * scoring.ranks).map(\.asked)
      let answers = try scoring.answer(round, model: model, run: run, limits, task: task)
      for (place, answer) in answers.enumerated() { try finish(first + place, answer) }
    }
  }
}
