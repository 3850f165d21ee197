import Synchronization

/// Work that a client waits for.
protocol Cancellable: AnyObject, Sendable {
  /// Nobody wants the result any more. Safe to call at any time, more than once.
  func cancel()
}

/// The two ends of a request to a ``BatchEngine``: the engine fills in values, one task waits for all of them.
package final class BatchTicket<Value: Sendable>: Cancellable {
  private struct State {
    var values: [Value?]
    var missing: Int
    var failure: (any Error)?
    var waiter: CheckedContinuation<Void, Never>?

    var isFinished: Bool { missing == 0 || failure != nil }
  }
  private let state: Mutex<State>

  init(count: Int) { state = Mutex(State(values: Array(repeating: nil, count: count), missing: count)) }

  /// Whether the request needs no more work: it has all values, has failed, or was cancelled.
  var isFinished: Bool { state.withLock(\.isFinished) }

  package func cancel() { fail(CancellationError()) }

  /// The first failure counts; one after the last value does not.
  func fail(_ error: any Error) { change { $0.failure = error } }

  /// Fills in the values from `start` on.
  func fill(_ values: some Collection<Value>, from start: Int) {
    change { state in
      for (offset, value) in values.enumerated() { state.values[start + offset] = value }
      state.missing -= values.count
    }
  }

  /// All values in the order of the items. One task may wait; cancelling it cancels the request.
  package func values() async throws -> [Value] {
    await withTaskCancellationHandler {
      await withCheckedContinuation { continuation in
        let isFinished = state.withLock { state in
          if !state.isFinished { state.waiter = continuation }
          return state.isFinished
        }
        if isFinished { continuation.resume() }
      }
    } onCancel: {
      cancel()
    }
    return try state.withLock { state in
      if let failure = state.failure { throw failure }
      return state.values.compactMap(\.self)
    }
  }

  private func change(_ body: (inout State) -> Void) {
    let waiter = state.withLock { state -> CheckedContinuation<Void, Never>? in
      guard !state.isFinished else { return nil }
      body(&state)
      guard state.isFinished else { return nil }
      defer { state.waiter = nil }
      return state.waiter
    }
    waiter?.resume()
  }
}
