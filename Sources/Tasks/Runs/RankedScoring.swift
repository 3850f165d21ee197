import Distribution
import Evaluation
import Generation
import JSON

/// Scores choices and writes answers on all ranks, a batch of questions on each at a time. Rank 0 has the data and the journals and asks;
/// the others serve until it has finished. A token does not depend on what else is computed, so neither do results.
package final class RankedScoring {
  private let communicator: any Communicator
  private let models: [EvaluatedModel]
  /// Of this rank, and for which run.
  private var scorer: (run: Int, scorer: ChoiceScorer)?
  private var answerer: (run: Int, answerer: Answerer)?
  private var runs = 0

  /// - Parameter models: on all ranks the same, in the same order.
  package init(_ models: [EvaluatedModel], _ communicator: any Communicator) {
    (self.models, self.communicator) = (models, communicator)
  }

  package var ranks: Int { communicator.count }

  /// Begins a run, on rank 0.
  func startRun() -> Int {
    runs += 1
    return runs
  }

  /// Scores batches of questions, at most as many as ranks, each of one question at least. On rank 0.
  /// - Parameters:
  ///   - run: what ``startRun()`` gave.
  ///   - capacity: tokens of the longest sequence of the run.
  ///   - task: what messages call it.
  func score(
    _ batches: [[[ScoredSequence]]], model: EvaluatedModel, run: Int, capacity: Int, task: String
  ) throws -> [[[SequenceLikelihood]]] {
    guard let number = models.firstIndex(where: { $0 === model }) else {
      preconditionFailure("a model that other ranks do not have")
    }
    var numbers = [number, run, capacity, batches.count]
    for batch in batches {
      numbers.append(batch.count)
      for question in batch {
        numbers.append(question.count)
        for sequence in question { numbers += [sequence.firstScored, sequence.ids.count] + sequence.ids }
      }
    }
    _ = try communicator.broadcast(numbers)
    let name = try communicator.broadcast(Array(task.utf8))
    var values = try scored(numbers, task: name).flatMap { $0 }[...]
    return batches.map { batch in
      batch.map { question in
        question.map { _ in
          let three = values.prefix(3)
          values = values.dropFirst(3)
          return SequenceLikelihood(
            logProbability: three[three.startIndex], isGreedy: three[three.startIndex + 1] == 1,
            tokenCount: Int(three[three.startIndex + 2]))
        }
      }
    }
  }

  /// Ends ``serve()`` on the other ranks. On rank 0, when nothing more will be asked.
  package func finish() throws { if !communicator.isAlone { _ = try communicator.broadcast([] as [Int]) } }

  /// Scores for rank 0 until it has finished. On other ranks.
  package func serve() throws {
    while true {
      let numbers = try communicator.broadcast(nil as [Int]?)
      if numbers.isEmpty { return }
      if numbers == RankedScoring.answers {
        _ = try answered(communicator.broadcast(nil as [UInt8]?))
        continue
      }
      _ = try scored(numbers, task: communicator.broadcast(nil as [UInt8]?))
    }
  }

  /// The scores of all batches, on all ranks.
  private func scored(_ numbers: [Int], task: [UInt8]) throws -> [[Double]] {
    var rest = numbers.dropFirst(4)
    func take() -> Int { rest.removeFirst() }
    var own: [[ScoredSequence]] = []
    for batch in 0..<numbers[3] {
      let questions = (0..<take()).map { _ in
        (0..<take()).map { _ in
          let (first, count) = (take(), take())
          defer { rest = rest.dropFirst(count) }
          return ScoredSequence(ids: Array(rest.prefix(count)), firstScored: first)
        }
      }
      if batch == communicator.rank { own = questions }
    }
    guard !own.isEmpty else { return try communicator.gather([]) }
    let scorer = try scorer(run: numbers[1], models[numbers[0]], capacity: numbers[2], task: task)
    let scores = try scorer.score(own)
    return try communicator.gather(
      scores.joined().flatMap { [$0.logProbability, $0.isGreedy ? 1 : 0, Double($0.tokenCount)] })
  }

  private func scorer(run: Int, _ model: EvaluatedModel, capacity: Int, task: [UInt8]) throws -> ChoiceScorer
  {
    if let scorer, scorer.run == run { return scorer.scorer }
    let made = ChoiceScorer(
      decoder: try model.decoder(for: String(decoding: task, as: UTF8.self)), capacity: capacity,
      cacheType: model.settings.cacheType, pool: model.pool)
    scorer = (run, made)
    return made
  }

  // MARK: Answers

  /// What is broadcast before questions that want answers; models have no such numbers.
  private static let answers = [-1]

  /// Answers questions, consecutive ones on each rank. On rank 0.
  /// - Parameters:
  ///   - run: what ``startRun()`` gave; the engines of a run keep what its prompts begin with.
  ///   - limits: of the run.
  ///   - task: what messages call it.
  /// - Returns: in the order of the questions.
  func answer(
    _ questions: [AnswerRun.Prompt], model: EvaluatedModel, run: Int, _ limits: Answerer.Limits, task: String
  ) throws -> [AnswerRun.Answer] {
    guard let number = models.firstIndex(where: { $0 === model }) else {
      preconditionFailure("a model that other ranks do not have")
    }
    let asked: JSONValue = [
      "model": .init(number), "run": .init(run), "task": .string(task), "parallel": .init(limits.parallel),
      "tokens": .init(limits.tokens), "queue": .init(limits.queue),
      "questions": .array(questions.map(\.json)),
    ]
    _ = try communicator.broadcast(RankedScoring.answers)
    return try answered(communicator.broadcast(Array(asked.serialized().utf8)))
  }

  /// The answers to all questions, on all ranks.
  private func answered(_ bytes: [UInt8]) throws -> [AnswerRun.Answer] {
    let asked = try JSONValue.parse(bytes)
    func number(_ name: String) -> Int { asked[name]?.intValue ?? 0 }
    let questions = (asked["questions"]?.arrayValue ?? []).compactMap { AnswerRun.Prompt($0) }
    let own = Array(questions[communicator.share(of: questions.count)])
    var answers = [AnswerRun.Answer?](repeating: nil, count: own.count)
    if !own.isEmpty {
      let limits = Answerer.Limits(
        parallel: number("parallel"), tokens: number("tokens"), queue: number("queue"))
      let answerer = try answerer(
        run: number("run"), models[number("model")], task: asked["task"]?.stringValue ?? "", limits)
      try withExtendedLifetime(answerer) { try answerer.answer(own) { answers[$0] = $1 } }
    }
    let text = JSONValue.array(answers.compactMap { $0?.json }).serialized()
    return try communicator.gather(text: text).flatMap {
      try JSONValue.parse(Array($0.utf8)).arrayValue ?? []
    }.compactMap { AnswerRun.Answer($0) }
  }

  private func answerer(
    run: Int, _ model: EvaluatedModel, task: String, _ limits: Answerer.Limits
  ) throws -> Answerer {
    if let answerer, answerer.run == run { return answerer.answerer }
    // Its memory first.
    answerer = nil
    let made = try Answerer(model, task: task, limits)
    answerer = (run, made)
    return made
  }
}

