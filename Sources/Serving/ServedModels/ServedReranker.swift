import Foundation
import JSON
import Retrieval
import Tokenization

/// A model that scores passages against a query for requests.
package struct ServedReranker: ServedEntry {
  package static var task: ModelTask { .rerank }
  package let name: String
  let backend: any RerankingBackend
  let engine: RerankingEngine
  package let anyTokenizer: any Tokenizer
  /// `config.json`, for `/info` and the label of `/predict`.
  let configuration: JSONObject
  let created: Int

  package init(
    name: String, backend: any RerankingBackend, tokenizer: any Tokenizer, limits: BatchLimits,
    configuration: JSONObject = JSONObject()
  ) {
    self.name = name
    self.backend = backend
    self.configuration = configuration
    anyTokenizer = tokenizer
    engine = RerankingEngine(backend: backend, limits: limits)
    created = Int(Date().timeIntervalSince1970)
  }

  package var isDraining: Bool { engine.isDraining }
  package func drain(until deadline: ContinuousClock.Instant) { engine.drain(until: deadline) }
  package var json: JSONValue { json(created: created, maximumLength: backend.maximumLength, []) }

  /// What the score is called: the configuration's name for its only label.
  var label: String { configuration["id2label"]?["0"]?.stringValue ?? "LABEL_0" }
}
