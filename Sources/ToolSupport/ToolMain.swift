import ArgumentParser
import Files
import Foundation
import JSON
import Synchronization

/// What every executable's entry point does: parse, run, turn an error into one or two lines and an exit code.
package enum ToolMain {
  /// - Parameter arguments: nil: the process's.
  package static func run<Command: ParsableCommand>(_ type: Command.Type, arguments: [String]? = nil) -> Never
  {
    Interruption.install()
    ReadErrors.install()
    // A reader that goes away (`| head`) ends the command quietly.
    signal(SIGPIPE, SIG_DFL)
    do {
      var command = try Command.parseAsRoot(arguments)
      try command.run()
    } catch let error as DiagnosedError {
      fail(error.description, exitCode: error.category.exitCode)
    } catch let error as JSONError {
      fail(error.description, exitCode: FailureCategory.badInput.exitCode)
    } catch {
      Command.exit(withError: error)
    }
    exit(0)
  }

  /// Prints `error: …` on standard error, removes unfinished outputs, ends the process.
  private static func fail(_ message: String, exitCode: Int32) -> Never {
    ProgressReporter.clearCurrentLine()
    PendingOutputs.discardAll()
    FileHandle.standardError.write(Data("error: \(message)\n".utf8))
    exit(exitCode)
  }
}

/// Ctrl-C and SIGTERM: unfinished outputs are removed, then the process ends with 130.
package enum Interruption {
  /// What to say, instead of the usual, about work that is kept on purpose. May also clean up.
  package static let farewell = Mutex<(@Sendable () -> String?)?>(nil)

  /// What the first signal does instead of ending the process: a server stops in its own way. The next one ends it.
  package static let gracefulStop = Mutex<(@Sendable () -> Void)?>(nil)
  /// Asked first, on another thread: true when the program deals with Ctrl-C itself and goes on. SIGTERM and SIGHUP always
  /// end it.
  package static let interceptor = Mutex<(@Sendable () -> Bool)?>(nil)

  nonisolated(unsafe) private static var sources: [any DispatchSourceSignal] = []

  static func install() {
    let queue = DispatchQueue(label: "interruption")
    for number in [SIGINT, SIGTERM, SIGHUP] {
      signal(number, SIG_IGN)
      let source = DispatchSource.makeSignalSource(signal: number, queue: queue)
      source.setEventHandler {
        let stop = gracefulStop.withLock { stop in
          defer { stop = nil }
          return stop
        }
        if let stop { return stop() }
        if number == SIGINT, let intercepts = interceptor.withLock({ $0 }), intercepts() { return }
        ProgressReporter.clearCurrentLine()
        PendingOutputs.discardAll()
        let kept = farewell.withLock { $0 }.flatMap { $0() }
        let message = "interrupted; \(kept ?? "nothing half-written was left behind")\n"
        FileHandle.standardError.write(Data(message.utf8))
        _exit(FailureCategory.interrupted.exitCode)
      }
      source.resume()
      sources.append(source)
    }
  }
}
