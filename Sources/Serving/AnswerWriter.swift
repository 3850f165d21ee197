import Foundation
import Generation
import JSON

/// Turns events into the JSON of an endpoint, whole or in chunks.
struct AnswerWriter {
  let request: AnswerRequest
  private let id: String
  private let created = Int(Date().timeIntervalSince1970)
  private var usage = Usage()
  private var answers: [Answer]

  /// What is known of one answer.
  private struct Answer {
    var text = ""
    var logprobs: [TokenLogprobs] = []
    /// Characters of the tokens that were reported.
    var offset = 0
    var finishReason: String?
  }

  private struct Usage {
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
  /// - Throws: ``APIError`` when the answer failed.
  mutating func add(_ entry: GenerationTicket.Entry) throws -> (text: String, logprobs: TokenLogprobs?) {
    switch entry.event {
    case .token(_, let text, let logprobs):
      if !request.options.streams {
        answers[entry.index].text += text
        if let logprobs { answers[entry.index].logprobs.append(logprobs) }
      }
      return (text, logprobs)
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
    case .failed(let error): throw APIError(error)
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

  // MARK: Chunks

  /// What a stream begins with: the role of a chat's answers, the echoed prompts.
  var opening: [JSONValue] {
    switch request.endpoint {
    case .chat: return answers.indices.map { chunk($0, delta: ["role": "assistant", "content": ""]) }
    case .completion(let echo):
      guard echo != nil else { return [] }
      return answers.indices.map { chunk($0, text: answers[$0].text, logprobs: nil) }
    }
  }

  /// Chunks of an event; none when there is nothing to say yet.
  mutating func chunks(_ entry: GenerationTicket.Entry) throws -> [JSONValue] {
    let (text, logprobs) = try add(entry)
    var chunks: [JSONValue] = []
    if !text.isEmpty || logprobs != nil {
      chunks.append(chunk(entry.index, text: text, logprobs: logprobs))
    }
    if let logprobs {
      answers[entry.index].offset += self.text(of: logprobs.chosen.id).unicodeScalars.count
    }
    if case .finished = entry.event {
      let reason = answers[entry.index].finishReason.map(JSONValue.string) ?? .null
      switch request.endpoint {
      case .chat: chunks.append(chunk(entry.index, delta: [:], finishReason: reason))
      case .completion: chunks.append(chunk(entry.index, text: "", logprobs: nil, finishReason: reason))
      }
    }
    return chunks
  }

  /// The token counts that end a stream.
  var usageChunk: JSONValue { envelope([], isChunk: true, usage: usage.json) }

  private func chunk(
    _ index: Int, text: String, logprobs: TokenLogprobs?, finishReason: JSONValue = nil
  ) -> JSONValue {
    switch request.endpoint {
    case .chat:
      chunk(index, delta: ["content": .string(text)], logprobs: logprobs, finishReason: finishReason)
    case .completion:
      envelope(
        [
          [
            "index": .init(index), "text": .string(text),
            "logprobs": logprobs.map { self.logprobs([$0], from: answers[index].offset) } ?? .null,
            "finish_reason": finishReason,
          ]
        ], isChunk: true, usage: nil)
    }
  }

  private func chunk(
    _ index: Int, delta: JSONValue, logprobs: TokenLogprobs? = nil, finishReason: JSONValue = nil
  ) -> JSONValue {
    envelope(
      [
        [
          "index": .init(index), "delta": delta,
          "logprobs": logprobs.map { self.logprobs([$0], from: answers[index].offset) } ?? .null,
          "finish_reason": finishReason,
        ]
      ], isChunk: true, usage: nil)
  }

  private func envelope(_ choices: JSONValue, isChunk: Bool, usage: JSONValue?) -> JSONValue {
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

  // MARK: Log probabilities

  private func logprobs(_ tokens: [TokenLogprobs], from offset: Int = 0) -> JSONValue {
    switch request.endpoint {
    case .chat:
      return [
        "content": .array(
          tokens.map { token in
            var members = described(token.chosen)
            members["top_logprobs"] = .array(token.top.map { .object(described($0)) })
            return .object(members)
          })
      ]
    case .completion:
      var offsets: [JSONValue] = []
      var offset = offset
      for token in tokens {
        offsets.append(.init(offset))
        offset += text(of: token.chosen.id).unicodeScalars.count
      }
      return [
        "tokens": .array(tokens.map { .string(text(of: $0.chosen.id)) }),
        "token_logprobs": .array(tokens.map { .init($0.chosen.logprob) }),
        "top_logprobs": .array(
          tokens.map { token in
            .object(JSONObject(token.top.map { (text(of: $0.id), JSONValue($0.logprob)) }))
          }),
        "text_offset": .array(offsets),
      ]
    }
  }

  private func described(_ token: TokenLogprob) -> JSONObject {
    JSONObject([
      ("token", .string(text(of: token.id))), ("logprob", .init(token.logprob)),
      ("bytes", .array(bytes(of: token.id).map { .init(Int($0)) })),
    ])
  }

  private func bytes(of id: Int) -> [UInt8] {
    (try? request.model.tokenizer.bytes(of: id, skippingSpecials: false)).flatMap { $0 } ?? []
  }

  private func text(of id: Int) -> String { String(decoding: bytes(of: id), as: UTF8.self) }
}
