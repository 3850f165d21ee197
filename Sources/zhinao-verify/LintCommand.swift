import ArgumentParser
import Audit
import Files
import ToolSupport

struct LintCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "lint",
    abstract: "Check a GPTQ checkpoint, and say which engines will load it.",
    discussion: """
      Shards, shapes, the declared against the stored zero-point format, the order of input channels (modules that \
      engines fuse must share it), scales, NaN and infinity, groups that do not divide the inputs, stray integer \
      tensors, vocabulary and stop tokens. What engines accept is their documentation's word, not tried here. Exit code \
      65 when there is an error; warnings alone pass.

      EXAMPLE
        zhinao-verify lint 360Zhinao-7B-Chat-4K-Int4
      """)

  @Argument(help: "AutoGPTQ or GPTQModel folder.")
  var model: String
  @Flag(
    help:
      "Put right what the configuration files say wrongly (zero-point format, act-order, stop tokens); weights are not touched."
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
        "--fix would put right: \(report.repairs.map(\.description).joined(separator: "; "))")
    }
    try output.show(report.json) {
      let engines = report.engines.map { verdict in
        let remark = verdict.remark.isEmpty ? "" : " (\(verdict.remark))"
        return [verdict.engine, verdict.obstacle.map { "no: \($0)" } ?? "loads\(remark)"]
      }
      return
        (report.findings.isEmpty
        ? ["\(model): nothing found"]
        : report.findings.map { "\($0.severity.rawValue) [\($0.rule)]: \($0.text)" })
        .joined(separator: "\n") + "\n\n" + Format.table([["engine", ""]] + engines)
    }
    if report.hasErrors { throw ExitCode(FailureCategory.badInput.exitCode) }
  }
}
