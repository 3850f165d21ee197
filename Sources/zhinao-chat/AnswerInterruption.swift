import Synchronization
import ToolSupport

/// In a conversation Ctrl-C stops the answer that is being made, not the program. At all times, so that pressing it once
/// more than needed does no harm; at the prompt it is a key. An answer also stops when the terminal has gone; reading the next line
/// then ends the program.
final class AnswerInterruption: Sendable {
  private let wasAsked = Atomic(false)
  /// Whether it stops the program when it is asked for again before anything was reset.
  private let endsAtSecond: Bool

  var isRequested: Bool { wasAsked.load(ordering: .relaxed) }

  init(endsAtSecond: Bool = false) {
    self.endsAtSecond = endsAtSecond
    Interruption.interceptor.withLock { interceptor in
      interceptor = { [weak self] in
        guard let self else { return false }
        let isRepeated = wasAsked.exchange(true, ordering: .relaxed)
        return !(isRepeated && endsAtSecond)
      }
    }
  }

  /// Forgets what was asked so far.
  func reset() { wasAsked.store(false, ordering: .relaxed) }
}
