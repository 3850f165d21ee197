import Numerics

/// Keys and values of the tokens a decoder has seen, for every layer.
package final class KVCache: @unchecked Sendable {
  /// Tokens held.
  package internal(set) var count = 0
  /// Tokens there is room for.
  package let capacity: Int

  package init(capacity: Int) { self.capacity = capacity }
}
