import Files

/// One turn of a conversation.
package struct ChatMessage: Equatable, Sendable {
  package var role: String
  package var content: String
  package init(role: String, content: String) {
    self.role = role
    self.content = content
  }
}

/// How a conversation becomes ids. Each piece is encoded separately, so that a newline of the frame never merges with
/// the content.
package enum ChatTemplate: Equatable, Sendable {
  /// `<|im_start|>role\ncontent<|im_end|>\n`; a conversation without a system message gets `defaultSystem`, if any.
  case chatML(defaultSystem: String?)
  /// `<|start_header_id|>role<|end_header_id|>\n\ncontent<|eot_id|>`, after `<|begin_of_text|>`.
  case llama3

  /// Which of the two a model uses, from its special tokens, or nil when neither.
  package static func detected(tokenizer: any Tokenizer, files: (any ModelFiles)? = nil) throws
    -> ChatTemplate?
  {
    let specials = tokenizer.specialTokens
    if specials["<|im_start|>"] != nil && specials["<|im_end|>"] != nil {
      if tokenizer is ZhinaoTokenizer { return .chatML(defaultSystem: "You are a helpful assistant.") }
      // transformers writes a file of its own for what used to be a field.
      let template =
        try files?.bytes(named: "chat_template.jinja").map { String(decoding: $0, as: UTF8.self) }
        ?? files?.json(named: "tokenizer_config.json")?["chat_template"]?.stringValue
      return .chatML(defaultSystem: template.flatMap(defaultSystem))
    }
    if specials["<|start_header_id|>"] != nil && specials["<|eot_id|>"] != nil { return .llama3 }
    return nil
  }

  /// The system message a ChatML template puts in by itself: the literal between `<|im_start|>system\n` and
  /// `<|im_end|>`.
  private static func defaultSystem(ofTemplate template: String) -> String? {
    for newline in ["\\n", "\n"] {
      guard let start = template.bytes.range(of: "<|im_start|>system" + newline),
        let end = template.bytes.range(of: "<|im_end|>", from: start.upperBound)
      else { continue }
      let text = template[start.upperBound..<end.lowerBound].bytes
      if !text.contains("{") && !text.contains("'") && !text.contains("+") { return text.text }
    }
    return nil
  }

  /// Ids of a conversation.
  /// - Parameters:
  ///   - contents: whether special tokens in messages are tokens (the reference) or text (safe for untrusted input).
  ///   - addingGenerationPrompt: ends with the opening of an assistant turn.
  package func encode(
    _ messages: [ChatMessage], tokenizer: any Tokenizer, contents: SpecialTokens = .recognized,
    addingGenerationPrompt: Bool
  ) -> [Int] {
    var ids: [Int] = []
    func special(_ name: String) { if let id = tokenizer.specialTokens[name] { ids.append(id) } }
    func text(_ text: String, _ specials: SpecialTokens = .plain) {
      ids += tokenizer.encode(text, specials: specials, addingAffixes: false)
    }
    switch self {
    case .chatML(let defaultSystem):
      var messages = messages
      if let defaultSystem, messages.first?.role.hasSameBytes(as: "system") != true {
        messages.insert(ChatMessage(role: "system", content: defaultSystem), at: 0)
      }
      for message in messages {
        special("<|im_start|>")
        text(message.role)
        text("\n")
        text(message.content, contents)
        special("<|im_end|>")
        text("\n")
      }
      if addingGenerationPrompt {
        special("<|im_start|>")
        text("assistant")
        text("\n")
      }
    case .llama3:
      func header(_ role: String) {
        special("<|start_header_id|>")
        text(role)
        special("<|end_header_id|>")
        text("\n\n")
      }
      special("<|begin_of_text|>")
      for message in messages {
        header(message.role)
        text(message.content.bytes.trimmed, contents)
        special("<|eot_id|>")
      }
      if addingGenerationPrompt { header("assistant") }
    }
    return ids
  }

  /// Tokens that end an assistant's turn.
  package func stopTokens(_ tokenizer: any Tokenizer) -> [Int] {
    let names: [String] =
      switch self {
      case .chatML: ["<eod>", "<|im_end|>", "<|im_start|>", "<|endoftext|>"]
      case .llama3: ["<|eot_id|>", "<|end_of_text|>"]
      }
    return names.compactMap { tokenizer.specialTokens[$0] }
  }
}
