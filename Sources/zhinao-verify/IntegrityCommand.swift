import ArgumentParser
import FileSupport
import Foundation
import Models
import PackedModel
import ToolSupport

struct IntegrityCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "integrity",
    abstract: "Check every byte of a model against what its file says about itself.",
    discussion: """
      For a .zhinao file: header, places, checksums of every tensor and file, padding. For a folder: every rule of \
      safetensors, the shapes the configuration asks for, zero points and group numbers of AutoGPTQ tensors, and that \
      no weight is NaN or infinite. Exit code 65 when something is wrong.

      EXAMPLE
        zhinao-verify integrity model-int4.zhinao
      """)

  @Argument(help: "Hugging Face folder, AutoGPTQ folder or .zhinao file.")
  var model: String
  @OptionGroup var compute: ComputeOptions
  @OptionGroup var output: OutputOptions

  func run() throws {
    compute.apply()
    let bar = ProgressReporter("integrity", unit: "bytes")
    let report = try IntegrityReport.check(path: model) { bar.update($0, of: $1) }
    output.show(report.json) {
      ((report.problems.isEmpty ? ["\(model): intact"] : report.problems.map { "\(model): \($0)" })
        + report.notes.map { "note: \($0)" }
        + ["\(report.tensors) tensors, \(Format.bytes(report.bytes))"]).joined(separator: "\n")
    }
    if !report.problems.isEmpty { throw ExitCode(FailureCategory.badInput.exitCode) }
  }
}
