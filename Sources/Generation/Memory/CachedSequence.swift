import Compute
import Contexts
import Transformer

/// A cache with the tokens it holds. Between requests it waits for one that begins with the same tokens.
package final class CachedSequence {
  package let cache: KVCache
  package private(set) var tokens: [Int] = []
  /// Tokens whose memory was touched at some time: memory once touched stays.
  private(set) var touchedTokens = 0
  /// Tokens promised to the request that uses it; 0 when none does.
  var reservedTokens = 0
  /// When it was used last, counted in uses of the pool.
  var lastUse = 0
  /// What is being written of it to a file.
  var saving: SaveJob?

  /// - Parameter cache: empty.
  package init(_ cache: KVCache) { self.cache = cache }

  /// Takes note that the model has appended `newTokens` to the cache.
  func append(_ newTokens: some Collection<Int>) {
    tokens += newTokens
    touchedTokens = max(touchedTokens, tokens.count)
  }

  /// Forgets all tokens from position `count` on, and some before it if the cache must (``KVCache/truncate(to:)``).
  package func truncate(to count: Int) {
    if let saving, count < saving.tokenCount { stopSaving() }
    cache.truncate(to: count)
    tokens.removeSubrange(cache.count...)
  }

  /// Forgets all tokens unless they were computed with the same weights.
  func use(variant: Int) {
    guard cache.variant != variant else { return }
    truncate(to: 0)
    cache.variant = variant
  }

  /// Forgets what `prompt` does not begin with, and its last token: that one's logits are still to be computed.
  func keepPrefix(of prompt: [Int]) {
    truncate(to: max(0, min(commonPrefix(with: prompt), prompt.count - 1)))
  }

  /// A file that is being written and still needs the cache is given up.
  func stopSaving() {
    saving?.cancel()
    saving = nil
  }

  /// Takes the first `count` tokens of a saved context in the place of its own.
  /// - Parameter count: what ``SavedContext/loadable(_:)`` gave, within the cache's capacity.
  /// - Throws: ``SavedContextError`` when the file is damaged; it then holds no tokens.
  package func load(_ context: SavedContext, count: Int) throws {
    truncate(to: 0)
    try context.load(count, into: cache)
    append(context.tokens[..<count].lazy.map { Int($0) })
  }

  /// Takes from a saved context what a prompt begins with, unless it holds nearly as much of it. The prompt's last token is left
  /// out: its logits are still to be computed.
  /// - Throws: see ``load(_:count:)``.
  package func load(_ context: SavedContext, prompt: [Int]) throws {
    let shared = min(context.commonPrefix(with: prompt), prompt.count - 1, cache.capacity)
    let count = context.loadable(max(0, shared))
    if count > tokens.count { try load(context, count: count) }
  }

  /// Takes the first `count` tokens of another sequence in the place of its own, or a few less
  /// (``KVCache/take(_:from:pool:)``).
  func take(_ count: Int, from other: CachedSequence, pool: WorkerPool = .shared) {
    truncate(to: 0)
    cache.take(count, from: other.cache, pool: pool)
    append(other.tokens[..<cache.count])
  }

  func commonPrefix(with prompt: [Int]) -> Int { zip(tokens, prompt).prefix { $0 == $1 }.count }
}
