import Generation
import JSON
import Tokenization

/// A request for answers, decoded: what to generate, and how to report it.
package struct AnswerRequest {
  package enum Endpoint {
    case chat
    /// `echo`: the prompts, when answers begin with them.
    case completion(echo: [String]?)
  }
  package var endpoint: Endpoint
  package var model: ServedModel
  package var options: GenerationOptions
  package var prompts: [[Int]]
  /// Log probabilities of each token, and of so many likeliest ones.
  package var topLogprobs: Int?

  /// Decodes the body of `/v1/chat/completions`.
  package init(chat fields: RequestFields, models: ServedModels) throws {
    model = try models.model(named: try fields.text("model"))
    options = try GenerationOptions(fields, model: model)
    endpoint = .chat
    guard let template = model.template else {
      throw APIError(
        .badRequest, "the model \"\(model.name)\" has no chat template; use /v1/completions",
        parameter: "model")
    }
    let ids = template.encode(
      try AnswerRequest.messages(fields), tokenizer: model.tokenizer, contents: options.specials,
      addingGenerationPrompt: try fields.flag("add_generation_prompt") ?? true)
    prompts = [ids]
    let top = try fields.whole("top_logprobs", in: 0...20)
    let wantsLogprobs = try fields.flag("logprobs") ?? false
    guard wantsLogprobs || top == nil || top == 0 else {
      throw APIError.invalid("top_logprobs", "needs logprobs to be true")
    }
    topLogprobs = wantsLogprobs ? top ?? 0 : nil
    try fields.refuse("echo", because: "is for /v1/completions", unless: { $0 == false })
  }

  private static func messages(_ fields: RequestFields) throws -> [ChatMessage] {
    guard let array = fields["messages"]?.arrayValue, !array.isEmpty else {
      throw fields.bad("messages", "a non-empty array")
    }
    return try array.enumerated().map { index, value in
      guard let object = value.objectValue else { throw fields.bad("messages[\(index)]", "an object") }
      let message = RequestFields(object, prefix: "messages[\(index)].")
      let roles = ["system": "system", "developer": "system", "user": "user", "assistant": "assistant"]
      guard let role = try message.text("role").flatMap({ roles[$0] }) else {
        throw message.bad("role", "system, developer, user or assistant")
      }
      try message.refuse("tool_calls", because: "tool calls are not supported") {
        $0.arrayValue?.isEmpty ?? false
      }
      return ChatMessage(role: role, content: try content(message))
    }
  }

  /// A string, or an array of parts with text.
  private static func content(_ message: RequestFields) throws -> String {
    guard let value = message["content"] else { throw message.bad("content", "a string") }
    if let text = value.stringValue { return text }
    guard let parts = value.arrayValue else { throw message.bad("content", "a string or an array of parts") }
    return try parts.map { part in
      guard part["type"]?.stringValue == "text", let text = part["text"]?.stringValue else {
        throw APIError.unsupported(message.prefix + "content", "only parts of type text are supported")
      }
      return text
    }.joined()
  }

  // MARK: /v1/completions

  /// Decodes the body of `/v1/completions`.
  package init(completion fields: RequestFields, models: ServedModels) throws {
    model = try models.model(named: try fields.text("model"))
    options = try GenerationOptions(fields, model: model)
    topLogprobs = try fields.whole("logprobs", in: 0...20)
    let texts: [String]
    (prompts, texts) = try AnswerRequest.prompts(fields, model: model, specials: options.specials)
    guard prompts.count * options.choices <= 64 else {
      throw APIError.invalid("prompt", "more than 64 answers in one request")
    }
    let echoes = try fields.flag("echo") ?? false
    if echoes && topLogprobs != nil {
      throw APIError.unsupported("echo", "log probabilities of prompts are not supported")
    }
    endpoint = .completion(echo: echoes ? texts : nil)
    if options.maximumNewTokens == nil { options.maximumNewTokens = 16 }
  }

  /// A string, an array of strings, an array of ids or an array of such arrays.
  private static func prompts(_ fields: RequestFields, model: ServedModel, specials: SpecialTokens) throws
    -> (ids: [[Int]], texts: [String])
  {
    let tokenizer = model.tokenizer
    func encoded(_ text: String) -> [Int] {
      tokenizer.encode(text, specials: specials, addingAffixes: true)
    }
    func ids(_ values: [JSONValue]) throws -> [Int] {
      try values.map { try fields.id($0, "prompt", in: 0..<tokenizer.tokenCount) }
    }
    guard let value = fields["prompt"] else { throw fields.bad("prompt", "a string or an array") }
    if let text = value.stringValue { return ([encoded(text)], [text]) }
    guard let array = value.arrayValue, let first = array.first else {
      throw fields.bad("prompt", "a string, or a non-empty array of strings or token ids")
    }
    var all: [[Int]]
    switch first {
    case .number: all = [try ids(array)]
    case .array:
      all = try array.map {
        guard let values = $0.arrayValue else { throw fields.bad("prompt", "arrays of token ids") }
        return try ids(values)
      }
    default:
      let texts = try fields.texts("prompt", most: 64)
      return (texts.map(encoded), texts)
    }
    return (all, try all.map { try tokenizer.decode($0, skippingSpecials: true) })
  }
}

extension AnswerRequest {
  /// One request to the engine for each answer; answers to one prompt differ in their seeds.
  package func generationRequests(client: String, timeLimit: Duration, tokenLimit: Int) -> [GenerationRequest]
  {
    let context = model.engine.limits.contextLimit
    let wanted = options.maximumNewTokens ?? model.defaults.maxNewTokens ?? 512
    return prompts.flatMap { prompt in
      (0..<options.choices).map { choice in
        var sampling = options.sampling
        sampling.seed &+= UInt64(choice)
        return GenerationRequest(
          prompt: prompt, sampling: sampling, stopTokens: options.stopTokens,
          stopStrings: options.stopStrings,
          maximumNewTokens: max(0, min(wanted, tokenLimit, context - prompt.count)), topLogprobs: topLogprobs,
          deadline: .now + timeLimit, client: client)
      }
    }
  }
}
