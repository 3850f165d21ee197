import JSON
import Tokenization

extension AnswerRequest {
  /// Decodes the body of `/v1/chat/completions`.
  /// - Throws: ``JSONFieldError``; ``APIError`` when the model does not exist or cannot chat.
  package init(chat fields: JSONFields, models: ServedModels) throws {
    model = try models.model(named: try fields.string("model"))
    warnings = try RequestField.check(fields, of: .chat)
    options = try GenerationOptions(
      fields, model: model, usualNewTokens: model.defaults.newTokens,
      takesTools: model.template?.canShow("tools") ?? false)
    endpoint = .chat
    guard let template = model.template else {
      throw APIError(
        .badRequest, "the model \"\(model.name)\" has no chat template; use /v1/completions",
        parameter: "model")
    }
    let ids = try template.encode(
      try AnswerRequest.prompt(fields, template), tokenizer: model.tokenizer,
      contents: options.specials ?? .plain)
    prompts = [AnswerRequest.truncated(ids, options, model)]
    let top = try fields.integer("top_logprobs", in: 0...Reports.mostLogprobs)
    let wantsLogprobs = try fields.bool("logprobs") ?? false
    guard wantsLogprobs || top == nil || top == 0 else {
      throw fields.refusal("top_logprobs", "needs logprobs to be true")
    }
    reports = try Reports(
      fields, topLogprobs: wantsLogprobs ? top ?? 0 : nil, streams: options.streams)
    try fields.refuseUnsupported(
      "add_special_tokens", because: "the chat template writes them", unless: { $0 == false })
  }

  /// What the template is told: the conversation, and the fields that vLLM and llama.cpp pass on to it.
  private static func prompt(_ fields: JSONFields, _ template: ChatTemplate) throws(JSONFieldError)
    -> ChatPrompt
  {
    let continues = try fields.bool("continue_final_message") ?? false
    var prompt = ChatPrompt(
      try messages(fields, template),
      addingGenerationPrompt: try fields.bool("add_generation_prompt") ?? !continues)
    prompt.continuesFinalMessage = continues
    if prompt.addsGenerationPrompt && continues {
      throw fields.refusal("continue_final_message", "cannot be true together with add_generation_prompt")
    }
    func isEmpty(_ value: JSONValue) -> Bool { value.arrayValue?.isEmpty ?? false }
    if !template.canShow("documents") {
      try fields.refuseUnsupported("documents", because: "the prompt has no place for them", unless: isEmpty)
    }
    for name in ["tools", "documents"] {
      if let value = fields[name] { prompt.variables[name] = value }
    }
    if let effort = try fields.string("reasoning_effort") {
      prompt.variables["reasoning_effort"] = .string(effort)
      // As in vLLM: some templates know one of the two, some the other.
      prompt.variables["enable_thinking"] = .bool(effort != "none")
    }
    if let flag = try fields.bool("enable_thinking") { prompt.variables["enable_thinking"] = .bool(flag) }
    for (name, value) in try fields.object("chat_template_kwargs")?.object.members ?? [] {
      // These have fields of their own, and the model's tokens are not for clients to choose.
      if ["messages", "add_generation_prompt", "continue_final_message", "tools", "chat_template"].contains(
        name)
        || ChatPrompt.isToken(name)
      {
        throw fields.refusal("chat_template_kwargs", "cannot have \"\(name)\"")
      }
      prompt.variables[name] = value
    }
    return prompt
  }

  private static func messages(_ fields: JSONFields, _ template: ChatTemplate) throws(JSONFieldError)
    -> [JSONObject]
  {
    guard let messages = try fields.objects("messages") else { throw fields.error("messages", .missing) }
    guard !messages.isEmpty else {
      throw fields.unexpected("messages", expected: "one message at least")
    }
    let takesParts = messages.contains { $0["content"]?.arrayValue != nil } && template.takesParts
    var decoded: [JSONObject] = []
    for message in messages {
      decoded.append(try AnswerRequest.message(message, template, takesParts: takesParts))
    }
    return decoded
  }

  private static func message(_ fields: JSONFields, _ template: ChatTemplate, takesParts: Bool)
    throws(JSONFieldError) -> JSONObject
  {
    var roles = ["system": "system", "developer": "system", "user": "user", "assistant": "assistant"]
    if template.isOwn { roles["tool"] = "tool" }
    // As in vLLM and llama.cpp: few templates know developers, and some would drop their messages.
    let given = try fields.requiredString("role")
    if given == "developer" && template.names("developer") { roles["developer"] = "developer" }
    if given == "tool" && !template.isOwn {
      throw fields.unsupported("role", because: "turns of tools need a chat template, and the model has none")
    }
    guard let role = roles[given] else {
      throw fields.unexpected("role", expected: "system, developer, user or assistant")
    }
    if fields.isPresent("tool_calls") && !template.canShow("tool_calls") {
      try fields.refuseUnsupported(
        "tool_calls", because: "the prompt has no place for them",
        unless: { $0.arrayValue?.isEmpty ?? false })
    }
    // Names, calls of tools and reasoning reach the template as they are.
    var message = template.isOwn ? fields.object : JSONObject()
    message["role"] = .string(role)
    if let calls = message["tool_calls"]?.arrayValue {
      message["tool_calls"] = .array(calls.map(withParsedArguments))
    }
    if fields["content"] == nil && role == "assistant" {
      // Beside calls, templates tell null from an empty text.
      if message["tool_calls"]?.arrayValue?.isEmpty ?? true { message["content"] = "" }
    } else if takesParts && fields["content"]?.arrayValue != nil {
      _ = try content(fields)
    } else {
      message["content"] = .string(try content(fields))
    }
    return message
  }

  /// OpenAI's API has a call's arguments as the text of a JSON object; templates want the object.
  private static func withParsedArguments(_ call: JSONValue) -> JSONValue {
    guard var object = call.objectValue, var function = object["function"]?.objectValue,
      let text = function["arguments"]?.stringValue, let arguments = try? JSONValue.parse(text),
      arguments.objectValue != nil
    else { return call }
    function["arguments"] = arguments
    object["function"] = .object(function)
    return .object(object)
  }

  /// A string, or an array of parts with text.
  private static func content(_ message: JSONFields) throws(JSONFieldError) -> String {
    guard let value = message["content"] else { throw message.error("content", .missing) }
    if let text = value.stringValue { return text }
    guard let parts = value.arrayValue else {
      throw message.unexpected("content", expected: "a string or an array of parts")
    }
    var texts: [String] = []
    for part in parts {
      guard part["type"]?.stringValue == "text", let text = part["text"]?.stringValue else {
        throw message.unsupported("content", because: "all parts must be of type text")
      }
      texts.append(text)
    }
    // As vLLM joins them for templates that take text only.
    return texts.joined(separator: "\n")
  }
}
