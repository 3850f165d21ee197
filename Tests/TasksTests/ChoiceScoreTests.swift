import Compute
import Evaluation
import Foundation
import JSON
import Models
import Tasks
import TestSupport
import Testing
import Transformer

/// Scores of choices on the tiny model against lm-eval itself and OpenCompass' rules (`golden/choice-scores.json`).
@Suite struct ChoiceScoreTests {
  static func model(_ change: (inout EvaluatedModel.Settings) -> Void = { _ in }) throws -> EvaluatedModel {
    var settings = EvaluatedModel.Settings()
    change(&settings)
    return try EvaluatedModel(OpenedModel(path: Fixture.tinyZhinao), settings: settings)
  }

  static func scores(_ part: String, _ name: String) throws -> [JSONValue] {
    try #require(
      try JSONValue.parse(file: Fixture.path("golden/choice-scores.json"))[part]?[name]?.arrayValue)
  }

  /// Scores questions in batches of the scorer's own choice.
  static func score(_ questions: [[ScoredSequence]], _ model: EvaluatedModel) throws -> [[SequenceLikelihood]]
  {
    let scorer = ChoiceScorer(
      decoder: try model.decoder(for: "test"), capacity: questions.joined().map(\.ids.count).max() ?? 1)
    var found: [[SequenceLikelihood]] = []
    while found.count < questions.count {
      let count = scorer.batchSize(questions[found.count...])
      let next = found.count + count
      found += try scorer.score(
        Array(questions[found.count..<next]), next: next < questions.count ? questions[next] : nil)
    }
    return found
  }

  @Test(
    arguments: [
      "letters-zh-0shot", "letters-zh-2shot", "letters-en-0shot", "letters-en-2shot", "cloze",
      "cloze-no-delimiter",
      "full-answer",
    ])
  func continuationsAsLMEval(name: String) throws {
    let model = try Self.model()
    let encoder = ChoiceSequences(model: model, task: "test")
    let prompts = try ChoiceTaskTests.golden("lm_eval", name)
    let goldens = try Self.scores("lm_eval", name)
    #expect(prompts.count == goldens.count && !goldens.isEmpty)
    let delimiter = name == "cloze-no-delimiter" ? "" : " "
    var questions: [[ScoredSequence]] = []
    var texts: [[String]] = []
    for (prompt, golden) in zip(prompts, goldens) {
      let context = try #require(prompt["context"]?.stringValue)
      let choices =
        try prompt["choices"]?.arrayValue.map { try $0.map { try #require($0.stringValue) } }
        ?? ["A", "B", "C", "D"]
      texts.append(choices)
      let rows = try #require(golden["choices"]?.arrayValue)
      var sequences: [ScoredSequence] = []
      for (choice, row) in zip(choices, rows) {
        let (sequence, isCut) = try encoder.pair(
          context: context, continuation: delimiter + choice, item: "1")
        #expect(!isCut)
        #expect(sequence.firstScored == row["context_tokens"]?.intValue)
        #expect(
          sequence.ids[sequence.firstScored...].map { $0 } == row["ids"]?.arrayValue?.compactMap(\.intValue))
        sequences.append(sequence)
      }
      questions.append(sequences)
    }
    for ((scores, golden), texts) in zip(zip(try Self.score(questions, model), goldens), texts) {
      let rows = try #require(golden["choices"]?.arrayValue)
      for (score, row) in zip(scores, rows) {
        #expect(abs(score.logProbability - (row["sum"]?.doubleValue ?? .nan)) < 1e-3)
        #expect(score.isGreedy == row["greedy"]?.boolValue)
      }
      func best(_ lengths: [Int]) -> Int {
        let values = zip(scores, lengths).map { $0.logProbability / Double($1) }
        return values.indices.reduce(0) { values[$1] > values[$0] ? $1 : $0 }
      }
      #expect(best(texts.map { _ in 1 }) == golden["pred_acc"]?.intValue)
      #expect(best(texts.map(\.unicodeScalars.count)) == golden["pred_acc_norm"]?.intValue)
      #expect(best(texts.map(\.utf8.count)) == golden["pred_acc_bytes"]?.intValue)
    }
  }

  @Test(
    arguments: ["string", "rounds-joined", "rounds-newline"].flatMap { style in
      ["zh-0shot", "zh-2shot", "en-0shot", "en-2shot"].map { "\(style)-\($0)" }
    })
  func wholePromptsAsOpenCompass(name: String) throws {
    let model = try Self.model()
    let encoder = ChoiceSequences(model: model, task: "test")
    let prompts = try ChoiceTaskTests.golden("opencompass", name)
    let goldens = try Self.scores("opencompass", name)
    let questions = try prompts.map { prompt in
      let first = try #require(prompt.stringValue)
      return try ["A", "B", "C", "D"].map { try encoder.whole(String(first.dropLast()) + $0, item: "1") }
    }
    for (scores, golden) in zip(try Self.score(questions, model), goldens) {
      let rows = try #require(golden["choices"]?.arrayValue)
      for (score, row) in zip(scores, rows) {
        let sum = try #require(row["nll_sum"]?.doubleValue)
        #expect(score.tokenCount + 1 == row["tokens"]?.intValue)
        #expect(abs(-score.logProbability - sum) < 2e-5 * sum)
      }
      let means = scores.map { -$0.logProbability / Double($0.tokenCount + 1) }
      let best = means.indices.reduce(0) { means[$1] < means[$0] ? $1 : $0 }
      if (golden["margin"]?.doubleValue ?? 0) >= 1e-4 { #expect(best == golden["pred"]?.intValue) }
    }
  }

  // MARK: What is shared

  /// Whatever runs together, a question's scores have the same bits.
  @Test func scoresDoNotDependOnWhatIsShared() throws {
    let model = try Self.model()
    var generator = SplitMix64(seed: 30)
    func ids(_ count: Int) -> [Int] { (0..<count).map { _ in Int.random(in: 0..<2000, using: &generator) } }
    var questions: [[ScoredSequence]] = []
    let examples = ids(70)
    for number in 0..<24 {
      let start = number % 7 == 3 ? ids(5) : Array(examples.prefix(number % 5 == 0 ? 40 : 70))
      let context = start + ids(number % 6 * 4)
      let whole = number % 3 == 0
      questions.append(
        (0..<1 + number % 4).map { choice in
          let ending = ids([1, 1, 5, 2][(number + choice) % 4])
          return ScoredSequence(
            ids: context + ending, firstScored: whole ? 1 : max(1, context.count))
        })
    }
    let together = try Self.score(questions, model)
    for (question, scores) in zip(questions, together) {
      let alone = try question.map { try Self.score([[$0]], model)[0][0] }
      #expect(scores == alone)
    }
  }

  @Test func whatBeginsAlikeRunsOnce() throws {
    let model = try Self.model()
    let examples = (0..<200).map { $0 * 7 % 2000 }
    let questions = (0..<20).map { number in
      (0..<4).map { ScoredSequence(ids: examples + [number, number + 1, $0], firstScored: 202) }
    }
    let scorer = ChoiceScorer(decoder: try model.decoder(for: "test"), capacity: 203)
    _ = try scorer.score(Array(questions[..<10]), next: questions[10])
    _ = try scorer.score(Array(questions[10...]))
    #expect(scorer.tokensAsked == 20 * 4 * 203)
    // The examples once, then three tokens of each question at most.
    #expect(scorer.tokensRun <= 200 + 20 * 3)
  }

  @Test func longPromptsLoseTheirBeginning() throws {
    let model = try Self.model { $0.contextLimit = 16 }
    let encoder = ChoiceSequences(model: model, task: "test")
    let text = String(repeating: "天空是什么颜色的？", count: 8)
    let (sequence, isCut) = try encoder.pair(context: text, continuation: " A", item: "1")
    let whole = try ChoiceSequences(model: Self.model(), task: "test").pair(
      context: text, continuation: " A", item: "1"
    ).0
    #expect(isCut && sequence.ids == Array(whole.ids.suffix(17)))
    #expect(sequence.ids.count - sequence.firstScored == whole.ids.count - whole.firstScored)
    #expect(throws: TaskError(.choiceTooLong(item: "1", tokens: 40, limit: 16), path: "test")) {
      try encoder.pair(context: "", continuation: String(repeating: "1\n", count: 20), item: "1")
    }
  }
}
