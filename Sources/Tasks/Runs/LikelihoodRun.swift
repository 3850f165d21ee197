import Evaluation
import Foundation
import JSON

/// Scores the choices of questions, or the one continuation of each text, batch by batch.
package struct LikelihoodRun {
  /// One question: what is scored, and what becomes of the scores.
  package struct Question {
    package var id: String
    package var sequences: [ScoredSequence]
    /// Whether the prompt was too long and lost something.
    package var isCut = false
    package var finish: ([SequenceLikelihood]) -> ItemRecord

    package init(
      id: String, sequences: [ScoredSequence], isCut: Bool = false,
      finish: @escaping ([SequenceLikelihood]) -> ItemRecord
    ) {
      self.id = id
      self.sequences = sequences
      self.isCut = isCut
      self.finish = finish
    }
  }

  private let model: EvaluatedModel
  private let task: String
  private let journal: Journal

  package init(model: EvaluatedModel, task: String, journal: Journal) {
    self.model = model
    self.task = task
    self.journal = journal
  }

  /// - Parameters:
  ///   - questions: ids are unique. Neighbours that begin alike are cheap.
  ///   - what: what prompts that were too long have lost, for a warning.
  /// - Throws: ``EvaluationError``, ``TaskError``, ``FileError``.
  package func run(
    _ questions: [Question], losing what: String = "their beginning", _ context: RunContext
  ) throws -> RunOutcome {
    let decoder = try model.decoder(for: task)
    let start = Date()
    var outcome = RunOutcome()
    let waiting = questions.filter { journal.record($0.id) == nil }
    let cut = questions.count { $0.isCut }
    if cut > 0 {
      context.warn(
        "\(task): \(cut) of \(questions.count) prompts were too long for the model and lost \(what)")
    }
    let longest = waiting.flatMap(\.sequences).map(\.ids.count).max() ?? 1
    let scorer = ChoiceScorer(
      decoder: decoder, capacity: longest, cacheType: model.settings.cacheType, pool: model.pool)
    var done = questions.count - waiting.count
    let work = PreparedRun.work(waiting.map { $0.sequences.map(\.ids) })
    context.progress(done, questions.count, 0)
    var first = 0
    if let scoring = model.scoring {
      try score(waiting, with: scoring, scorer, capacity: longest, questions: questions.count, context)
      first = waiting.count
      for question in waiting { outcome.tokensAsked += question.sequences.reduce(0) { $0 + $1.ids.count } }
      // What of it ran differs by rank.
      outcome.tokensRun = outcome.tokensAsked
    }
    while first < waiting.count {
      let sequences = waiting[first...].prefix(64).map(\.sequences)
      let count = scorer.batchSize(sequences[...])
      let next = first + count < waiting.count ? waiting[first + count].sequences : nil
      let scores = try scorer.score(Array(sequences.prefix(count)), next: next)
      for (question, scores) in zip(waiting[first..<first + count], scores) {
        try journal.append(question.finish(scores))
        done += 1
      }
      first += count
      context.progress(done, questions.count, work[first])
    }
    outcome.records = questions.compactMap { journal.record($0.id) }
    outcome.seconds = Date().timeIntervalSince(start)
    outcome.itemsRun = waiting.count
    if model.scoring == nil {
      (outcome.tokensRun, outcome.tokensAsked) = (scorer.tokensRun, scorer.tokensAsked)
    }
    return outcome
  }

  /// Scores the questions on all ranks, a batch on each at a time.
  private func score(
    _ waiting: [Question], with scoring: RankedScoring, _ scorer: ChoiceScorer, capacity: Int, questions: Int,
    _ context: RunContext
  ) throws {
    let work = PreparedRun.work(waiting.map { $0.sequences.map(\.ids) })
    let run = scoring.startRun()
    var first = 0
    while first < waiting.count {
      var batches: [Range<Int>] = []
      var next = first
      while batches.count < scoring.ranks, next < waiting.count {
        let sequences = waiting[next...].prefix(64).map(\.sequences)
        let count = scorer.batchSize(sequences[...])
        batches.append(next..<next + count)
        next += count
      }
      let scores = try scoring.score(
        batches.map { waiting[$0].map(\.sequences) }, model: model, run: run, capacity: capacity, task: task)
      for (question, scores) in zip(waiting[first..<next], scores.joined()) {
        try journal.append(question.finish(scores))
      }
      first = next
      context.progress(questions - waiting.count + first, questions, work[first])
    }
  }
}
