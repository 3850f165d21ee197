import Evaluation
import Files
import Foundation
import Generation
import JSON
import Tokenization

/// A needle in a haystack on a model: a grid of lengths and depths, one answer each.
///
/// Cells run from the needle that is deepest, counted in tokens, to the one that is at the start. Every prompt then begins with
/// what the one before it had up to its own needle, and only the rest runs.
package struct NeedleRun {
  /// As in the vendor's scripts.
  private static let system = "You are a helpful assistant."
  private static let maximumNewTokens = 128

  private let kind: NeedleKind
  private let grid: NeedleGrid
  private let seed: UInt64
  private let rule: NeedleScore.ChineseRule
  private let texts: [String]
  private let path: String

  /// - Parameters:
  ///   - texts: essays or novels, in the order in which they are joined.
  ///   - path: where they come from, for messages.
  ///   - seed: decides the cities and numbers of values.
  package init(
    kind: NeedleKind, grid: NeedleGrid, texts: [String], path: String, seed: UInt64,
    rule: NeedleScore.ChineseRule
  ) {
    self.kind = kind
    self.grid = grid
    self.texts = texts
    self.path = path
    self.seed = seed
    self.rule = rule
  }

  /// The cells with their prompts, in the order in which they run best.
  package func questions(_ model: EvaluatedModel) throws -> [AnswerRun.Question] {
    let builder = try NeedleBuilder(
      kind: kind, texts: texts, longest: grid.lengths.max() ?? 0, tokenizer: model.tokenizer, path: path)
    let stops = try model.opened.stopTokens(tokenizer: model.tokenizer, template: model.template)
    var cells: [(place: Int, question: AnswerRun.Question)] = []
    for length in grid.lengths {
      for depth in grid.depths {
        let value = NeedleValue(kind, cell: length * 101 + depth, seed: seed)
        let context = try builder.context(length: length, depth: depth, value: value)
        let id = "\(length)/\(depth)"
        let prompt = try ids(builder.prompt(context, value: value), model, item: id)
        cells.append(
          (
            context.insertedAt,
            AnswerRun.Question(
              id: id, prompt: prompt, maximumNewTokens: NeedleRun.maximumNewTokens, stopTokens: stops,
              stops: []
            ) { answer in
              try record(answer, id: id, length: length, depth: depth, value: value, context)
            }
          ))
      }
    }
    return cells.sorted { $0.place > $1.place }.map(\.question)
  }

  private func ids(_ prompt: String, _ model: EvaluatedModel, item: String) throws -> [Int] {
    guard let template = model.template else {
      return try model.encode(prompt, addingBeginning: true, item: item, task: kind.taskName)
    }
    let ids = try template.encode(
      [ChatMessage(role: "system", content: NeedleRun.system), ChatMessage(role: "user", content: prompt)],
      tokenizer: model.tokenizer, contents: .recognized, addingGenerationPrompt: true)
    try model.check(ids, item: item, task: kind.taskName)
    return ids
  }

  private func record(
    _ answer: AnswerRun.Answer, id: String, length: Int, depth: Int, value: NeedleValue,
    _ context: NeedleContext
  ) throws -> ItemRecord {
    let text = ["<|im_end|>", "<|im_start|>"].reduce(answer.text) { $0.bytes.replacing($1, with: "") }
    let needle = kind.needle(value)
    let score: Double
    switch kind {
    case .english: score = try NeedleScore.english(text, needle: needle)
    case .chinese: score = try NeedleScore.chinese(text, rule: rule)
    case .valueEnglish, .valueChinese: score = NeedleScore.value(text, digits: value.number)
    }
    return ItemRecord(
      id: id, subject: "\(length)", metrics: [("score", score / 100)], answer: text,
      expected: kind.hasValue ? value.number : kind == .chinese ? NeedleScore.chineseReference : needle,
      details: JSONObject([
        ("length", .init(length)), ("depth", .init(depth)), ("inserted_at", .init(context.insertedAt)),
        ("moved_back", .init(context.movedBack)), ("context_tokens", .init(context.ids.count)),
        ("prompt_tokens", .init(answer.summary.promptTokens)),
        ("new_tokens", .init(answer.summary.newTokens)),
      ]))
  }
}
