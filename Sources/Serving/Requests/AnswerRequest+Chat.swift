import JSON
import Tokenization

extension AnswerRequest {
  /// Decodes the body of `/v1/chat/completions`.
  /// - Throws: ``JSONFieldError``; ``APIError`` when the model does not exist or cannot chat.
  package init(chat fields: JSONFields, models: ServedModels) throws {
    model = try models.model(named: try fields.string("model"))
    options = try GenerationOptions(fields, model: model)
    endpoint = .chat
    guard let template = model.template else {
      throw APIError(
        .badRequest, "the model \"\(model.name)\" has no chat template; use /v1/completions",
        parameter: "model")
    }
    let ids = try template.encode(
      try AnswerRequest.messages(fields), tokenizer: model.tokenizer, contents: options.specials,
      addingGenerationPrompt: try fields.bool("add_generation_prompt") ?? true)
    prompts = [ids]
    let top = try fields.integer("top_logprobs", in: 0...AnswerRequest.mostLogprobs)
    let wantsLogprobs = try fields.bool("logprobs") ?? false
    guard wantsLogprobs || top == nil || top == 0 else {
      throw fields.refusal("top_logprobs", "needs logprobs to be true")
    }
    topLogprobs = wantsLogprobs ? top ?? 0 : nil
    try fields.refuseUnsupported("echo", because: "it is for /v1/completions", unless: { $0 == false })
  }

  private static func messages(_ fields: JSONFields) throws(JSONFieldError) -> [ChatMessage] {
    guard let messages = try fields.objects("messages") else { throw fields.error("messages", .missing) }
    guard !messages.isEmpty else {
      throw fields.unexpected("messages", expected: "one message at least")
    }
    var decoded: [ChatMessage] = []
    for message in messages { decoded.append(try AnswerRequest.message(message)) }
    return decoded
  }

  private static func message(_ fields: JSONFields) throws(JSONFieldError) -> ChatMessage {
    let roles = ["system": "system", "developer": "system", "user": "user", "assistant": "assistant"]
    guard let role = roles[try fields.requiredString("role")] else {
      throw fields.unexpected("role", expected: "system, developer, user or assistant")
    }
    try fields.refuseUnsupported(
      "tool_calls", because: "the server makes no tool calls", unless: { $0.arrayValue?.isEmpty ?? false })
    return ChatMessage(role: role, content: try content(fields))
  }

  /// A string, or an array of parts with text.
  private static func content(_ message: JSONFields) throws(JSONFieldError) -> String {
    guard let value = message["content"] else { throw message.error("content", .missing) }
    if let text = value.stringValue { return text }
    guard let parts = value.arrayValue else {
      throw message.unexpected("content", expected: "a string or an array of parts")
    }
    var content = ""
    for part in parts {
      guard part["type"]?.stringValue == "text", let text = part["text"]?.stringValue else {
        throw message.unsupported("content", because: "all parts must be of type text")
      }
      content += text
    }
    return content
  }
}
