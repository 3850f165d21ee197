import ArgumentParser
import Compute
import Distribution
import Foundation
import JSON

/// Options of every command that computes.
package struct ComputeOptions: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "Number of threads (default: all processors). Results do not depend on it.", valueName: "n"))
  package var threads: Int?

  @Flag(name: .shortAndLong, help: "Print no progress on standard error.")
  package var quiet = false

  package init() {}

  package func validate() throws {
    try OptionRange.check("--threads", threads, 1...1024)
    guard Kernels.requestIsRunnable else {
      let asked = ProcessInfo.processInfo.environment["ZHINAO_ISA"] ?? ""
      throw ValidationError(
        "ZHINAO_ISA=\(asked): this machine can run \(InstructionSet.runnable.map(\.rawValue).joined(separator: ", "))."
      )
    }
  }

  /// Call first: everything after it uses the shared pool.
  package func apply() {
    if let threads { WorkerPool.useShared(threads: threads) }
    ComputeOptions.isThreadCountGiven = threads != nil
    ProgressReporter.isSilent = quiet
  }

  /// As ``apply()``, and joins the other ranks, if a launcher started several.
  package func join() throws -> any Communicator {
    apply()
    return try RankSession.join()
  }

  nonisolated(unsafe) static var isThreadCountGiven = false
}

/// `--json`
package struct OutputOptions: ParsableArguments {
  @Flag(help: "Print the result as JSON.")
  package var json = false

  package init() {}

  /// Prints the JSON, or the lines made for people.
  package func show(_ value: @autoclosure () -> JSONValue, text: () -> String) throws {
    try Output.print(json ? value().serialized(indent: 2) : text())
  }
}
