import ArgumentParser
import FileSupport
import Foundation
import Generation
import Models
import Numerics
import Tokenization
import ToolSupport
import Transformer

@main
enum Entry {
  static func main() { ToolMain.run(Chat.self) }
}

struct Chat: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "zhinao-chat",
    abstract: "Generate text with a model.",
    discussion: """
      The prompt becomes one user turn in the model's chat template; the answer streams to the terminal and ends at \
      the template's stop tokens. Greedy unless --temperature is given.

      EXAMPLES
        zhinao-chat model-int4.zhinao --prompt "你好，请介绍一下你自己。"
        zhinao-chat model.zhinao --prompt "Once upon a time" --raw --max-new-tokens 50
        zhinao-chat model.zhinao --prompt "讲个故事" --temperature 0.8 --top-p 0.8 --seed 7
      """,
    version: ToolVersion.generator)

  @Argument(help: "A .zhinao or .gguf file (or a Hugging Face or AutoGPTQ folder).")
  var model: String
  @Option(name: .shortAndLong, help: ArgumentHelp("What to say; - reads standard input.", valueName: "text"))
  var prompt: String
  @Option(help: ArgumentHelp("System message instead of the template's own.", valueName: "text"))
  var system: String?
  @Flag(help: "Continue the prompt as it is, without a chat template.")
  var raw = false
  @Flag(help: "Special tokens in the prompt are ordinary text.")
  var plainText = false
  @Option(
    name: [.customLong("max-new-tokens"), .customLong("max-tokens")],
    help: ArgumentHelp("Most tokens to generate.", valueName: "n"))
  var maxNewTokens = 512
  @Option(help: ArgumentHelp("0 always takes the most likely token; higher is more varied.", valueName: "t"))
  var temperature = 0.0
  @Option(
    parsing: .unconditional,
    help: ArgumentHelp("Choose among the k most likely tokens; 0 or -1: all.", valueName: "k"))
  var topK = 0
  @Option(
    help: ArgumentHelp(
      "Choose among the most likely tokens that together have probability p.", valueName: "p"))
  var topP = 1.0
  @Option(help: ArgumentHelp("Above 1 makes repetition less likely.", valueName: "x"))
  var repetitionPenalty = 1.0
  @Option(help: ArgumentHelp("Seed of the choice (default: another each time).", valueName: "n"))
  var seed: UInt64?
  @Option(
    help: ArgumentHelp(
      "Room for prompt and answer, in tokens (default: what both need, at most the model's).", valueName: "n")
  )
  var contextSize: Int?
  @Option(
    help: ArgumentHelp(
      "How integer weights are multiplied: fast (activations in 8 bits) or exact (fp32).", valueName: "mode"))
  var arithmetic = Int4Arithmetic.fast
  @Flag(help: "First check that this machine computes what the .zhinao file's writer computed.")
  var selfCheck = false
  @OptionGroup var opening: OpeningOptions
  @OptionGroup var compute: ComputeOptions
  @OptionGroup var output: OutputOptions

  func validate() throws {
    guard maxNewTokens >= 1 else { throw ValidationError("--max-new-tokens: expected at least 1.") }
    guard temperature >= 0, temperature.isFinite else {
      throw ValidationError("--temperature: expected 0 or more.")
    }
    guard topP > 0, topP <= 1 else { throw ValidationError("--top-p: expected a number above 0, up to 1.") }
    guard topK >= -1 else { throw ValidationError("--top-k: expected -1 or more.") }
    guard repetitionPenalty > 0 else {
      throw ValidationError("--repetition-penalty: expected a positive number.")
    }
    if let contextSize, contextSize < 2 { throw ValidationError("--context-size: expected at least 2.") }
  }

  func run() throws {
    compute.apply()
    let opened = try opening.open(model)
    if selfCheck, let failure = try opened.selfCheck().compactMap(\.firstFailure).first {
      throw ModelError(
        path: model, detail: "self-check failed: \(failure); do not trust this machine's results")
    }
    let tokenizer = try opened.tokenizer()
    let template = raw ? nil : try ChatTemplate.detected(tokenizer: tokenizer, files: opened.files)
    let ids = try promptIDs(tokenizer, template)
    let decoder = try opened.decoder(arithmetic: arithmetic)
    let room = contextSize ?? min(decoder.contextLength, ids.count + maxNewTokens + 1)
    let cache = decoder.makeCache(capacity: room)
    let sampling = SamplingParameters(
      temperature: temperature, topK: topK, topP: topP, repetitionPenalty: repetitionPenalty,
      seed: seed ?? UInt64.random(in: 0...UInt64.max))
    let result = try TextGenerator(model: decoder, tokenizer: tokenizer).generate(
      prompt: ids, cache: cache, sampling: sampling,
      stopTokens: opened.stopTokens(tokenizer: tokenizer, template: template), maximumNewTokens: maxNewTokens
    ) { piece in
      if !output.json { Output.stream(piece) }
      return true
    }
    if output.json { return Output.print(json(result, prompt: ids).serialized(indent: 2)) }
    Output.print("")
    let count = max(0, result.tokens.count - 1)
    Output.remark(
      "[\(result.promptTokens) prompt tokens, \(speed(result.promptTokens, result.promptSeconds))/s; "
        + "\(result.tokens.count) new, \(speed(count, result.generationSeconds))/s; "
        + "\(result.finishReason == .stop ? "stop token" : "limit reached")]")
  }

  private func speed(_ tokens: Int, _ seconds: Double) -> String {
    seconds > 0 ? Format.number(Double(tokens) / seconds, digits: 1) : "0"
  }

  private func promptIDs(_ tokenizer: any Tokenizer, _ template: ChatTemplate?) throws -> [Int] {
    var text = prompt
    if prompt == "-" {
      let bytes = FileHandle.standardInput.readDataToEndOfFile()
      guard let read = String(data: bytes, encoding: .utf8) else {
        throw FileError(.badContent, path: "standard input", detail: "is not UTF-8 text")
      }
      text = read
    }
    let specials: SpecialTokens = plainText ? .plain : .recognized
    guard let template else { return tokenizer.encode(text, specials: specials, addingAffixes: true) }
    var messages = [ChatMessage(role: "user", content: text)]
    if let system { messages.insert(ChatMessage(role: "system", content: system), at: 0) }
    return template.encode(messages, tokenizer: tokenizer, contents: specials, addingGenerationPrompt: true)
  }

  private func json(_ result: GenerationResult, prompt ids: [Int]) -> JSONValue {
    [
      "text": .string(result.text), "ids": .array(result.tokens.map { .init($0) }),
      "prompt_ids": .array(ids.map { .init($0) }), "finish_reason": .string(result.finishReason.rawValue),
      "prompt_tokens": .init(result.promptTokens), "new_tokens": .init(result.tokens.count),
      "prompt_seconds": .init(result.promptSeconds), "generation_seconds": .init(result.generationSeconds),
    ]
  }
}
