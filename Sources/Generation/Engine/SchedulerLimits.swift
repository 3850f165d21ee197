/// What bounds the work of an engine.
package struct SchedulerLimits: Equatable, Sendable {
  /// Sequences that share a forward pass.
  package var parallel: Int
  /// Requests that may wait.
  package var queue: Int
  /// The maximum number of tokens of prompt and answer together.
  package var contextLimit: Int
  /// Tokens all caches together may hold; at least `contextLimit`.
  package var budgetTokens: Int
  /// Caches kept, in use or waiting for the next turn of their conversation.
  package var caches: Int

  package init(parallel: Int, queue: Int, contextLimit: Int, budgetTokens: Int, caches: Int? = nil) {
    self.parallel = parallel
    self.queue = queue
    self.contextLimit = contextLimit
    self.budgetTokens = budgetTokens
    self.caches = max(parallel, caches ?? 2 * parallel)
  }
}
