import Transformer

/// The caches of a model, within a budget of tokens. A conversation on a terminal has a pool of one cache, a server's engine a
/// pool of several.
///
/// Every cache has room for the longest context, but memory is taken only for the tokens that were ever in it, so that is
/// what counts.
package struct CachePool {
  /// Memory is counted in pieces of this many tokens: what a page holds of a head's values.
  static let grain = 64

  /// Tokens that all caches together may ever have held.
  let budgetTokens: Int
  /// Tokens that one cache may hold.
  package let contextLimit: Int
  let maximumCount: Int
  private let make: () -> KVCache
  /// Where prompts find beginnings that no cache holds.
  private let saved: SavedPrefixes?
  private var idle: [CachedSequence] = []
  private var busy: [CachedSequence] = []
  private var clock = 0

  /// - Precondition: `contextLimit <= budgetTokens`, so that one request always fits.
  init(
    contextLimit: Int, budgetTokens: Int, maximumCount: Int, saved: SavedPrefixes? = nil,
    make: @escaping () -> KVCache
  ) {
    precondition(contextLimit <= budgetTokens && maximumCount > 0)
    self.contextLimit = contextLimit
    self.budgetTokens = budgetTokens
    self.maximumCount = maximumCount
    self.saved = saved
    self.make = make
  }

  /// One cache, for one conversation.
  package init(model: any LanguageModel, contextLimit: Int, type: KVCacheType) {
    self.init(contextLimit: contextLimit, budgetTokens: contextLimit, maximumCount: 1) {
      model.makeCache(capacity: contextLimit, type: type)
    }
  }

  /// Tokens counted against the budget.
  var chargedTokens: Int { (idle + busy).reduce(0) { $0 + charge($1) } }

  /// Tokens in the cache that was used last.
  package var latestTokens: Int { latest?.tokens.count ?? 0 }

  /// The sequence that was used last.
  package var latest: CachedSequence? { (idle + busy).max { $0.lastUse < $1.lastUse } }

  /// A cache for a request's prompt and answer, with as much of the prompt in it as a cache had; the last token of the prompt
  /// is never in it, since its logits are still to be computed. Tokens that other weights computed are not used. It is empty when
  /// the log probabilities of the prompt are asked for.
  /// - Returns: nil when the requests that run leave no room.
  package mutating func acquire(_ request: GenerationRequest) -> CachedSequence? {
    let prompt = request.prompt
    let promptTokens = min(prompt.count, contextLimit)
    let needed = promptTokens + max(0, min(request.maximumNewTokens, contextLimit - promptTokens))
    let room = budgetTokens - busy.reduce(0) { $0 + charge($1) }
    guard needed <= room, busy.count < maximumCount else { return nil }
    let usable = idle.filter { $0.touchedTokens <= room }
    let reusable = request.promptLogprobs == nil ? prompt : []
    let ofSameWeights = usable.filter { $0.cache.variant == request.variant }
    if let chosen = bestMatch(reusable, in: ofSameWeights) ?? newCache(needed) ?? leastRecentlyUsed(usable) {
      chosen.use(variant: request.variant)
      return start(chosen, prompt: reusable, needed: needed)
    }
    // Every idle cache is larger than what is left: a new one is not.
    for sequence in idle { sequence.stopSaving() }
    idle.removeAll()
    let new = CachedSequence(make())
    new.use(variant: request.variant)
    return start(new, prompt: reusable, needed: needed)
  }

  /// Keeps the tokens for a request to come.
  package mutating func release(_ sequence: CachedSequence) {
    busy.removeAll { $0 === sequence }
    sequence.reservedTokens = 0
    clock += 1
    sequence.lastUse = clock
    idle.append(sequence)
  }

  /// What a cache counts for in the budget.
  private func charge(_ sequence: CachedSequence) -> Int {
    let grain = CachePool.grain
    let tokens = max(sequence.touchedTokens, sequence.reservedTokens)
    return min((tokens + grain - 1) / grain * grain, sequence.cache.capacity)
  }

  private mutating func start(_ chosen: CachedSequence, prompt: [Int], needed: Int) -> CachedSequence {
    idle.removeAll { $0 === chosen }
    chosen.keepPrefix(of: prompt)
    chosen.reservedTokens = needed
    busy.append(chosen)
    while chargedTokens > budgetTokens, let victim = leastRecentlyUsed(idle) {
      // Its memory is promised to somebody else.
      victim.stopSaving()
      idle.removeAll { $0 === victim }
    }
    if !prompt.isEmpty {
      // Pages of a file cost nothing, so they come first.
      saved?.extend(chosen, with: prompt, variant: chosen.cache.variant)
      copyPrefix(of: prompt, to: chosen)
    }
    return chosen
  }

  /// Fewer tokens than these are read again rather than loaded, copied or waited for.
  static let leastGain = 64

  /// Copies what another cache has of a prompt's beginning and this one has not. Another request may be using it.
  private func copyPrefix(of prompt: [Int], to sequence: CachedSequence) {
    let others = (idle + busy).filter { $0 !== sequence && $0.cache.variant == sequence.cache.variant }
    let lengths = others.map { ($0, $0.commonPrefix(with: prompt)) }
    guard let (best, length) = lengths.max(by: { $0.1 < $1.1 }) else { return }
    let count = min(length, prompt.count - 1)
    if count >= sequence.tokens.count + CachePool.leastGain { sequence.take(count, from: best) }
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
