import Generation
import JSON

/// Answers in pieces, for streams.
extension AnswerWriter {
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
  mutating func chunks(_ entry: GenerationTicket.Entry) throws(GenerationError) -> [JSONValue] {
    let (text, logprobs) = try add(entry)
    var chunks: [JSONValue] = []
    if !text.isEmpty || logprobs != nil {
      chunks.append(chunk(entry.index, text: text, logprobs: logprobs))
    }
    if let logprobs {
      answers[entry.index].offset +=
        LogprobsFormat.text(of: logprobs.chosen.id, request.model.tokenizer).unicodeScalars.count
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
}
