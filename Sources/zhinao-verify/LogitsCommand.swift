import ArgumentParser
import Evaluation
import Files
import Foundation
import Safetensors
import ToolSupport

struct LogitsCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "logits",
    abstract: "Write the logits of a token sequence to a safetensors file.",
    discussion: """
      The file holds `logits`, F32 [tokens, vocabulary], and `input_ids`, I32 [tokens].

      EXAMPLE
        zhinao-verify logits model.zhinao --ids 1,2,3 -o logits.safetensors
      """)

  @Argument(help: "Hugging Face or AutoGPTQ folder, .zhinao or .gguf file.")
  var model: String
  @Option(
    help: ArgumentHelp("Token ids, separated by commas, or @FILE with a JSON array.", valueName: "1,2,3"))
  var ids: String
  @Option(
    name: [.customShort("o"), .customLong("output")], help: ArgumentHelp("Output file.", valueName: "file")
  )
  var destination: String
  @OptionGroup var arithmetic: ArithmeticOptions
  @OptionGroup var adapters: AdapterOptions
  @OptionGroup var opening: OpeningOptions
  @OptionGroup var compute: ComputeOptions
  @OptionGroup var output: OutputOptions

  func run() throws {
    compute.apply()
    let opened = try opening.open(model)
    let tokens = try parseIDs()
    try EvaluationText.check(tokens, vocabularySize: opened.configuration.vocabularySize, path: "--ids")
    let decoder = try adapters.decoder(of: opened, arithmetic: arithmetic.arithmetic ?? .exact)
    let hidden = decoder.hiddenStates(windows: [tokens])
    let width = decoder.vocabularySize
    // A vocabulary's worth of floats per token: a few rows at a time, not all.
    let step = max(1, (64 << 20) / (4 * width))
    try SafetensorsWriter.write(
      to: destination,
      tensors: [
        TensorPlan("logits", .f32, [tokens.count, width]), TensorPlan("input_ids", .i32, [tokens.count]),
      ]
    ) { plan, emit in
      guard plan.name == "logits" else {
        return try tokens.map { Int32($0) }.withUnsafeBytes { try emit($0) }
      }
      for first in stride(from: 0, to: tokens.count, by: step) {
        let logits = decoder.logits(hidden, rows: first..<min(tokens.count, first + step))
        guard logits.buffer.allSatisfy(\.isFinite) else {
          throw EvaluationError(.logitsNotFinite(model: model))
        }
        try emit(UnsafeRawBufferPointer(logits.buffer))
      }
    }
    try output.show([
      "output": .string(destination), "tokens": .init(tokens.count), "vocabulary": .init(width),
    ]) {
      "\(destination): logits [\(tokens.count), \(width)]"
    }
  }

  private func parseIDs() throws -> [Int] {
    if let path = ids.bytes.dropping(prefix: "@") { return try EvaluationText.ids(jsonFile: path) }
    let tokens = ids.bytes.split(separator: ",").map { Int($0.bytes.trimmed) }
    guard !tokens.isEmpty, !tokens.contains(nil) else {
      throw ValidationError("--ids: expected whole numbers separated by commas.")
    }
    return tokens.compactMap { $0 }
  }
}
