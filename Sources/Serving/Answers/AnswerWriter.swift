import Foundation
import Generation
import JSON

/// Turns events into the JSON of an endpoint, whole or in chunks.
struct AnswerWriter {
  let request: AnswerRequest
  let format: LogprobsFormat
  private let id: String
  private let created = Int(Date().timeIntervalSince1970)
  private(set) var usage = Usage()
  var answers: [Answer]
  /// Whether a chunk had the request's warnings.
  var hasWarned = false

  /// What is known of one answer.
  struct Answer {
    /// In a stream: what is not sent yet.
    var text = ""
    var tokens: [AnswerToken] = []
    /// Log probabilities of the prompt's tokens from the second on.
    var promptScores: [TokenLogprobs]?
    /// The end of what was reported in the text.
    var position = TextPosition()
    var finishReason: String?
    /// Whether a chunk of it was sent.
    var hasBegun = false
  }

  struct Usage {
    var prompt = 0
    var reused = 0
    var completion = 0
    var json: JSONValue {
      [
        "prompt_tokens": .init(prompt), "completion_tokens": .init(completion),
        "total_tokens": .init(prompt + completion),
        "prompt_tokens_details": ["cached_tokens": .init(reused)],
      ]
    }
  }

  init(_ request: AnswerRequest) {
    self.request = request
    format = LogprobsFormat(request)
    let random = String(UInt64.random(in: UInt64.max / 2...UInt64.max), radix: 16)
    switch request.endpoint {
    case .chat: id = "chatcmpl-" + random
    case .completion: id = "cmpl-" + random
    }
    answers = Array(repeating: Answer(), count: request.prompts.count * request.options.choices)
  }

  /// Takes note of an event.
  /// - Throws: why the answer failed.
  mutating func add(_ entry: GenerationTicket.Entry) throws(GenerationError) {
    func take(_ piece: AnswerPiece) {
      answers[entry.index].text += piece.text
      if hasTokenReports { answers[entry.index].tokens += piece.tokens }
    }
    switch entry.event {
    case .prompt(let scores): answers[entry.index].promptScores = scores
    case .piece(let piece): take(piece)
    case .finished(let summary, let piece):
      take(piece)
      answers[entry.index].finishReason = summary.reason == .stop ? "stop" : "length"
      // The prompt of several answers counts once.
      if entry.index % request.options.choices == 0 {
        usage.prompt += summary.promptTokens
        usage.reused += summary.reusedTokens
      }
      usage.completion += summary.newTokens
    case .failed(let error): throw error
    }
  }

  private var hasTokenReports: Bool { request.reports.topLogprobs != nil || request.reports.hasTokenIDs }

  // MARK: Parts of an answer

  /// Whether a chunk is worth sending for the token alone.
  func isReported(_ token: AnswerToken, _ index: Int) -> Bool {
    token.isPartOfAnswer || request.reports.hasTokenIDs || echo(index) != nil
  }

  /// The prompt that an answer begins with, or nil.
  func echo(_ index: Int) -> CompletionPrompt? { request.endpoint.echo?[index / request.options.choices] }

  /// The echoed text. With log probabilities it is the text of the prompt's tokens, so that their places in it are right.
  func echoedText(_ index: Int) -> String {
    guard let prompt = echo(index) else { return "" }
    guard request.reports.topLogprobs != nil else { return prompt.text }
    return String(decoding: prompt.bytes().joined(), as: UTF8.self)
  }

  /// `logprobs` of a choice or a chunk; null if nobody asked.
  /// - Parameter withPrompt: whether an echoed prompt comes before the tokens.
  mutating func logprobs(_ index: Int, withPrompt: Bool) -> JSONValue {
    guard request.reports.topLogprobs != nil else { return nil }
    let answer = answers[index]
    if case .chat = request.endpoint { return format.chat(answer.tokens) }
    var lists = LogprobsFormat.Lists()
    var position = answer.position
    let prompt = echo(index)
    if withPrompt, let prompt {
      for (place, (id, bytes)) in zip(prompt.ids, prompt.bytes()).enumerated() {
        let scores = place == 0 ? nil : answer.promptScores?[place - 1]
        format.append(id, bytes: bytes, scores, at: &position, to: &lists)
      }
      position.finish()
    }
    // Whoever asks for the prompt as well counts on one more token at least, as vLLM and llama.cpp report it: the end is one.
    for token in answer.tokens where token.isPartOfAnswer || prompt != nil {
      format.append(token.id, bytes: token.bytes, token.logprobs, at: &position, to: &lists)
    }
    answers[index].position = position
    return lists.json
  }

  /// `token_ids` of a choice or a chunk, with the token that ended the answer; nil if nobody asked.
  func tokenIDs(_ index: Int) -> JSONValue? {
    request.reports.hasTokenIDs ? .array(answers[index].tokens.map { .init($0.id) }) : nil
  }

  /// `prompt_token_ids`; nil if nobody asked.
  func promptTokenIDs(_ index: Int) -> JSONValue? {
    guard request.reports.hasTokenIDs else { return nil }
    return .array(request.prompts[index / request.options.choices].map { .init($0) })
  }

  // MARK: Whole answers

  /// The response, when every answer is finished.
  var response: JSONValue {
    var writer = self
    let choices = answers.indices.map { writer.choice($0) }
    var members = envelope(.array(choices), isChunk: false, usage: usage.json)
    if case .chat = request.endpoint {
      members["prompt_logprobs"] = promptLogprobs(0)
      members["prompt_token_ids"] = promptTokenIDs(0)
    }
    if !request.warnings.isEmpty { members["warnings"] = warnings }
    return .object(members)
  }

  private mutating func choice(_ index: Int) -> JSONValue {
    let text = answers[index].text
    var members = JSONObject([("index", .init(index))])
    switch request.endpoint {
    case .chat: members["message"] = ["role": "assistant", "content": .string(text)]
    case .completion: members["text"] = .string(echoedText(index) + text)
    }
    members["logprobs"] = logprobs(index, withPrompt: true)
    members["finish_reason"] = answers[index].finishReason.map(JSONValue.string) ?? .null
    members["token_ids"] = tokenIDs(index)
    if case .completion = request.endpoint {
      members["prompt_logprobs"] = promptLogprobs(index)
      members["prompt_token_ids"] = promptTokenIDs(index)
    }
    return .object(members)
  }

  private func promptLogprobs(_ index: Int) -> JSONValue? {
    guard let count = request.reports.promptLogprobs, let scores = answers[index].promptScores else {
      return nil
    }
    return format.prompt(scores, count: count)
  }

  var warnings: JSONValue { .array(request.warnings.map(JSONValue.string)) }

  func envelope(_ choices: JSONValue, isChunk: Bool, usage: JSONValue?) -> JSONObject {
    let object: JSONValue =
      switch request.endpoint {
      case .chat: isChunk ? "chat.completion.chunk" : "chat.completion"
      case .completion: "text_completion"
      }
    var members = JSONObject([
      ("id", .string(id)), ("object", object), ("created", .init(created)),
      ("model", .string(request.model.name)), ("choices", choices),
    ])
    members["usage"] = usage
    return members
  }
}
