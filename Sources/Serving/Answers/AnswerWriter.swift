import Foundation
import Generation
import JSON

/// Turns events into the JSON of an endpoint, whole or in chunks.
struct AnswerWriter {
  let request: AnswerRequest
  private let id: String
  private let created = Int(Date().timeIntervalSince1970)
  private(set) var usage = Usage()
  var answers: [Answer]

  /// What is known of one answer.
  struct Answer {
    var text = ""
    var logprobs: [TokenLogprobs] = []
    /// Unicode scalars of the tokens that were reported.
    var offset = 0
    var finishReason: String?
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
    let random = String(UInt64.random(in: UInt64.max / 2...UInt64.max), radix: 16)
    switch request.endpoint {
    case .chat: id = "chatcmpl-" + random
    case .completion: id = "cmpl-" + random
    }
    answers = Array(repeating: Answer(), count: request.prompts.count * request.options.choices)
    if case .completion(let echo?) = request.endpoint {
      for index in answers.indices { answers[index].text = echo[index / request.options.choices] }
    }
  }

  /// Takes note of an event.
  /// - Returns: the text that is new, and what is known of the token.
  /// - Throws: why the answer failed.
  mutating func add(_ entry: GenerationTicket.Entry) throws(GenerationError) -> (
    text: String, logprobs: TokenLogprobs?
  ) {
    switch entry.event {
    case .token(let token):
      if !request.options.streams {
        answers[entry.index].text += token.text
        if let logprobs = token.logprobs { answers[entry.index].logprobs.append(logprobs) }
      }
      return (token.text, token.logprobs)
    case .finished(let summary, let text):
      if !request.options.streams { answers[entry.index].text += text }
      answers[entry.index].finishReason = summary.reason == .stop ? "stop" : "length"
      // The prompt of several answers counts once.
      if entry.index % request.options.choices == 0 {
        usage.prompt += summary.promptTokens
        usage.reused += summary.reusedTokens
      }
      usage.completion += summary.newTokens
      return (text, nil)
    case .failed(let error): throw error
    }
  }

  // MARK: Whole answers

  /// The response, when every answer is finished.
  var response: JSONValue {
    let choices = answers.enumerated().map { index, answer -> JSONValue in
      let logprobs = request.topLogprobs == nil ? JSONValue.null : self.logprobs(answer.logprobs)
      let reason = answer.finishReason.map(JSONValue.string) ?? .null
      switch request.endpoint {
      case .chat:
        return [
          "index": .init(index), "message": ["role": "assistant", "content": .string(answer.text)],
          "logprobs": logprobs, "finish_reason": reason,
        ]
      case .completion:
        return [
          "index": .init(index), "text": .string(answer.text), "logprobs": logprobs, "finish_reason": reason,
        ]
      }
    }
    return envelope(.array(choices), isChunk: false, usage: usage.json)
  }

  func envelope(_ choices: JSONValue, isChunk: Bool, usage: JSONValue?) -> JSONValue {
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
    return .object(members)
  }

  func logprobs(_ tokens: [TokenLogprobs], from offset: Int = 0) -> JSONValue {
    LogprobsFormat(endpoint: request.endpoint, tokenizer: request.model.tokenizer).json(tokens, from: offset)
  }
}
