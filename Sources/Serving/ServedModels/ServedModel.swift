import Foundation
import Generation
import JSON
import Tokenization

/// A model that generates text for requests.
package struct ServedModel: ServedEntry {
  package static var task: ModelTask { .generate }
  /// What requests call it.
  package private(set) var name: String
  package let engine: GenerationEngine
  package let tokenizer: any Tokenizer
  /// Nil for a base model: it continues text but does not chat.
  let template: ChatTemplate?
  let stopTokens: Set<Int>
  /// How it samples when a request does not say.
  let defaults: SamplingDefaults
  let created: Int
  /// Which of the engine's weights answer (``GenerationRequest/variant``).
  private(set) var variant = 0
  /// The name of the model that this one is an adapter of; nil: none.
  private(set) var parent: String?

  package init(
    name: String, engine: GenerationEngine, tokenizer: any Tokenizer, template: ChatTemplate?,
    stopTokens: Set<Int>, defaults: SamplingDefaults
  ) {
    self.name = name
    self.engine = engine
    self.tokenizer = tokenizer
    self.template = template
    self.stopTokens = stopTokens
    self.defaults = defaults
    created = Int(Date().timeIntervalSince1970)
  }

  /// The same model with an adapter.
  func adapted(name: String, variant: Int) -> ServedModel {
    var result = self
    result.name = name
    result.variant = variant
    result.parent = self.name
    return result
  }

  /// What whoever starts the server must know of the model's chat template, or nil.
  package var templateNote: String? { template?.note }

  package var anyTokenizer: any Tokenizer { tokenizer }
  package var isDraining: Bool { engine.isDraining }
  package func drain(until deadline: ContinuousClock.Instant) { engine.drain(until: deadline) }

  package var json: JSONValue {
    json(
      created: created, maximumLength: engine.limits.contextLimit,
      [("chat", .bool(template != nil))] + (parent.map { [("parent", .string($0))] } ?? []))
  }
}
