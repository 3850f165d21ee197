import Transformer

/// A cache with the tokens it holds. Between requests it waits for one that begins with the same tokens.
final class CachedSequence {
  let cache: KVCache
  fileprivate(set) var tokens: [Int] = []
  /// Tokens whose memory was touched at some time: memory once touched stays.
  fileprivate(set) var touchedTokens = 0
  /// Tokens promised to the request that uses it; 0 when none does.
  fileprivate var reservedTokens = 0
  fileprivate var lastUse = 0

  fileprivate init(_ cache: KVCache) { self.cache = cache }

  /// What the cache counts for in the budget.
  fileprivate var chargedTokens: Int {
    let grain = CachePool.grain
    return min((max(touchedTokens, reservedTokens) + grain - 1) / grain * grain, cache.capacity)
  }

  /// Call when the decoder has appended `newTokens` to the cache.
  func append(_ newTokens: some Collection<Int>) {
    tokens += newTokens
    touchedTokens = max(touchedTokens, tokens.count)
  }

  fileprivate func commonPrefix(with prompt: [Int]) -> Int {
    zip(tokens, prompt).prefix { $0 == $1 }.count
  }

  fileprivate func truncate(to count: Int) {
    cache.truncate(to: count)
    tokens.removeSubrange(count...)
  }
}

/// The caches of a decoder, within a budget of tokens.
///
/// Every cache has room for the longest context, but memory is taken only for the tokens that were ever in it, so that is
/// what counts.
struct CachePool {
  /// Memory is counted in pieces of this many tokens: what a page holds of a head's values.
  static let grain = 64

  /// Tokens that all caches together may ever have held.
  let budgetTokens: Int
  let contextLimit: Int
  let maximumCount: Int
  private let make: () -> KVCache
  private var idle: [CachedSequence] = []
  private var busy: [CachedSequence] = []
  private var clock = 0

  /// - Precondition: `contextLimit <= budgetTokens`, so that one request always fits.
  init(contextLimit: Int, budgetTokens: Int, maximumCount: Int, make: @escaping () -> KVCache) {
    precondition(contextLimit <= budgetTokens && maximumCount > 0)
    self.contextLimit = contextLimit
    self.budgetTokens = budgetTokens
    self.maximumCount = maximumCount
    self.make = make
  }

  /// Tokens counted against the budget.
  var chargedTokens: Int { (idle + busy).reduce(0) { $0 + $1.chargedTokens } }

  /// A cache for a request that will hold up to `needed` tokens, with as much of the prompt in it as a cache had; the last
  /// token of the prompt is never in it, since its logits are still to be computed.
  /// - Returns: nil when the requests that run leave no room.
  mutating func acquire(prompt: [Int], needed: Int) -> CachedSequence? {
    let needed = min(needed, contextLimit)
    let room = budgetTokens - busy.reduce(0) { $0 + $1.chargedTokens }
    guard needed <= room, busy.count < maximumCount else { return nil }
    let usable = idle.filter { $0.touchedTokens <= room }
    if let chosen = bestMatch(prompt, in: usable) ?? newCache(needed) ?? leastRecentlyUsed(usable) {
      return start(chosen, prompt: prompt, needed: needed)
    }
    // Every idle cache is larger than what is left: a new one is not.
    idle.removeAll()
    return start(CachedSequence(make()), prompt: prompt, needed: needed)
  }

  /// Keeps the tokens for a request to come.
  mutating func release(_ sequence: CachedSequence) {
    busy.removeAll { $0 === sequence }
    sequence.reservedTokens = 0
    clock += 1
    sequence.lastUse = clock
    idle.append(sequence)
  }

  private mutating func start(_ chosen: CachedSequence, prompt: [Int], needed: Int) -> CachedSequence {
    idle.removeAll { $0 === chosen }
    chosen.truncate(to: min(chosen.commonPrefix(with: prompt), prompt.count - 1))
    chosen.reservedTokens = needed
    busy.append(chosen)
    while chargedTokens > budgetTokens, let victim = leastRecentlyUsed(idle) {
      idle.removeAll { $0 === victim }
    }
    return chosen
  }

  /// The idle cache that shares most with the prompt, when that is worth losing the rest of what it holds.
  private func bestMatch(_ prompt: [Int], in usable: [CachedSequence]) -> CachedSequence? {
    let lengths = usable.map { ($0, $0.commonPrefix(with: prompt)) }
    guard let (best, length) = lengths.max(by: { ($0.1, $0.0.lastUse) < ($1.1, $1.0.lastUse) }), length > 0
    else { return nil }
    return length * 2 >= prompt.count || length * 2 >= best.tokens.count ? best : nil
  }

  private func newCache(_ needed: Int) -> CachedSequence? {
    guard idle.count + busy.count < maximumCount, chargedTokens + needed <= budgetTokens else { return nil }
    return CachedSequence(make())
  }

  private func leastRecentlyUsed(_ usable: [CachedSequence]) -> CachedSequence? {
    usable.min { $0.lastUse < $1.lastUse }
  }
}
