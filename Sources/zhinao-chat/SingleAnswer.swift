import ArgumentParser
import Contexts
import Dialogue
import Files
import Foundation
import Generation
import JSON
import Models
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
    let identity = try options.identity(opened)
    let saved = try options.contexts.opened(identity, for: opened)
    let ids = try promptIDs(tokenizer, template)
    let decoder = try options.adapters.decoder(of: opened, arithmetic: options.arithmetic)
    // Scripts get the same answer for every model: generation_config.json is ignored.
    let defaults = SamplingDefaults()
    let request = GenerationRequest(
      prompt: ids, sampling: options.sampling.parameters(defaults: defaults),
      stopTokens: try opened.stopTokens(tokenizer: tokenizer, template: template),
      maximumNewTokens: options.sampling.limit(defaults: defaults))
    let room = contextSize(request, of: decoder)
    try request.validate(contextLimit: room, tokenizer: tokenizer, rows: decoder.vocabularySize)
    let weightBytes = opened.store.residentBytes + decoder.weights.updateByteCount
    try options.checkMemory(room, of: decoder, weightBytes: weightBytes)
    try options.contexts.checkRoom(
      for: KVCache.byteCount(
        configuration: decoder.configuration, capacity: ids.count, type: options.cacheType))
    let cache = CachedSequence(decoder.makeCache(capacity: room, type: options.cacheType))
    if let saved { try cache.load(saved, prompt: ids) }
    let known = cache.tokens.count
    if let saved {
      Output.remark("[\(known) of \(ids.count) prompt tokens come from \(saved.path)]")
    }
    // What was read of a prompt can only be kept in a file.
    let interruption = options.contexts.saveContext.map { _ in AnswerInterruption(endsAtSecond: true) }
    let reading = PromptReading(
      decoder: decoder, cacheType: options.cacheType, weightBytes: weightBytes,
      passTokens: ForwardPass.promptTokens, phrases: Phrases(.english)
    ) { Output.remark($0) }
    let isTerminal = StandardStream.output.isTerminal
    let result = try TextGenerator(model: decoder, tokenizer: tokenizer).generate(
      request, in: cache,
      onText: { piece in
        if !options.output.json { try Output.stream(isTerminal ? PrintableText.sanitized(piece) : piece) }
        return true
      }, isCancelled: { interruption?.isRequested ?? false },
      onPrompt: { reading.update(ids, done: $0) })
    ProgressReporter.clearCurrentLine()
    try show(result, prompt: ids, known: known)
    if let text = try options.contexts.save((cache.tokens, cache.cache), identity: identity, model: opened) {
      Output.remark("[\(text)]")
    }
    if result.finishReason == .cancelled { throw ExitCode(FailureCategory.interrupted.exitCode) }
  }

  private func show(_ result: GenerationResult, prompt ids: [Int], known: Int) throws {
    if options.output.json {
      return try Output.print(json(result, prompt: ids, known: known).serialized(indent: 2))
    }
    try Output.print("")
    let count = max(0, result.tokens.count - 1)
    let ending =
      switch result.finishReason {
      case .stop: "stop token"
      case .length: "token limit"
      case .cancelled: "interrupted"
      }
    Output.remark(
      "[\(result.promptTokens) prompt tokens, \(Format.rate(result.promptTokens, result.promptSeconds))/s; "
        + "\(result.tokens.count) new, \(Format.rate(count, result.generationSeconds))/s; "
        + "\(ending)]")
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

  private func json(_ result: GenerationResult, prompt ids: [Int], known: Int) -> JSONValue {
    [
      "text": .string(result.text), "ids": .array(result.tokens.map { .init($0) }),
      "prompt_ids": .array(ids.map { .init($0) }), "finish_reason": .string(result.finishReason.rawValue),
      "prompt_tokens": .init(result.promptTokens), "saved_tokens": .init(known),
      "new_tokens": .init(result.tokens.count),
      "prompt_seconds": .init(result.promptSeconds), "generation_seconds": .init(result.generationSeconds),
    ]
  }
}
