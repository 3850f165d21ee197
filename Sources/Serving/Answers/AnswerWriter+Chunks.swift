import Generation
import JSON

/// Answers in pieces, for streams.
extension AnswerWriter {
  /// What a stream begins with: the role of a chat's answers, the echoed prompts.
  mutating func opening() -> [JSONValue] {
    var chunks: [JSONObject] = []
    for index in answers.indices {
      switch request.endpoint {
      case .chat:
        var chunk = chunk(index, content: ("delta", ["role": "assistant", "content": ""]), logprobs: nil)
        chunk["prompt_token_ids"] = promptTokenIDs(index)
        chunks.append(chunk)
      case .completion:
        // Its log probabilities are known when the prompt has run.
        if echo(index) != nil && request.reports.topLogprobs == nil { chunks.append(echoChunk(index)) }
      }
    }
    return chunks.map { .object($0) }
  }

  /// Chunks of an event; none when there is nothing to say yet.
  mutating func chunks(_ entry: GenerationTicket.Entry) throws(GenerationError) -> [JSONValue] {
    try add(entry)
    let index = entry.index
    var chunks: [JSONObject] = []
    if case .prompt = entry.event, echo(index) != nil { chunks.append(echoChunk(index)) }
    if !answers[index].text.isEmpty || answers[index].tokens.contains(where: { isReported($0, index) }) {
      chunks.append(textChunk(index, answers[index].text, withPrompt: false))
    }
    answers[index].text = ""
    answers[index].tokens = []
    if case .finished = entry.event {
      let reason = answers[index].finishReason.map(JSONValue.string) ?? .null
      let content: (String, JSONValue) =
        if case .chat = request.endpoint { ("delta", [:]) } else { ("text", "") }
      chunks.append(chunk(index, content: content, logprobs: nil, finishReason: reason))
    }
    return chunks.map { .object($0) }
  }

  /// The token counts that end a stream.
  var usageChunk: JSONValue { .object(envelope([], isChunk: true, usage: usage.json)) }

  private mutating func echoChunk(_ index: Int) -> JSONObject {
    textChunk(index, echoedText(index), withPrompt: true)
  }

  private mutating func textChunk(_ index: Int, _ text: String, withPrompt: Bool) -> JSONObject {
    let logprobs = logprobs(index, withPrompt: withPrompt)
    let content: (String, JSONValue) =
      if case .chat = request.endpoint { ("delta", ["content": .string(text)]) } else {
        ("text", .string(text))
      }
    return chunk(index, content: content, logprobs: logprobs, hasTokens: true)
  }

  private mutating func chunk(
    _ index: Int, content: (name: String, value: JSONValue), logprobs: JSONValue,
    finishReason: JSONValue = nil, hasTokens: Bool = false
  ) -> JSONObject {
    var choice = JSONObject([
      ("index", .init(index)), (content.name, content.value), ("logprobs", logprobs),
      ("finish_reason", finishReason),
    ])
    if hasTokens { choice["token_ids"] = tokenIDs(index) }
    if case .completion = request.endpoint, !answers[index].hasBegun {
      choice["prompt_token_ids"] = promptTokenIDs(index)
    }
    answers[index].hasBegun = true
    var members = envelope([.object(choice)], isChunk: true, usage: nil)
    if !request.warnings.isEmpty && !hasWarned {
      hasWarned = true
      members["warnings"] = warnings
    }
    return members
  }
}
