import ArgumentParser
import Audit
import Contexts
import Files
import Foundation
import JSON
import ToolSupport

struct IntegrityCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "integrity",
    abstract: "Check the integrity of a model's files.",
    discussion: """
      In a .zhinao file, checks header, offsets, padding, and the checksum of every tensor and file. In a \
      folder, checks every rule of safetensors, the shapes that the configuration requires, zero points \
      and group numbers of AutoGPTQ tensors, and that no weight is NaN or infinite. The exit code is 65 if \
      there is a problem.

      In a saved context (.zhctx), checks header, tokens, padding, and the checksum of every block.

      EXAMPLE
        zhinao-verify integrity model-int4.zhinao
        zhinao-verify integrity model.zhinao --provenance MODEL_DIR
        zhinao-verify integrity document.zhctx
      """)

  @Argument(help: "Hugging Face or AutoGPTQ folder, .zhinao or .gguf file, or saved context.")
  var model: String
  @Option(
    help: ArgumentHelp(
      "Also check that the .zhinao file was made from this checkpoint folder: compare the recorded SHA-256 of each "
        + "source file, and convert the tensors again.", valueName: "folder"))
  var provenance: String?
  @OptionGroup var preTokenizer: PreTokenizerOption
  @OptionGroup var compute: ComputeOptions
  @OptionGroup var output: OutputOptions

  func run() throws {
    compute.apply()
    let bar = ProgressReporter("integrity", unit: "bytes")
    if SavedContext.isSavedContext(path: model) { return try checkContext(bar) }
    var report = try IntegrityReport.check(path: model, preTokenizer: preTokenizer.preTokenizer) {
      bar.update($0, of: $1)
    }
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

  private func checkContext(_ bar: ProgressReporter) throws {
    guard provenance == nil else {
      throw ValidationError("--provenance: \(model) is a saved context, not a model.")
    }
    let context = try SavedContext(path: model)
    let problems = context.problems { bar.update($0, of: $1) }
    let identity = context.header.identity
    let json: JSONValue = [
      "path": .string(model), "problems": .array(problems.map { .string($0.description) }),
      "tokens": .init(context.tokens.count), "bytes": .init(context.byteCount),
      "model": .string(identity.modelName), "adapters": .init(identity.adapters.count),
      "arithmetic": .string(identity.arithmetic), "kv_cache": .string(identity.encoding),
    ]
    try output.show(json) {
      ((problems.isEmpty ? ["\(model): intact"] : problems.map(\.description))
        + [
          "\(context.tokens.count) tokens of \(identity.modelName), --arithmetic \(identity.arithmetic), "
            + "--kv-cache \(identity.encoding), \(identity.adapters.count) adapters; "
            + Format.bytes(context.byteCount)
        ]).joined(separator: "\n")
    }
    if !problems.isEmpty { throw ExitCode(FailureCategory.badInput.exitCode) }
  }
}
