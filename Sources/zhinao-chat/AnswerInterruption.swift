import Synchronization
import ToolSupport

/// In a conversation Ctrl-C stops the answer that is being made, not the program. At all times, so that pressing it once
/// more than needed does no harm; at the prompt it is a key. An answer also stops when the terminal has gone; reading the next line
/// then ends the program.
final class AnswerInterruption: Sendable {
  private let wasAsked = Atomic(false)

  var isRequested: Bool { wasAsked.load(ordering: .relaxed) }

  init() {
    Interruption.interceptor.withLock { interceptor in
      interceptor = { [weak self] in
        guard let self else { return false }
        wasAsked.store(true, ordering: .relaxed)
        return true
      }
    }
  }

  /// Forgets what was asked so far.
  func reset() { wasAsked.store(false, ordering: .relaxed) }
}