extension AnswerRun.Prompt {
  fileprivate var json: JSONValue {
    [
      "id": .string(id), "prompt": .array(prompt.map { .init($0) }), "new_tokens": .init(maximumNewTokens),
      "stop_tokens": .array(stopTokens.sorted().map { .init($0) }),
      "stops": .array(stops.map { .string($0) }),
    ]
  }

  fileprivate init?(_ json: JSONValue) {
    guard let id = json["id"]?.stringValue, let prompt = json["prompt"]?.arrayValue?.compactMap(\.intValue),
      let count = json["new_tokens"]?.intValue,
      let tokens = json["stop_tokens"]?.arrayValue?.compactMap(\.intValue),
      let stops = json["stops"]?.arrayValue?.compactMap(\.stringValue)
    else { return nil }
    self.init(id: id, prompt: prompt, maximumNewTokens: count, stopTokens: Set(tokens), stops: stops)
  }
}

extension AnswerRun.Answer {
  fileprivate var json: JSONValue {
    [
      "text": .string(text), "reason": .string(summary.reason.rawValue),
      "prompt_tokens": .init(summary.promptTokens), "reused_tokens": .init(summary.reusedTokens),
      "new_tokens": .init(summary.newTokens),
    ]
  }

  fileprivate init?(_ json: JSONValue) {
    guard let text = json["text"]?.stringValue,
      let reason = json["reason"]?.stringValue.flatMap(FinishReason.init(rawValue:)),
      let prompt = json["prompt_tokens"]?.intValue, let reused = json["reused_tokens"]?.intValue,
      let new = json["new_tokens"]?.intValue
    else { return nil }
    self.init(
      text: text,
      summary: GenerationSummary(reason: reason, promptTokens: prompt, reusedTokens: reused, newTokens: new))
  }
}
