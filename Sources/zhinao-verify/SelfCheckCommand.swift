import ArgumentParser
import Compute
import Files
import Models
import ToolSupport

struct SelfCheckCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "self-check",
    abstract: "Check that this machine computes the results recorded in a .zhinao file.",
    discussion: """
      A .zhinao file records the state after every layer and the logits that its weights gave in fp32 for \
      two short sequences. The command computes them again with this machine's kernels, in exact and in \
      fast arithmetic. The exit code is 65 if a difference exceeds its tolerance, and the first layer or \
      logit that differs is printed.

      EXAMPLE
        zhinao-verify self-check model-int4.zhinao
      """)

  @Argument(help: "A .zhinao file.")
  var model: String
  @OptionGroup var compute: ComputeOptions
  @OptionGroup var output: OutputOptions

  func run() throws {
    compute.apply()
    let outcomes = try OpenedModel(path: model, accepting: .all).selfCheck()
    let passed = outcomes.allSatisfy { $0.firstFailure == nil }
    try output.show([
      "path": .string(model), "passed": .bool(passed), "isa": .string(WorkerPool.shared.kernels.name),
      "checks": .array(outcomes.map(\.json)),
    ]) {
      outcomes.map { outcome in
        let numbers =
          "largest difference \(Format.scientific(outcome.largest)) of the largest value, tolerance "
          + Format.scientific(outcome.tolerance)
        return outcome.firstFailure.map { "\(model): \(outcome.arithmetic) FAILED at \($0)\n  \(numbers)" }
          ?? "\(model): \(outcome.arithmetic) agrees, \(numbers)"
      }.joined(separator: "\n") + "\nkernels: \(WorkerPool.shared.kernels.name)"
    }
    if !passed { throw ExitCode(FailureCategory.badInput.exitCode) }
  }
}
