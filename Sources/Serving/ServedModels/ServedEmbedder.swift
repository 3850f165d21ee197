import Foundation
import JSON
import Retrieval
import Tokenization

/// A model that makes vectors of texts for requests.
package struct ServedEmbedder: ServedEntry {
  package static var task: ModelTask { .embed }
  package let name: String
  let backend: any EmbeddingBackend
  let engine: EmbeddingEngine
  /// `config.json`, for `/info`.
  let configuration: JSONObject
  let created: Int

  package init(
    name: String, backend: any EmbeddingBackend, limits: BatchLimits,
    configuration: JSONObject = JSONObject()
  ) {
    self.name = name
    self.backend = backend
    self.configuration = configuration
    engine = EmbeddingEngine(backend: backend, limits: limits)
    created = Int(Date().timeIntervalSince1970)
  }

  var maximumLength: Int { backend.settings.maximumLength }
  package var anyTokenizer: any Tokenizer { backend.tokenizer }
  package var isDraining: Bool { engine.isDraining }
  package func drain(until deadline: ContinuousClock.Instant) { engine.drain(until: deadline) }

  package var json: JSONValue {
    json(
      created: created, maximumLength: maximumLength,
      [("dimensions", .init(backend.dimensions)), ("pooling", .string(backend.settings.pooling.rawValue))])
  }
}
