/// The models of a server, and which one a request means.
package struct ServedModels: Sendable {
  /// In the order of the command line.
  package let all: [any ServedEntry]
  /// Whether a request must name a model as it is called. Without it, the only model of its kind answers to every name, so
  /// that requests written for another server work as they are.
  let namesAreExact: Bool

  package init(_ all: [any ServedEntry], namesAreExact: Bool) {
    precondition(!all.isEmpty)
    self.all = all
    self.namesAreExact = namesAreExact
  }

  func models<Model: ServedEntry>(_: Model.Type) -> [Model] { all.compactMap { $0 as? Model } }

  /// The model that generates text; the first one when the request names none.
  package func model(named name: String?) throws -> ServedModel {
    let models = models(ServedModel.self)
    if name == nil, let first = models.first { return first }
    return try entry(named: name, among: models, doing: ModelTask.generate.doing)
  }

  func embedder(named name: String?) throws -> ServedEmbedder {
    try entry(named: name, among: models(ServedEmbedder.self), doing: ModelTask.embed.doing)
  }

  func reranker(named name: String?) throws -> ServedReranker {
    try entry(named: name, among: models(ServedReranker.self), doing: ModelTask.rerank.doing)
  }

  /// A reranker or an embedding model; without a name the reranker, if there is one.
  func scorer(named name: String?) throws -> any ServedEntry {
    let rerankers: [any ServedEntry] = models(ServedReranker.self)
    let both = rerankers + models(ServedEmbedder.self)
    if let name, let named = both.first(where: { $0.name == name }) { return named }
    let fitting = rerankers.isEmpty ? both : rerankers
    return try fitting[
      index(named: name, among: fitting.map { $0.name }, doing: "reranks passages or makes embeddings")]
  }

  /// Any model; without a name, the only one, or the first that embeds, or else that reranks.
  func anyModel(named name: String?) throws -> any ServedEntry {
    guard name != nil else {
      return models(ServedEmbedder.self).first ?? models(ServedReranker.self).first ?? all[0]
    }
    return try all[index(named: name, among: all.map { $0.name }, doing: "is served")]
  }

  /// - Parameter doing: what such models do, as the end of a sentence.
  private func entry<Model: ServedEntry>(named name: String?, among models: [Model], doing: String) throws
    -> Model
  {
    try models[index(named: name, among: models.map(\.name), doing: doing)]
  }

  private func index(named name: String?, among named: [String], doing: String) throws -> Int {
    if let name {
      if let index = named.firstIndex(of: name) { return index }
      if let other = all.first(where: { $0.name == name }) {
        throw wrongKind("the model \"\(name)\" \(other.task.doing); this needs a model that \(doing)")
      }
    }
    guard !named.isEmpty else { throw wrongKind("no model here \(doing)") }
    if named.count == 1 && (name == nil || !namesAreExact) { return 0 }
    if let name { throw ServedModels.notFound(name, known: named) }
    throw APIError(
      .badRequest, "model is missing, and several models \(named.joined(separator: ", ")) would fit",
      parameter: "model")
  }

  private func wrongKind(_ message: String) -> APIError {
    let served = all.map { "\($0.name) \($0.task.doing)" }.joined(separator: ", ")
    return APIError(
      .badRequest, "\(message) (\(served))", parameter: "model", code: "wrong_model_kind")
  }

  static func notFound(_ name: String, known: [String]) -> APIError {
    APIError(
      .notFound, "the model \"\(name)\" does not exist; there is \(known.joined(separator: ", "))",
      parameter: "model", code: "model_not_found")
  }
}
