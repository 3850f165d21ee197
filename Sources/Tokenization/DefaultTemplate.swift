import Files
import JSON
import Templates

/// The conversation formats of models that bring no template.
enum DefaultTemplate {
  case chatML(defaultSystem: String?)
  case llama3

  /// The special tokens of these formats; each is a segment of its own.
  static let tokens: Set<ByteText> = [
    "<|im_start|>", "<|im_end|>", "<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>",
    "<|eot_id|>",
  ]

  /// - Throws: ``ChatTemplateError`` for parts of a conversation that these formats cannot say.
  func segments(of prompt: ChatPrompt) throws(ChatTemplateError) -> [TemplateSegment] {
    if prompt.continuesFinalMessage && prompt.addsGenerationPrompt { throw error(.continuesAndBegins) }
    if prompt.hasTools { throw error(.noPlace("tools")) }
    var messages: [ChatMessage] = []
    for message in prompt.messages { messages.append(try text(of: message)) }
    var segments: [TemplateSegment] = []
    func frame(_ text: String) { segments.append(TemplateSegment(text: text, isFromTemplate: true)) }
    func data(_ text: String) { segments.append(TemplateSegment(text: text, isFromTemplate: false)) }
    var isLlama3 = false
    if case .llama3 = self { isLlama3 = true }
    func open(_ role: String) {
      frame(isLlama3 ? "<|start_header_id|>" : "<|im_start|>")
      data(role)
      if isLlama3 { frame("<|end_header_id|>") }
      frame(isLlama3 ? "\n\n" : "\n")
    }
    if isLlama3 { frame("<|begin_of_text|>") }
    if case .chatML(let system?) = self, messages.first?.role.hasSameBytes(as: "system") != true {
      messages.insert(ChatMessage(role: "system", content: system), at: 0)
    }
    for (index, message) in messages.enumerated() {
      open(message.role)
      data(isLlama3 ? message.content.bytes.trimmed : message.content)
      if prompt.continuesFinalMessage && index == messages.count - 1 {
        guard !message.content.isEmpty else { throw error(.nothingToContinue) }
        continue
      }
      frame(isLlama3 ? "<|eot_id|>" : "<|im_end|>")
      if !isLlama3 { frame("\n") }
    }
    if prompt.addsGenerationPrompt { open("assistant") }
    return segments
  }

  private func error(_ reason: ChatTemplateError.Reason) -> ChatTemplateError {
    ChatTemplateError(reason, path: "default chat template")
  }

  private func text(of message: JSONObject) throws(ChatTemplateError) -> ChatMessage {
    guard let role = message["role"]?.stringValue else { throw error(.noPlace("a message without a role")) }
    if let calls = message["tool_calls"], !calls.isNull, calls != [] { throw error(.noPlace("tool calls")) }
    if role.hasSameBytes(as: "tool") { throw error(.noPlace("the role \"tool\"")) }
    switch message["content"] ?? .null {
    case .string(let text): return ChatMessage(role: role, content: text)
    case .null: return ChatMessage(role: role, content: "")
    default: throw error(.noPlace("a content that is not text"))
    }
  }
}
