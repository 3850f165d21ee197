/// What a model does for a server.
package enum ModelTask: String, Sendable, CaseIterable {
  /// A decoder that continues text.
  case generate
  /// An encoder that makes vectors of texts.
  case embed
  /// A model that scores passages against a query.
  case rerank

  /// The end of a sentence whose subject is a model.
  var doing: String {
    switch self {
    case .generate: "generates text"
    case .embed: "makes embeddings"
    case .rerank: "reranks passages"
    }
  }
}
