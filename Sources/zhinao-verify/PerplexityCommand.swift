import ArgumentParser
import Distribution
import Evaluation
import Files
import Foundation
import JSON
import Models
import ToolSupport
import Transformer

struct PerplexityCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "perplexity",
    abstract: "Measure the perplexity of a text.",
    discussion: """
      Without --stride, windows are independent, tokens 2 to L of each are scored, and the last partial \
      window is
      dropped. With a stride, the protocol is that of the transformers guide. Arithmetic is fp32, sums are double.

      EXAMPLES
        zhinao-verify perplexity model.zhinao --text eval.txt
        zhinao-verify perplexity MODEL_DIR --ids ids.json --window 512 --max-windows 20 --json
      """)

  @Argument(help: "Hugging Face or AutoGPTQ folder, .zhinao or .gguf file.")
  var model: String
  @OptionGroup var text: TextOptions
  @OptionGroup var arithmetic: ArithmeticOptions
  @OptionGroup var cache: KVCacheOptions
  @OptionGroup var adapters: AdapterOptions
  @OptionGroup var opening: OpeningOptions
  @OptionGroup var compute: ComputeOptions
  @OptionGroup var output: OutputOptions

  func run() throws {
    let communicator = try compute.join()
    let start = Date()
    let opened = try opening.open(model)
    let ids = try text.load(for: opened)
    if !communicator.isAlone {
      let digest = ids.withUnsafeBytes { Checksum.sha256($0) }
      try RankSession.check(
        "the model or the text", "\(try ModelFingerprint.of(opened)), text \(digest)", communicator)
    }
    let decoder = try adapters.decoder(of: opened, arithmetic: arithmetic.arithmetic ?? .exact)
    let cacheType = cache.kvCache ?? .f32
    let bar = ProgressReporter("perplexity", unit: "windows")
    let result = try Perplexity.measure(
      decoder, ids: ids, protocol: text.windowing, cacheType: cacheType, communicator: communicator
    ) {
      bar.update($0, of: $1)
    }
    let seconds = Date().timeIntervalSince(start)
    try output.show(json(result, cacheType, tokens: ids.count, seconds: seconds)) {
      """
      perplexity \(Format.number(result.perplexity, digits: 4)) ± \(Format.number(result.halfWidth95, digits: 4))
      \(result.tokensScored) tokens scored in \(result.windows) windows of \(text.window), \(Format.duration(seconds))
      """
    }
  }

  private func json(_ result: Perplexity, _ cacheType: KVCacheType, tokens: Int, seconds: Double) -> JSONValue
  {
    var object = result.json.objectValue ?? JSONObject()
    object["model"] = .string(model)
    if let json = adapters.json { object["adapters"] = json }
    object["kv_cache"] = .string(cacheType.rawValue)
    object["window"] = .init(text.window)
    object["stride"] = .init(text.windowing.stride)
    object["tokens_in_text"] = .init(tokens)
    object["seconds"] = .init(seconds)
    return .object(object)
  }
}
