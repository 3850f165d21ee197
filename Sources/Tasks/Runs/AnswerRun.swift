import Evaluation
import Foundation
import Generation
import JSON
import Synchronization
import Tokenization
import Transformer

/// Lets a model answer prompts, several at a time, and scores each answer.
package struct AnswerRun {
  /// One prompt, and what becomes of the answer.
  package struct Question {
    package var id: String
    package var prompt: [Int]
    package var maximumNewTokens: Int
    package var stopTokens: Set<Int>
    package var stops: [String]
    package var finish: (Answer) throws -> ItemRecord

    package init(
      id: String, prompt: [Int], maximumNewTokens: Int, stopTokens: Set<Int>, stops: [String],
      finish: @escaping (Answer) throws -> ItemRecord
    ) {
      self.id = id
      self.prompt = prompt
      self.maximumNewTokens = maximumNewTokens
      self.stopTokens = stopTokens
      self.stops = stops
      self.finish = finish
    }
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
      let engine = try engine(waiting)
      defer { engine.drain(until: .now) }
      let requests = waiting.map { question in
        GenerationRequest(
          prompt: question.prompt, sampling: SamplingParameters(temperature: 0),
          stopTokens: question.stopTokens,
          stopStrings: question.stops, maximumNewTokens: question.maximumNewTokens)
      }
      let ticket = try engine.submit(requests)
      var texts = [String](repeating: "", count: waiting.count)
      while let entries = AnswerRun.wait(for: { await ticket.next() }) {
        for entry in entries {
          switch entry.event {
          case .prompt: break
          case .piece(let piece): texts[entry.index] += piece.text
          case .failed(let error):
            ticket.cancel()
            throw TaskError(
              .answerFailed(item: waiting[entry.index].id, detail: error.description), path: model.opened.path
            )
          case .finished(let summary, let piece):
            let answer = Answer(text: texts[entry.index] + piece.text, summary: summary)
            texts[entry.index] = ""
            try journal.append(try waiting[entry.index].finish(answer))
            outcome.tokensAsked += summary.promptTokens + summary.newTokens
            outcome.tokensRun += summary.promptTokens - summary.reusedTokens + summary.newTokens
            done += 1
            finished += work[entry.index + 1] - work[entry.index]
            context.progress(done, questions.count, finished)
          }
        }
      }
    }
    outcome.records = questions.compactMap { journal.record($0.id) }
    outcome.seconds = Date().timeIntervalSince(start)
    outcome.itemsRun = waiting.count
    return outcome
  }

  private func engine(_ questions: [Question]) throws -> GenerationEngine {
    let decoder = try model.decoder(for: task)
    let needed = questions.map { $0.prompt.count + $0.maximumNewTokens }.max() ?? 1
    let context = min(model.contextLimit, needed + 1)
    for question in questions where question.prompt.count >= context {
      throw TaskError(
        .promptTooLong(item: question.id, tokens: question.prompt.count, limit: context - 1), path: task)
    }
    let configuration = decoder.configuration
    let plan = try MemoryPlan(
      configuration, limit: model.settings.memoryLimit,
      weightBytes: model.opened.store.residentBytes + decoder.weights.updateByteCount,
      otherBytes: model.otherBytes,
      context: context,
      parallel: parallel,
      bytesPerToken: MemoryPlan.bytesPerToken(configuration, type: model.settings.cacheType))
    guard plan.contextLimit >= context else {
      throw TaskError(
        .memory(tokens: context, affordable: plan.contextLimit, limit: plan.limitBytes), path: task)
    }
    return GenerationEngine(
      model: decoder, tokenizer: model.tokenizer,
      limits: SchedulerLimits(
        parallel: parallel, queue: questions.count, contextLimit: context,
        budgetTokens: max(context, plan.budgetTokens), caches: parallel == 1 ? 1 : 2 * parallel),
      cacheType: model.settings.cacheType)
  }

  /// Runs what an engine's events are awaited with on this thread's behalf.
  private static func wait<Value: Sendable>(for body: @escaping @Sendable () async -> Value) -> Value {
    let result = Mutex<Value?>(nil)
    let semaphore = DispatchSemaphore(value: 0)
    Task.detached {
      let value = await body()
      result.withLock { $0 = value }
      semaphore.signal()
    }
    semaphore.wait()
    guard let value = result.withLock({ $0 }) else { preconditionFailure("a task ended without a value") }
    return value
  }
}
