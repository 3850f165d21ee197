import Evaluation
import Foundation
import JSON

/// Texts whose last words a model should continue: LAMBADA.
package struct ContinuationRun {
  private let task: String
  private let items: [ContinuationItem]

  package init(task: String, items: [ContinuationItem]) {
    self.task = task
    self.items = items
  }

  /// `acc`: every token of the continuation is the likeliest one. `log_likelihood`: the sum of its log probabilities; the
  /// perplexity of the task is exp(−mean) of it.
  package func questions(_ model: EvaluatedModel) throws -> [LikelihoodRun.Question] {
    let encoder = ChoiceSequences(model: model, task: task)
    return try items.map { item in
      let pair = try encoder.pair(context: item.context, continuation: item.continuation, item: item.id)
      return LikelihoodRun.Question(id: item.id, sequences: [pair.0], isCut: pair.isCut) { scores in
        ItemRecord(
          id: item.id, subject: task,
          metrics: [("acc", scores[0].isGreedy ? 1 : 0), ("log_likelihood", scores[0].logProbability)],
          answer: scores[0].isGreedy ? item.continuation : "", expected: item.continuation,
          details: JSONObject([("tokens", .init(scores[0].tokenCount))]))
      }
    }
  }
}
