/// What a run tells whoever waits, and what bounds it.
package struct RunContext {
  /// Called with the items done, all of them, and the share of this process's work that is done, from which the time left follows:
  /// items that a journal has cost nothing, and items differ in length.
  package var progress: (_ done: Int, _ total: Int, _ share: Double) -> Void
  /// Called with sentences that a person should know, each once.
  package var warn: (String) -> Void

  package init(
    progress: @escaping (_ done: Int, _ total: Int, _ share: Double) -> Void = { _, _, _ in },
    warn: @escaping (String) -> Void = { _ in }
  ) {
    self.progress = progress
    self.warn = warn
  }
}

/// What a run did, in the order of the items.
package struct RunOutcome {
  package var records: [ItemRecord] = []
  /// Seconds of this process; items that a journal had cost nothing.
  package var seconds = 0.0
  /// Items that ran in this process.
  package var itemsRun = 0
  /// Tokens that ran through the model, and tokens of all prompts: the difference was shared.
  package var tokensRun = 0
  package var tokensAsked = 0

  package init() {}
}
