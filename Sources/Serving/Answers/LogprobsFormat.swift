import Generation
import JSON
import Tokenization

/// Log probabilities in the JSON of an endpoint.
struct LogprobsFormat {
  let endpoint: AnswerRequest.Endpoint
  let tokenizer: any Tokenizer

  /// - Parameter offset: Unicode scalars of the answer before the first of `tokens`.
  func json(_ tokens: [TokenLogprobs], from offset: Int) -> JSONValue {
    switch endpoint {
    case .chat: chat(tokens)
    case .completion: completion(tokens, from: offset)
    }
  }

  private func chat(_ tokens: [TokenLogprobs]) -> JSONValue {
    let content = tokens.map { token in
      var members = described(token.chosen)
      members["top_logprobs"] = .array(token.top.map { .object(described($0)) })
      return JSONValue.object(members)
    }
    return ["content": .array(content)]
  }

  private func completion(_ tokens: [TokenLogprobs], from start: Int) -> JSONValue {
    var offsets: [JSONValue] = []
    var offset = start
    for token in tokens {
      offsets.append(.init(offset))
      offset += text(token.chosen).unicodeScalars.count
    }
    let tops = tokens.map { token in
      JSONValue.object(JSONObject(token.top.map { (text($0), JSONValue($0.logprob)) }))
    }
    return [
      "tokens": .array(tokens.map { .string(text($0.chosen)) }),
      "token_logprobs": .array(tokens.map { .init($0.chosen.logprob) }), "top_logprobs": .array(tops),
      "text_offset": .array(offsets),
    ]
  }

  private func described(_ token: TokenLogprob) -> JSONObject {
    JSONObject([
      ("token", .string(text(token))), ("logprob", .init(token.logprob)),
      ("bytes", .array(LogprobsFormat.bytes(of: token.id, tokenizer).map { .init(Int($0)) })),
    ])
  }

  private func text(_ token: TokenLogprob) -> String { LogprobsFormat.text(of: token.id, tokenizer) }

  static func text(of id: Int, _ tokenizer: any Tokenizer) -> String {
    String(decoding: bytes(of: id, tokenizer), as: UTF8.self)
  }

  private static func bytes(of id: Int, _ tokenizer: any Tokenizer) -> [UInt8] {
    (try? tokenizer.bytes(of: id, skippingSpecials: false)).flatMap { $0 } ?? []
  }
}
