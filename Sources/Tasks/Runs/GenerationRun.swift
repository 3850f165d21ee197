import Evaluation
import Files
import Foundation
import Generation
import JSON
import Tokenization

/// A task with written answers on a model.
package struct GenerationRun {
  private let task: GenerationTask
  private let items: [GenerationItem]
  /// Ids of a prompt before its middle is cut out, for tasks that do so; nil: the context less what frame and answer need.
  private let maximumLength: Int?

  /// What LongBench leaves of a window of 4096 for the frame of a conversation and the answer.
  private static let margin = 596

  package init(task: GenerationTask, items: [GenerationItem], maximumLength: Int?) {
    self.task = task
    self.items = items
    self.maximumLength = maximumLength
  }

  package func questions(_ model: EvaluatedModel, _ context: RunContext) throws -> [AnswerRun.Question] {
    var withoutTemplate = false
    var cut = 0
    var cutsMiddle = false
    let stops = try model.opened.stopTokens(tokenizer: model.tokenizer, template: model.template)
    let questions = try items.map { item in
      let (prompt, isCut) = try ids(item, model)
      if isCut {
        cut += 1
        cutsMiddle = cutsMiddle || item.truncatesMiddle
      }
      if item.usesChatTemplate && model.template == nil { withoutTemplate = true }
      return AnswerRun.Question(
        id: item.id, prompt: prompt, maximumNewTokens: item.maximumNewTokens, stopTokens: stops,
        stops: item.stops
      ) { answer in
        var metrics = try task.score(answer.text, item).map { (name: $0.metric, value: $0.value) }
        if task.name == "longbench", let main = metrics.first { metrics.insert(("score", main.value), at: 0) }
        return ItemRecord(
          id: item.id, subject: item.subject, metrics: metrics, answer: answer.text,
          expected: item.answers.joined(separator: "\n"),
          details: JSONObject([
            ("question", .string(String(String.UnicodeScalarView(item.prompt.unicodeScalars.suffix(600))))),
            ("prompt_tokens", .init(answer.summary.promptTokens)),
            ("new_tokens", .init(answer.summary.newTokens)),
            ("finish_reason", .string(answer.summary.reason.rawValue)),
            ("length", item.length.map { .init($0) } ?? nil),
          ]))
      }
    }
    if withoutTemplate {
      context.warn("\(task.name): the model has no chat template; prompts are given to it as plain text")
    }
    if cut > 0 {
      context.warn(
        "\(task.name): \(cut) of \(items.count) prompts were too long and lost their "
          + (cutsMiddle ? "middle" : "beginning"))
    }
    return questions
  }

  private func ids(_ item: GenerationItem, _ model: EvaluatedModel) throws -> ([Int], isCut: Bool) {
    var prompt = item.prompt
    var isCut = false
    if item.truncatesMiddle {
      let limit = maximumLength ?? max(2, model.contextLimit - GenerationRun.margin)
      let ids = try model.encode(prompt, addingBeginning: true, item: item.id, task: task.name)
      if ids.count > limit {
        isCut = true
        prompt =
          try model.tokenizer.decode(Array(ids.prefix(limit / 2)), skippingSpecials: true)
          + model.tokenizer.decode(Array(ids.suffix(limit / 2)), skippingSpecials: true)
      }
    }
    var ids: [Int]
    if item.usesChatTemplate, let template = model.template {
      ids = try template.encode(
        [ChatMessage(role: "user", content: prompt)], tokenizer: model.tokenizer, contents: .recognized,
        addingGenerationPrompt: true)
      try model.check(ids, item: item.id, task: task.name)
    } else {
      ids = try model.encode(
        prompt, addingBeginning: task.name != "gsm8k" || model.settings.addsBeginning, item: item.id,
        task: task.name)
    }
    let room = model.contextLimit - item.maximumNewTokens
    guard room > 0 else {
      throw TaskError(
        .promptTooLong(item: item.id, tokens: ids.count, limit: max(0, room)), path: task.name)
    }
    if ids.count > room {
      // As lm-eval does; a conversation that loses its beginning would lose its frame.
      guard !item.truncatesMiddle && !(item.usesChatTemplate && model.template != nil) else {
        throw TaskError(.promptTooLong(item: item.id, tokens: ids.count, limit: room), path: task.name)
      }
      ids.removeFirst(ids.count - room)
      isCut = true
    }
    return (ids, isCut)
  }
}
