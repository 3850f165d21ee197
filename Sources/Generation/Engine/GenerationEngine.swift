import Foundation
import Tokenization
import Transformer

/// Runs many requests on one model: each forward pass takes the next token of every answer and a piece of a prompt.
///
/// One thread of its own owns the model and the caches; forward passes would block the threads that Swift's tasks share.
/// An answer does not depend on what else runs: rows of a forward pass do not mix.
package final class GenerationEngine: @unchecked Sendable {
  // Unchecked: everything that changes is guarded by `condition`.
  package let limits: SchedulerLimits
  package let saved: SavedPrefixes?
  let log: (@Sendable (String) -> Void)?
  private let tokenizer: any Tokenizer
  /// Of the model's embedding.
  private let rows: Int
  /// The time, for deadlines and statistics.
  let now: @Sendable () -> ContinuousClock.Instant

  /// Guards everything below; signalled when there is something to do.
  private let condition = NSCondition()
  private var inbox: [Submission] = []
  private var statisticsStorage = SchedulerStatistics()
  private var drainDeadline: ContinuousClock.Instant?
  private var hasStopped = false
  /// Seconds a request takes, averaged over the last ones.
  private var typicalSeconds = 1.0

  struct Submission {
    var request: GenerationRequest
    var ticket: GenerationTicket
    /// Which of the ticket's requests this is.
    var index: Int
    var submitted: ContinuousClock.Instant
  }

  /// - Parameters:
  ///   - cacheType: how keys and values are stored.
  ///   - saved: contexts in files, of the same model and type; nil: none are used or made.
  ///   - log: called with what a person who runs a server wants to know; nil: nobody does.
  ///   - now: the time; tests give their own.
  package init(
    model: any LanguageModel, tokenizer: any Tokenizer, limits: SchedulerLimits,
    cacheType: KVCacheType = .f32, saved: SavedPrefixes? = nil,
    log: (@Sendable (String) -> Void)? = nil,
    now: @escaping @Sendable () -> ContinuousClock.Instant = { .now }
  ) {
    self.limits = limits
    self.saved = saved
    self.log = log
    self.tokenizer = tokenizer
    rows = model.vocabularySize
    self.now = now
    let thread = Thread { [self] in
      var loop = EngineLoop(engine: self, model: model, tokenizer: tokenizer, cacheType: cacheType) {
        model.makeCache(capacity: limits.contextLimit, type: cacheType)
      }
      loop.run()
    }
    thread.name = "zhinao-engine"
    thread.stackSize = 8 << 20
    thread.start()
  }

  /// Takes requests that belong together: all of them or none.
  package func submit(_ requests: [GenerationRequest]) throws(GenerationError) -> GenerationTicket {
    for request in requests {
      try request.validate(contextLimit: limits.contextLimit, tokenizer: tokenizer, rows: rows)
    }
    let ticket = GenerationTicket(count: requests.count)
    let submissions = requests.enumerated().map {
      Submission(request: $0.element, ticket: ticket, index: $0.offset, submitted: now())
    }
    condition.lock()
    defer { condition.unlock() }
    guard drainDeadline == nil else { throw .shuttingDown }
    let waiting = statisticsStorage.waiting
    let free = max(0, limits.parallel - statisticsStorage.running)
    guard waiting + requests.count - free <= limits.queue else {
      let rounds = Double(waiting + 1) / Double(limits.parallel)
      throw .queueFull(
        waiting: waiting, retryAfterSeconds: Int(min(120, max(1, (rounds * typicalSeconds).rounded(.up)))))
    }
    statisticsStorage.waiting += requests.count
    inbox += submissions
    condition.signal()
    return ticket
  }

  package var statistics: SchedulerStatistics {
    condition.lock()
    defer { condition.unlock() }
    return statisticsStorage
  }

  package var isDraining: Bool {
    condition.lock()
    defer { condition.unlock() }
    return drainDeadline != nil
  }

  /// Takes no more requests; those it has may finish until `deadline`, then they fail. The thread ends.
  package func drain(until deadline: ContinuousClock.Instant) {
    condition.lock()
    drainDeadline = min(drainDeadline ?? deadline, deadline)
    condition.signal()
    condition.unlock()
  }

  // MARK: For the engine's thread

  /// What arrived, and until when there is work at all. Waits for something to happen when `isIdle`.
  func collect(isIdle: Bool) -> (arrived: [Submission], drainDeadline: ContinuousClock.Instant?) {
    condition.lock()
    defer { condition.unlock() }
    while isIdle && inbox.isEmpty && drainDeadline == nil { condition.wait() }
    defer { inbox = [] }
    return (inbox, drainDeadline)
  }

  func report(_ body: (inout SchedulerStatistics) -> Void) {
    condition.lock()
    defer { condition.unlock() }
    body(&statisticsStorage)
  }

  func requestTook(_ seconds: Double) {
    condition.lock()
    defer { condition.unlock() }
    typicalSeconds += 0.1 * (seconds - typicalSeconds)
  }
}
