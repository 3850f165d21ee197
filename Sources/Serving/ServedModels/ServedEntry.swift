import JSON
import Tokenization

/// A model that answers requests, of whatever kind.
package protocol ServedEntry: Sendable {
  static var task: ModelTask { get }
  /// What requests call it.
  var name: String { get }
  /// For `/v1/models`.
  var json: JSONValue { get }
  /// For `/tokenize` and `/decode`.
  var anyTokenizer: any Tokenizer { get }
  var isDraining: Bool { get }
  /// Takes no more requests; those it has may finish until `deadline`.
  func drain(until deadline: ContinuousClock.Instant)
}

extension ServedEntry {
  package var task: ModelTask { Self.task }

  /// What all models have in `/v1/models`.
  func json(created: Int, maximumLength: Int, _ others: [(String, JSONValue)]) -> JSONValue {
    .object(
      JSONObject(
        [
          ("id", .string(name)), ("object", "model"), ("created", .init(created)),
          ("owned_by", "zhinao-toolchain"), ("max_model_len", .init(maximumLength)),
          ("task", .string(task.rawValue)),
        ] + others))
  }
}
