/// The models of a server, and which one a request means.
package struct ServedModels: Sendable {
  package let all: [ServedModel]
  /// Whether a request must name a model as it is called. Without it, a single model answers to every name, so that
  /// requests written for another server work as they are.
  let namesAreExact: Bool

  package init(_ all: [ServedModel], namesAreExact: Bool) {
    precondition(!all.isEmpty)
    self.all = all
    self.namesAreExact = namesAreExact || all.count > 1
  }

  /// The first model when the request names none.
  package func model(named name: String?) throws -> ServedModel {
    guard let name else { return all[0] }
    if let model = all.first(where: { $0.name == name }) { return model }
    guard namesAreExact else { return all[0] }
    throw ServedModels.notFound(name, known: all.map(\.name))
  }

  static func notFound(_ name: String, known: [String]) -> APIError {
    APIError(
      .notFound, "the model \"\(name)\" does not exist; there is \(known.joined(separator: ", "))",
      parameter: "model", code: "model_not_found")
  }
}
