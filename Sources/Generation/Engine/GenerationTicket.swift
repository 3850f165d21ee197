import Synchronization

/// The two ends of requests that belong together: the engine posts events, one task takes them.
package final class GenerationTicket: Sendable {
  /// An event of one of the requests.
  package struct Entry: Sendable {
    /// Which of the requests, in the order of their submission.
    package var index: Int
    package var event: GenerationEvent
  }

  private struct State {
    var entries: [Entry] = []
    var unfinished: Int
    var isCancelled = false
    var isNudged = false
    var waiter: CheckedContinuation<Void, Never>?

    var hasNews: Bool { !entries.isEmpty || isCancelled || isNudged || unfinished == 0 }
  }
  private let state: Mutex<State>

  package init(count: Int) { state = Mutex(State(unfinished: count)) }

  /// Whether nobody wants the answers any more.
  package var isCancelled: Bool { state.withLock(\.isCancelled) }

  /// The engine stops working on the requests before their next token. Safe to call at any time, more than once.
  package func cancel() { change { $0.isCancelled = true } }

  /// Makes ``next()`` return, with nothing if nothing happened.
  package func nudge() { change { $0.isNudged = true } }

  func post(_ event: GenerationEvent, index: Int) {
    change {
      $0.entries.append(Entry(index: index, event: event))
      if event.isLast { $0.unfinished -= 1 }
    }
  }

  /// All events since the last call; waits for one. Empty after ``nudge()``; nil when every request had its last event, or
  /// after a cancellation. One task at a time may wait. Cancelling it cancels the requests.
  package func next() async -> [Entry]? {
    await withTaskCancellationHandler {
      await withCheckedContinuation { continuation in
        let hasNews = state.withLock { state in
          if !state.hasNews { state.waiter = continuation }
          return state.hasNews
        }
        if hasNews { continuation.resume() }
      }
    } onCancel: {
      cancel()
    }
    return state.withLock { state in
      if state.isCancelled || (state.entries.isEmpty && state.unfinished == 0) { return nil }
      state.isNudged = false
      defer { state.entries = [] }
      return state.entries
    }
  }

  private func change(_ body: (inout State) -> Void) {
    let waiter = state.withLock { state in
      body(&state)
      defer { state.waiter = nil }
      return state.waiter
    }
    waiter?.resume()
  }
}
