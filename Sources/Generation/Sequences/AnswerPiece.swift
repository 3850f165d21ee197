/// A token of an answer.
package struct AnswerToken: Equatable, Sendable {
  package var id: Int
  /// What the token adds to the answer's text: nothing if it is a special token whose name is left out, less than the token where a
  /// stop string cuts it. Joined, the bytes of all tokens are the text.
  package var bytes: [UInt8]
  package var logprobs: TokenLogprobs?
  /// False for the token that ended the answer, and for tokens of a stop string.
  package var isPartOfAnswer = true
}

/// Text of an answer that is certain, and the tokens that it is made of. Text may lag behind the model: a piece can be empty.
package struct AnswerPiece: Equatable, Sendable {
  package var text = ""
  package var tokens: [AnswerToken] = []

  package init(text: String = "", tokens: [AnswerToken] = []) {
    self.text = text
    self.tokens = tokens
  }
}

/// Tokens that wait until their text is certain.
struct TokenReports {
  private var waiting: [(token: AnswerToken, end: Int)] = []
  private var bytes = 0

  mutating func append(_ token: AnswerToken) {
    bytes += token.bytes.count
    waiting.append((token, bytes))
  }

  /// The tokens whose text is among the first `count` bytes of the answer.
  mutating func take(upTo count: Int) -> [AnswerToken] {
    let ready = waiting.prefix { $0.end <= count }.map(\.token)
    waiting.removeFirst(ready.count)
    return ready
  }

  /// All tokens, when the answer is over after `count` bytes.
  mutating func takeAll(cutAt count: Int) -> [AnswerToken] {
    defer { waiting = [] }
    return waiting.map { token, end in
      var token = token
      guard end > count else { return token }
      token.bytes.removeLast(min(token.bytes.count, end - count))
      token.isPartOfAnswer = !token.bytes.isEmpty
      return token
    }
  }
}
