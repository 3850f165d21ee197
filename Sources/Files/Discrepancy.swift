/// Two sources of one fact that say different things, and which of them counts. The model runs, but a person must know.
package struct Discrepancy: Equatable, Sendable, CustomStringConvertible {
  /// What the sources disagree about; the raw value is the name of lint's rule.
  package enum Fact: String, CaseIterable, Sendable {
    /// Settings of rotary positions.
    case rotary = "rope"
    /// The type of the weights.
    case elementType = "dtype"
    /// Whether the output head is the embedding.
    case head = "tied-head"
    /// Which file holds which tensor.
    case shards
    /// How the weights are quantized.
    case quantization = "quantization-config"
    /// Ids and flags of added tokens.
    case addedTokens = "added-tokens"
    /// What a tokenizer does to a text before it is cut.
    case normalizer
    /// Which ids tokens have.
    case vocabulary
  }
  package var fact: Fact
  /// The file that holds the sources, or one of them.
  package var path: String
  /// The end of a sentence whose subject is the file.
  package var detail: String

  package init(_ fact: Fact, path: String, _ detail: String) {
    self.fact = fact
    self.path = path
    self.detail = detail
  }

  package var description: String { "\(path): \(detail)" }
}
