import Files

/// What is wrong with a retrieval model, its settings or a request to it.
package struct RetrievalError: DiagnosedError, Equatable {
  package enum Reason: Equatable, Sendable {
    /// The model is of another kind: what it is, and what it would have to be.
    case wrongModel(found: String, needed: String)
    case tooLong(tokens: Int, limit: Int)
    case invalidToken(Int, vocabulary: Int)
    /// A text without any tokens.
    case noTokens
    /// Vectors cannot be cut to that size.
    case size(Int, limit: Int)
    case noPrompt(String, known: [String])

    // MARK: Rerankers
    /// A decoder with neither a head for scores nor settings that say how it scores.
    case noScore(head: String)
    /// Nothing says at which token the head reads the decoder's state.
    case positionNotStated(head: String)
    /// The token at the position was cut off, or there are fewer tokens.
    case positionOutside(String, tokens: Int)
    /// The tokenizer lacks a token of the layout of pairs.
    case noToken(String)
    /// The head is not a tensor of floats of this shape.
    case headShape(name: String, found: [Int], hiddenSize: Int)
    case headNotFinite(name: String)
    /// Prefix and suffix of a prompt leave no room for the pair.
    case noRoomForPair(taken: Int, limit: Int)
    /// A setting that makes no sense, as the end of a sentence whose subject is the setting.
    case badSetting(String, String)
  }
  package let reason: Reason
  package let path: String

  package init(_ reason: Reason, path: String) {
    self.reason = reason
    self.path = path
  }

  package var category: FailureCategory { .badInput }

  package var description: String {
    switch reason {
    case .wrongModel(let found, let needed): "\(path) is \(found); this needs \(needed)"
    case .tooLong(let tokens, let limit): "the text has \(tokens) tokens; \(path) takes at most \(limit)"
    case .noTokens: "a text has no tokens; give at least one token id"
    case .size(let size, let limit): "vectors of \(path) have \(limit) components; they cannot be cut to \(size)"
    case .noPrompt(let name, let known):
      "\(path) has no prompt \"\(name)\"; it has \(known.isEmpty ? "none" : known.joined(separator: ", "))"
    case .invalidToken(let id, let vocabulary):
      "token id \(id) is outside the vocabulary of \(path), 0 to \(vocabulary - 1)"
    case .noScore(let head):
      "\(path): is a decoder without a head for scores (no tensor \(head)). To score with the logits of yes and no, pass "
        + "--template qwen3-reranker or --template flag-llm, or write a reranker.json (Docs/search.md)"
    case .positionNotStated(let head):
      "\(path): has a head \(head), but nothing says at which token it reads the decoder's state, and a guess would give wrong "
        + "scores. Pass --position before-placeholder, placeholder, last-non-pad or a number, or write {\"type\": \"head\", "
        + "\"position\": …, \"final_norm\": true} to reranker.json beside config.json; modeling_zhinao.py of the model says which"
    case .positionOutside(let position, let tokens):
      "\(path): the pair has \(tokens) tokens after it was cut, and none of them is at the position \(position); shorten the "
        + "system message, or raise max_len"
    case .noToken(let token):
      "\(path): the tokenizer has no token \(token), which the layout of pairs needs; a reranker with a head expects ChatML tokens"
    case .headShape(let name, let found, let hiddenSize):
      "\(path): \(name) has shape \(found) or is not of floats; a head for scores is [1, \(hiddenSize)], its bias [1]"
    case .headNotFinite(let name): "\(path): \(name) holds a value that is NaN or infinite"
    case .noRoomForPair(let taken, let limit):
      "\(path): prefix and suffix of the prompt take \(taken) of \(limit) tokens, which leaves no room for query and passage"
    case .badSetting(let name, let detail): "\(path): \(name) \(detail)"
    }
  }
}
