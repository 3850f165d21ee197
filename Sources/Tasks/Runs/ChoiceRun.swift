import Evaluation
import Foundation
import JSON

/// A multiple-choice task on a model: questions to sequences, scores to predictions.
package struct ChoiceRun {
  private let task: ChoiceTask
  private let data: ChoiceData
  private let mode: ChoiceMode
  private let shots: Int
  private let sampling: FewShotSampling

  package init(
    task: ChoiceTask, data: ChoiceData, mode: ChoiceMode, shots: Int, sampling: FewShotSampling = .first
  ) {
    self.task = task
    self.data = data
    self.mode = mode
    self.shots = shots
    self.sampling = sampling
  }

  /// What a prompt that is too long loses.
  package var lostPart: String { mode == .lmEval ? "their beginning" : "some of their examples" }

  /// - Parameter limit: questions of each subject at most.
  package func questions(_ model: EvaluatedModel, limit: Int?) throws -> [LikelihoodRun.Question] {
    var questions: [LikelihoodRun.Question] = []
    for subject in data.subjects {
      var sampler = FewShotSampler(sampling)
      for item in subject.items.prefix(limit ?? .max) {
        var own = subject
        own.items = []
        // Too few examples are refused below.
        if sampling != .first, shots <= subject.examples.count {
          own.examples = sampler.next(shots, of: subject.examples.count).map { subject.examples[$0] }
        }
        questions.append(try question(item, of: own, model))
      }
    }
    return questions
  }

  private func question(_ item: ChoiceItem, of subject: ChoiceSubject, _ model: EvaluatedModel) throws
    -> LikelihoodRun.Question
  {
    let encoder = ChoiceSequences(model: model, task: task.name)
    switch try task.prompt(item, of: subject, shots: shots, mode: mode) {
    case .continuations(let context, let continuations, let choices):
      var isCut = false
      let sequences = try continuations.map { continuation in
        let pair = try encoder.pair(context: context, continuation: continuation, item: item.id)
        isCut = isCut || pair.isCut
        return pair.0
      }
      return LikelihoodRun.Question(id: item.id, sequences: sequences, isCut: isCut) { scores in
        record(item, choices: choices, scores)
      }
    case .prompts:
      let (sequences, shots) = try wholePrompts(item, of: subject, encoder, limit: model.contextLimit)
      return LikelihoodRun.Question(id: item.id, sequences: sequences, isCut: shots < self.shots) { scores in
        perplexityRecord(item, scores, shots: shots)
      }
    }
  }

  // MARK: lm-eval

  /// `acc` takes the choice of the largest sum of log probabilities; `acc_norm` divides by the characters of the choice, `acc_bytes`
  /// by its UTF-8 bytes, without the delimiter. The first one wins on ties.
  private func record(_ item: ChoiceItem, choices: [String], _ scores: [SequenceLikelihood]) -> ItemRecord {
    let sums = scores.map(\.logProbability)
    func best(_ divisors: [Int]) -> Int {
      ChoiceRun.firstLargest(zip(sums, divisors).map { $0 / Double(max(1, $1)) })
    }
    let chosen = [
      ("acc", ChoiceRun.firstLargest(sums)), ("acc_norm", best(choices.map(\.unicodeScalars.count))),
      ("acc_bytes", best(choices.map(\.utf8.count))),
    ].filter { task.metrics.contains($0.0) }
    return ItemRecord(
      id: item.id, subject: item.subject,
      metrics: chosen.map { ($0.0, $0.1 == item.answer ? 1 : 0) },
      answer: ChoiceRun.label(chosen.first?.1 ?? 0, item), expected: ChoiceRun.label(item.answer, item),
      details: JSONObject([
        ("log_likelihoods", .array(sums.map { .init($0) })),
        ("greedy", .array(scores.map { .bool($0.isGreedy) })),
        ("tokens", .array(scores.map { .init($0.tokenCount) })),
        ("predictions", .object(JSONObject(chosen.map { ($0.0, .init($0.1)) }))),
        ("target", .init(item.answer)),
        ("question", .string(item.question)),
      ]))
  }

  private static func firstLargest(_ values: [Double]) -> Int {
    values.indices.reduce(0) { values[$1] > values[$0] ? $1 : $0 }
  }

  /// `B. the choice`, for people.
  private static func label(_ index: Int, _ item: ChoiceItem) -> String {
    guard item.choices.indices.contains(index) else { return "" }
    return "\(ChoiceTemplate.letter(index)). \(item.choices[index])"
  }

  // MARK: OpenCompass

  /// The prompts of all labels. Examples are left out from the end, one by one, until the longest prompt fits.
  private func wholePrompts(
    _ item: ChoiceItem, of subject: ChoiceSubject, _ encoder: ChoiceSequences, limit: Int
  ) throws
    -> ([ScoredSequence], shots: Int)
  {
    var shots = self.shots
    while true {
      guard case .prompts(let prompts) = try task.prompt(item, of: subject, shots: shots, mode: mode) else {
        preconditionFailure("a mode gives one kind of prompt")
      }
      let sequences = try prompts.map { try encoder.whole($0, item: item.id) }
      let longest = sequences.map(\.ids.count).max() ?? 0
      if longest <= limit + 1 { return (sequences, shots) }
      guard shots > 0 else {
        throw TaskError(.promptTooLong(item: item.id, tokens: longest, limit: limit), path: task.name)
      }
      shots -= 1
    }
  }

  /// The label with the lowest Σ −log p / N over all N ids of the prompt, the first id included in N; the first one on ties.
  private func perplexityRecord(_ item: ChoiceItem, _ scores: [SequenceLikelihood], shots: Int) -> ItemRecord
  {
    let sums = scores.map { -$0.logProbability }
    let means = zip(sums, scores).map { $0 / Double($1.tokenCount + 1) }
    let chosen = ChoiceRun.firstLargest(means.map { -$0 })
    return ItemRecord(
      id: item.id, subject: item.subject, metrics: [("acc", chosen == item.answer ? 1 : 0)],
      answer: ChoiceRun.label(chosen, item), expected: ChoiceRun.label(item.answer, item),
      details: JSONObject([
        ("nll_sums", .array(sums.map { .init($0) })), ("ppl", .array(means.map { .init($0) })),
        ("tokens", .array(scores.map { .init($0.tokenCount + 1) })),
        ("predictions", ["acc": .init(chosen)]), ("target", .init(item.answer)), ("shots", .init(shots)),
        ("question", .string(item.question)),
      ]))
  }
}
