import ArgumentParser
import Files
import Foundation
import JSON

/// What every executable's entry point does: parse, run, turn an error into one or two lines and an exit code.
package enum ToolMain {
  /// - Parameters:
  ///   - arguments: nil: the process's.
  ///   - outlivesTerminal: whether the work goes on when the terminal has gone, see ``Interruption``.
  package static func run<Command: ParsableCommand>(
    _ type: Command.Type, arguments: [String]? = nil, outlivesTerminal: Bool = false
  ) -> Never {
    StandardStream.reopenClosed()
    Interruption.install(outlivesTerminal: outlivesTerminal)
    do {
      var command = try Command.parseAsRoot(arguments)
      try command.run()
      try RankSession.leave()
    } catch let error as DiagnosedError {
      fail(error)
    } catch let error as JSONError {
      fail(error.description, exitCode: FailureCategory.badInput.exitCode)
    } catch {
      end(with: error, of: Command.self)
    }
    exit(0)
  }

  /// Prints the help that was asked for, the version, or what is wrong with the command line, as ArgumentParser words it.
  private static func end<Command: ParsableCommand>(with error: any Error, of type: Command.Type) -> Never {
    let code = Command.exitCode(for: error)
    let message = Command.fullMessage(for: error)
    if !message.isEmpty {
      guard code.isSuccess else { fail(text: message, exitCode: code.rawValue) }
      do { try Output.print(message) } catch { fail(error) }
    }
    exit(code.rawValue)
  }

  private static func fail(_ error: any DiagnosedError) -> Never {
    fail(error.description, exitCode: error.category.exitCode)
  }

  private static func fail(_ message: String, exitCode: Int32) -> Never {
    fail(text: "error: \(message)", exitCode: exitCode)
  }

  /// Prints `text` on standard error, removes unfinished outputs, ends the process.
  private static func fail(text: String, exitCode: Int32) -> Never {
    let isReported = RankSession.report(text, exitCode: exitCode)
    // Without the ends of libraries, which may wait for other ranks, and beside a thread that may want to say something too.
    if RankSession.isJoined {
      // A run that was told to stop says itself what is kept.
      let saysWhatIsKept = exitCode == FailureCategory.interrupted.exitCode
      Interruption.end(exitCode: exitCode) { kept in
        isReported ? nil : text + (saysWhatIsKept ? "" : kept.map { "; \($0)" } ?? "")
      }
    }
    ProgressReporter.clearCurrentLine()
    PendingOutputs.discardAll()
    if !isReported { StandardStream.error.writeIfPossible(text + "\n") }
    exit(exitCode)
  }
}
