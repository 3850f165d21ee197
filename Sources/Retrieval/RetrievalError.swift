/// What is wrong with a retrieval model, an index or a request to them.
package struct RetrievalError: Error, Equatable, CustomStringConvertible {
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
  }
  package let reason: Reason
  package let path: String

  package init(_ reason: Reason, path: String) {
    self.reason = reason
    self.path = path
  }

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
    }
  }
}
