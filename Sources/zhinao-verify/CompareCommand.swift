import ArgumentParser
import Evaluation
import Foundation
import JSON
import ToolSupport

struct CompareCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "compare",
    abstract: "How far a candidate's predictions are from a reference's.",
    discussion: """
      Both perplexities and their ratio, KL divergence of the reference from the candidate (mean and 99th percentile, \
      in nats per token), and the share of positions where both put the same token first. --arithmetic is that of the \
      candidate; the reference is computed in fp32.

      EXAMPLE
        zhinao-verify compare MODEL_DIR model-int4.zhinao --text eval.txt
      """)

  @Argument(help: "The model that is taken as right.")
  var reference: String
  @Argument(help: "The model that is compared with it.")
  var candidate: String
  @OptionGroup var text: TextOptions
  @OptionGroup var arithmetic: ArithmeticOptions
  @OptionGroup var opening: OpeningOptions
  @OptionGroup var compute: ComputeOptions
  @OptionGroup var output: OutputOptions

  func run() throws {
    compute.apply()
    let start = Date()
    let (a, b) = (try opening.open(reference), try opening.open(candidate))
    let ids = try text.load(for: a)
    let bar = ProgressReporter("compare", unit: "windows")
    let result = try Comparison.measure(
      reference: a.decoder(), candidate: b.decoder(arithmetic: arithmetic.arithmetic ?? .exact), ids: ids,
      protocol: text.windowing
    ) { bar.update($0, of: $1) }
    var json = result.json.objectValue ?? JSONObject()
    json["reference"] = .string(reference)
    json["candidate"] = .string(candidate)
    json["window"] = .init(text.window)
    json["seconds"] = .init(Date().timeIntervalSince(start))
    try output.show(.object(json)) {
      Format.table([
        ["perplexity of the reference", Format.number(result.reference, digits: 4)],
        ["perplexity of the candidate", Format.number(result.candidate, digits: 4)],
        ["ratio", Format.number(result.ratio, digits: 5)],
        ["KL divergence, mean", Format.number(result.meanKL, digits: 6)],
        ["KL divergence, median", Format.number(result.medianKL, digits: 6)],
        ["KL divergence, 99th percentile", Format.number(result.kl99, digits: 6)],
        ["same first token", Format.number(result.top1Agreement * 100, digits: 2) + " %"],
        ["tokens", "\(result.tokensScored)"],
      ])
    }
  }
}
