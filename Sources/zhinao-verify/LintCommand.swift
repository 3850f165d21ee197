import ArgumentParser
import Audit
import Files
import ToolSupport

struct LintCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "lint",
    abstract: "Find problems of a checkpoint, and list the engines that load it if it is quantized.",
    discussion: """
      Checks shards, shapes, NaN and infinity, vocabulary, stop tokens, and files that disagree about rotary \
      positions, tied heads, added tokens, shards or quantization. In GPTQ checkpoints, also checks the zero-point \
      format, the order of input channels (which modules that engines fuse must share), scales, groups that do \
      not divide the inputs, and unexpected integer tensors. The list of engines follows their documentation; they \
      are not run. The exit code is 65 if there is an error; warnings do not count.

      EXAMPLE
        zhinao-verify lint 360Zhinao-7B-Chat-4K-Int4
      """)

  @Argument(help: "Hugging Face, AutoGPTQ or GPTQModel folder.")
  var model: String
  @Flag(
    help:
      "Correct zero-point format, act-order and stop tokens in the configuration files, and remove is_marlin_format. Weights do not change."
  )
  var fix = false
  @OptionGroup var output: OutputOptions

  func run() throws {
    var report = try CheckpointLint(path: model)
    if fix {
      for repair in report.repairs {
        for line in try repair.apply(to: model) { Output.note("fixed: \(line)") }
      }
      report = try CheckpointLint(path: model)
    } else if !report.repairs.isEmpty {
      Output.note(
        "--fix would correct: \(report.repairs.map(\.description).joined(separator: "; "))")
    }
    try output.show(report.json) {
      let engines = report.engines.map { verdict in
        let remark = verdict.remark.isEmpty ? "" : " (\(verdict.remark))"
        return [verdict.engine, verdict.obstacle.map { "no: \($0)" } ?? "loads\(remark)"]
      }
      return
        (report.findings.isEmpty
        ? ["\(model): no problems found"]
        : report.findings.map { "\($0.severity.rawValue) [\($0.rule)]: \($0.text)" })
        .joined(separator: "\n")
        + (engines.isEmpty ? "" : "\n\n" + Format.table([["engine", ""]] + engines))
    }
    if report.hasErrors { throw ExitCode(FailureCategory.badInput.exitCode) }
  }
}
