import Distribution
import Evaluation

/// Scores choices on all ranks, a batch of questions on each at a time. Rank 0 has the data and the journals and asks; the others serve
/// until it has finished. A token's score does not depend on what else is scored, so neither do results.
package final class RankedScoring {
  private let communicator: any Communicator
  private let models: [EvaluatedModel]
  /// Of this rank, and for which run.
  private var scorer: (run: Int, scorer: ChoiceScorer)?
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
}
