import CSignals
import Files
import Foundation
import Synchronization

/// What the program does when it is told to stop, when its terminal goes away, and when a file that it reads loses its bytes. The
/// handlers of these signals are in `CSignals`; what is here runs on a thread of its own.
package enum Interruption {
  /// What to say, instead of the usual, about work that is kept on purpose. May also clean up.
  package static let farewell = Mutex<(@Sendable () -> String?)?>(nil)

  /// What the first SIGINT or SIGTERM does instead of ending the process: a server stops in its own way. The next one ends it.
  package static let gracefulStop = Mutex<(@Sendable () -> Void)?>(nil)

  /// Asked first about SIGINT and SIGHUP: true when the program deals with them itself and goes on. SIGTERM always ends it.
  package static let interceptor = Mutex<(@Sendable () -> Bool)?>(nil)

  /// What is done before a signal ends the process.
  private static let preparation = Mutex<(@Sendable () -> Void)?>(nil)

  /// Has something done before SIGINT or SIGTERM ends the process.
  static func takeOver(_ prepare: @escaping @Sendable () -> Void) { preparation.withLock { $0 = prepare } }

  /// - Parameter outlivesTerminal: whether the work goes on when the terminal has gone, because what it makes is in files or
  ///   comes over the network.
  static func install(outlivesTerminal: Bool) {
    let pipe = zn_signals_install(FailureCategory.inputOutput.exitCode)
    guard pipe >= 0 else { return }
    // Output that goes to a file or a pipe is not lost with the terminal.
    let endsWithTerminal = !outlivesTerminal && StandardStream.output.isTerminal
    Thread.detachNewThread {
      var number: UInt8 = 0
      while true {
        let count = read(pipe, &number, 1)
        if count == 1 {
          handle(Int32(number), endsWithTerminal: endsWithTerminal)
        } else if !(count < 0 && errno == EINTR) {
          return
        }
      }
    }
  }

  private static func handle(_ signal: Int32, endsWithTerminal: Bool) {
    // The handler has said what is wrong and waits.
    if signal == SIGBUS { end(.inputOutput) { $0 } }
    if signal != SIGTERM, let intercepts = interceptor.withLock({ $0 }), intercepts() { return }
    if signal == SIGHUP {
      if endsWithTerminal {
        end(.inputOutput) { "error: the terminal has gone" + ($0.map { "\n\($0)" } ?? "") }
      }
      return
    }
    let stop = gracefulStop.withLock { stop in
      defer { stop = nil }
      return stop
    }
    if let stop { return stop() }
    preparation.withLock { $0 }?()
    end(.interrupted) { "interrupted; \($0 ?? "nothing half-written was left behind")" }
  }

  /// Removes unfinished outputs, says what `message` makes of the ``farewell``, and ends the process.
  private static func end(_ category: FailureCategory, message: (_ kept: String?) -> String?) -> Never {
    end(exitCode: category.exitCode, message: message)
  }

  private static let isEnding = Mutex(())

  /// As above. The first thread that calls it ends the process, and others wait.
  static func end(exitCode: Int32, message: (_ kept: String?) -> String?) -> Never {
    isEnding.withLock { _ in
      ProgressReporter.clearCurrentLine()
      PendingOutputs.discardAll()
      let kept = farewell.withLock { $0 }.flatMap { $0() }
      if let text = message(kept) { StandardStream.error.writeIfPossible(text + "\n") }
      _exit(exitCode)
    }
  }
}
