import Files
import Foundation
import Generation
import JSON
import Terminal
import Tokenization
import ToolSupport
import Transformer

/// One prompt, one answer: for scripts.
struct SingleAnswer {
  let options: Chat
  let prompt: String

  func run() throws {
    let opened = try options.open()
    let tokenizer = try opened.tokenizer()
    let template = try options.template(opened, tokenizer)
    let ids = try promptIDs(tokenizer, template)
    let decoder = try options.adapters.decoder(of: opened, arithmetic: options.arithmetic)
    // Scripts get the same answer for every model: generation_config.json is ignored.
    let defaults = SamplingDefaults()
    let request = GenerationRequest(
      prompt: ids, sampling: options.sampling.parameters(defaults: defaults),
      stopTokens: try opened.stopTokens(tokenizer: tokenizer, template: template),
      maximumNewTokens: options.sampling.limit(defaults: defaults))
    let room = contextSize(request, of: decoder)
    let cache = CachedSequence(decoder.makeCache(capacity: room, type: options.cacheType))
    let isTerminal = StandardStream.output.isTerminal
    let result = try TextGenerator(model: decoder, tokenizer: tokenizer).generate(request, in: cache) {
      piece in
      if !options.output.json { try Output.stream(isTerminal ? PrintableText.sanitized(piece) : piece) }
      return true
    }
    if options.output.json { return try Output.print(json(result, prompt: ids).serialized(indent: 2)) }
    try Output.print("")
    let count = max(0, result.tokens.count - 1)
    Output.remark(
      "[\(result.promptTokens) prompt tokens, \(Format.rate(result.promptTokens, result.promptSeconds))/s; "
        + "\(result.tokens.count) new, \(Format.rate(count, result.generationSeconds))/s; "
        + "\(result.finishReason == .stop ? "stop token" : "token limit")]")
  }

  /// What was asked for, or what prompt and answer need; at most what the model was made for.
  private func contextSize(_ request: GenerationRequest, of decoder: Decoder) -> Int {
    let limit = decoder.contextLength
    let needed = request.prompt.count + min(request.maximumNewTokens, limit) + 1
    return min(options.contextSize ?? needed, limit)
  }

  static func standardInput() throws -> String {
    guard let text = String(validating: try StandardInput.readToEnd(), as: UTF8.self) else {
      throw FileError(.badContent, path: "standard input", detail: "is not UTF-8 text")
    }
    return text
  }

  private func promptIDs(_ tokenizer: any Tokenizer, _ template: ChatTemplate?) throws -> [Int] {
    let specials = options.specialTokens(default: .recognized)
    guard let template else { return tokenizer.encode(prompt, specials: specials, addingAffixes: true) }
    var messages = [ChatMessage(role: "user", content: prompt)]
    if let system = options.system { messages.insert(ChatMessage(role: "system", content: system), at: 0) }
    return try template.encode(
      messages, tokenizer: tokenizer, contents: specials, addingGenerationPrompt: true)
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
