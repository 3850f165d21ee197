import Foundation
import Generation
import Synchronization
import Transformer

/// Lets a model write answers, several at a time, with an engine that keeps what prompts begin with.
final class Answerer {
  /// What the engine is made for.
  struct Limits: Equatable {
    /// Prompts that run together; 1 keeps what neighbouring prompts begin with, however long they are.
    var parallel: Int
    /// Tokens of prompt and answer of the longest question.
    var tokens: Int
    /// Questions that wait together at most.
    var queue: Int
  }

  private let model: EvaluatedModel
  private let engine: GenerationEngine

  /// - Parameter task: what messages call it.
  /// - Throws: ``TaskError`` when the model is an encoder or the memory does not suffice.
  init(_ model: EvaluatedModel, task: String, _ limits: Limits) throws {
    self.model = model
    let decoder = try model.decoder(for: task)
    let context = Answerer.context(model, limits)
    let configuration = decoder.configuration
    let plan = try MemoryPlan(
      configuration, limit: model.settings.memoryLimit,
      weightBytes: model.opened.store.residentBytes + decoder.weights.updateByteCount,
      otherBytes: model.otherBytes,
      context: context,
      parallel: limits.parallel,
      bytesPerToken: MemoryPlan.bytesPerToken(configuration, type: model.settings.cacheType))
    guard plan.contextLimit >= context else {
      throw TaskError(
        .memory(tokens: context, affordable: plan.contextLimit, limit: plan.limitBytes), path: task)
    }
    engine = GenerationEngine(
      model: decoder, tokenizer: model.tokenizer,
      limits: SchedulerLimits(
        parallel: limits.parallel, queue: limits.queue, contextLimit: context,
        budgetTokens: max(context, plan.budgetTokens),
        caches: limits.parallel == 1 ? 1 : 2 * limits.parallel),
      cacheType: model.settings.cacheType)
  }

  deinit { engine.drain(until: .now) }

  /// Tokens of prompt and answer that an engine has room for.
  static func context(_ model: EvaluatedModel, _ limits: Limits) -> Int {
    min(model.contextLimit, limits.tokens + 1)
  }

  /// - Parameter finish: gets each answer with its question's place, in the order in which they are finished.
  /// - Throws: ``GenerationError``, ``TaskError``, and what `finish` throws.
  func answer(_ questions: [AnswerRun.Prompt], _ finish: (Int, AnswerRun.Answer) throws -> Void) throws {
    let requests = questions.map { question in
      GenerationRequest(
        prompt: question.prompt, sampling: SamplingParameters(temperature: 0),
        stopTokens: question.stopTokens, stopStrings: question.stops,
        maximumNewTokens: question.maximumNewTokens)
    }
    let ticket = try engine.submit(requests)
    var texts = [String](repeating: "", count: questions.count)
    while let entries = Answerer.wait(for: { await ticket.next() }) {
      for entry in entries {
        switch entry.event {
        case .prompt: break
        case .piece(let piece): texts[entry.index] += piece.text
        case .failed(let error):
          ticket.cancel()
          throw TaskError(
            .answerFailed(item: questions[entry.index].id, detail: error.description), path: model.opened.path
          )
        case .finished(let summary, let piece):
          let answer = AnswerRun.Answer(text: texts[entry.index] + piece.text, summary: summary)
          texts[entry.index] = ""
          try finish(entry.index, answer)
        }
      }
    }
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
