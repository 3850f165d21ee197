import ArgumentParser
import Audit
import Files
import Foundation
import JSON
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
        zhinao-verify integrity model.zhinao --provenance MODEL_DIR
      """)

  @Argument(help: "Hugging Face or AutoGPTQ folder, .zhinao or .gguf file.")
  var model: String
  @Option(
    help: ArgumentHelp(
      "Also prove that this .zhinao file was made from that checkpoint: by the SHA-256 of each file it records, and by "
        + "making its tensors again.", valueName: "folder"))
  var provenance: String?
  @OptionGroup var compute: ComputeOptions
  @OptionGroup var output: OutputOptions

  func run() throws {
    compute.apply()
    let bar = ProgressReporter("integrity", unit: "bytes")
    var report = try IntegrityReport.check(path: model) { bar.update($0, of: $1) }
    var json = report.json.objectValue ?? JSONObject()
    if let provenance {
      let check = try ProvenanceCheck(path: model, source: provenance)
      json["provenance"] = check.json
      report.problems += check.problems.map(\.description)
      report.notes.append(
        "\(check.files.count { $0.state == .same }) source files have the recorded SHA-256; "
          + "\(check.tensorsCompared) tensors made again from them"
          + (check.tensorsOfOtherForm > 0 ? ", \(check.tensorsOfOtherForm) were quantized since" : ""))
    }
    try output.show(.object(json)) {
      ((report.problems.isEmpty ? ["\(model): intact"] : report.problems.map { "\(model): \($0)" })
        + report.notes.map { "note: \($0)" }
        + ["\(report.tensors) tensors, \(Format.bytes(report.bytes))"]).joined(separator: "\n")
    }
    if !report.problems.isEmpty { throw ExitCode(FailureCategory.badInput.exitCode) }
  }
}
