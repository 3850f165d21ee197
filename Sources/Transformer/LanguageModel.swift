import Compute

/// What evaluation and generation need of a decoder.
package protocol LanguageModel: Sendable {
  /// Logits per position. May exceed the tokenizer's ids (padding rows of the embedding).
  var vocabularySize: Int { get }
  /// The longest context the model's configuration promises.
  var contextLength: Int { get }

  /// An empty cache for at most `capacity` tokens.
  func makeCache(capacity: Int, type: KVCacheType) -> KVCache

  /// Runs several sequences at once, each after what its cache holds, and appends them to their caches.
  /// - Parameter batch: for each sequence ids in `0 ..< vocabularySize`; `cache.count + tokens.count <= cache.capacity`. No
  ///   cache appears twice.
  /// - Returns: hidden states after the final norm of all the tokens, sequence after sequence: `[tokens, hiddenSize]`.
  func hiddenStates(batch: [(tokens: [Int], cache: KVCache)]) -> AlignedBuffer<Float>

  /// Logits of some rows of what `hiddenStates` returned: `[rows.count, vocabularySize]`.
  func logits(_ hidden: AlignedBuffer<Float>, rows: Range<Int>) -> AlignedBuffer<Float>

  /// The same of rows that belong to sequences of different variants (``KVCache/variant``).
  /// - Parameter variants: of each of the rows; empty: all are 0.
  func logits(_ hidden: AlignedBuffer<Float>, rows: Range<Int>, variants: [Int]) -> AlignedBuffer<Float>
}

extension LanguageModel {
  /// For models that have no variants.
  package func logits(_ hidden: AlignedBuffer<Float>, rows: Range<Int>, variants: [Int]) -> AlignedBuffer<
    Float
  > {
    logits(hidden, rows: rows)
  }

  /// Runs `tokens` after those already in `cache` and appends them to it.
  /// - Returns: hidden states after the final norm, `[tokens.count, hiddenSize]`.
  package func hiddenStates(_ tokens: [Int], cache: KVCache) -> AlignedBuffer<Float> {
    hiddenStates(batch: [(tokens, cache)])
  }

  /// An empty cache in fp32.
  package func makeCache(capacity: Int) -> KVCache { makeCache(capacity: capacity, type: .f32) }
}
