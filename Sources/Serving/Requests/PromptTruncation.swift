import JSON

/// How a prompt that is too long is cut: `truncate_prompt_tokens` and `truncation_side`.
struct PromptTruncation: Sendable {
  /// Nil: as many as leave room for the answer.
  private let tokens: Int?
  private let keepsBeginning: Bool

  /// Nil when the request does not ask for it.
  init?(_ fields: JSONFields) throws(JSONFieldError) {
    let side = try fields.string("truncation_side")
    guard side == nil || side == "left" || side == "right" else {
      throw fields.unexpected("truncation_side", expected: "left or right")
    }
    guard let count = try fields.integer("truncate_prompt_tokens", in: -1...Int.max) else { return nil }
    guard count != 0 else {
      throw fields.unexpected("truncate_prompt_tokens", expected: "-1 or a whole number from 1 on")
    }
    tokens = count == -1 ? nil : count
    keepsBeginning = side == "right"
  }

  /// - Parameters:
  ///   - contextLimit: tokens of prompt and answer together.
  ///   - newTokens: the maximum of the answer; one that the context cannot hold needs room for a token.
  func apply(to prompt: [Int], contextLimit: Int, newTokens: Int) -> [Int] {
    let room = contextLimit - max(1, newTokens < contextLimit ? newTokens : 1)
    let count = tokens ?? max(1, room)
    return Array(keepsBeginning ? prompt.prefix(count) : prompt.suffix(count))
  }
}
