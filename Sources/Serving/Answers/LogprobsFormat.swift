import Generation
import JSON
import Tokenization

/// Log probabilities in the JSON of an endpoint.
struct LogprobsFormat {
  private let names: TokenNames
  private let tokenizer: any Tokenizer
  private let skipsSpecials: Bool
  private let topCount: Int

  init(_ request: AnswerRequest) {
    tokenizer = request.model.tokenizer
    skipsSpecials = request.options.skipsSpecials
    topCount = request.reports.topLogprobs ?? 0
    // OpenAI's servers write the bytes of half a character in these two ways.
    let marker = if case .chat = request.endpoint { "" } else { "bytes:" }
    names = TokenNames(tokenizer, byID: request.reports.namesTokensByID, bytesMarker: marker)
  }

  // MARK: Chat

  /// `logprobs` of a chat's answer. The bytes of all tokens are those of the answer.
  func chat(_ tokens: [AnswerToken]) -> JSONValue {
    let content = tokens.compactMap { token -> JSONValue? in
      guard let logprobs = token.logprobs, token.isPartOfAnswer else { return nil }
      var members = described(logprobs.chosen, bytes: token.bytes)
      members["top_logprobs"] = .array(
        logprobs.top.prefix(topCount).map { .object(described($0, bytes: bytes(of: $0.id))) })
      return .object(members)
    }
    return ["content": .array(content), "refusal": nil]
  }

  private func described(_ token: TokenLogprob, bytes: [UInt8]) -> JSONObject {
    JSONObject([
      ("token", .string(names.name(of: token.id))), ("logprob", .init(token.logprob)),
      ("bytes", .array(bytes.map { .init(Int($0)) })),
    ])
  }

  /// What the token would add to the answer.
  private func bytes(of id: Int) -> [UInt8] {
    (try? tokenizer.bytes(of: id, skippingSpecials: skipsSpecials)).flatMap { $0 } ?? []
  }

  // MARK: Completions

  /// `logprobs` of a completion, as its tokens come.
  struct Lists {
    var tokens: [JSONValue] = []
    var logprobs: [JSONValue] = []
    var top: [JSONValue] = []
    var offsets: [JSONValue] = []

    var json: JSONValue {
      [
        "tokens": .array(tokens), "token_logprobs": .array(logprobs), "top_logprobs": .array(top),
        "text_offset": .array(offsets),
      ]
    }
  }

  /// - Parameters:
  ///   - id: the token; without log probabilities if it is the first of a prompt.
  ///   - bytes: what it adds to the text.
  ///   - position: the place in the text, before and after the token.
  func append(
    _ id: Int, bytes: [UInt8], _ logprobs: TokenLogprobs?, at position: inout TextPosition,
    to lists: inout Lists
  ) {
    let name = names.name(of: id)
    lists.tokens.append(.string(name))
    lists.offsets.append(.init(position.scalars))
    position.advance(bytes)
    lists.logprobs.append(logprobs.map { .init($0.chosen.logprob) } ?? .null)
    lists.top.append(logprobs.map { .object(map($0)) } ?? .null)
  }

  /// The likeliest tokens by name, and the chosen one, whose name is what `tokens` has.
  private func map(_ logprobs: TokenLogprobs) -> JSONObject {
    let top = logprobs.top.prefix(topCount)
    let all = top.contains { $0.id == logprobs.chosen.id } ? Array(top) : top + [logprobs.chosen]
    let chosen = names.name(of: logprobs.chosen.id)
    var object = JSONObject()
    for token in all {
      let name = names.name(of: token.id)
      let isTaken = token.id != logprobs.chosen.id && (object[name] != nil || name.hasSameBytes(as: chosen))
      object[isTaken ? TokenNames.byID(token.id) : name] = .init(token.logprob)
    }
    return object
  }

  // MARK: Prompts, in vLLM's form

  /// One object a token, by ids; the first token has none.
  /// - Parameter count: likeliest tokens beside the prompt's own.
  func prompt(_ scores: [TokenLogprobs], count: Int) -> JSONValue {
    .array(
      [.null]
        + scores.map { score in
          var object = JSONObject([
            (String(score.chosen.id), ranked(score.chosen, rank: score.rank))
          ])
          for (index, token) in score.top.prefix(count).enumerated() where token.id != score.chosen.id {
            object[String(token.id)] = ranked(token, rank: index + 1)
          }
          return .object(object)
        })
  }

  private func ranked(_ token: TokenLogprob, rank: Int) -> JSONValue {
    [
      "logprob": .init(token.logprob), "rank": .init(rank),
      "decoded_token": .string(names.text(of: token.id)),
    ]
  }
}
