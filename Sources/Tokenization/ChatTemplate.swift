import Files
import JSON
import Templates

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
  /// The model's own template.
  case own(ModelTemplate)
  /// `<|im_start|>role\ncontent<|im_end|>\n`; a conversation without a system message gets `defaultSystem`, if any.
  case chatML(defaultSystem: String?)
  /// `<|start_header_id|>role<|end_header_id|>\n\ncontent<|eot_id|>`, after `<|begin_of_text|>`.
  case llama3

  /// The model's own template; without one the default that its special tokens speak for, or nil when there is none.
  package static func detected(tokenizer: any Tokenizer, files: (any ModelFiles)? = nil) throws
    -> ChatTemplate?
  {
    if let files, let own = try ModelTemplate(files) { return .own(own) }
    let specials = tokenizer.specialTokens
    if specials["<|im_start|>"] != nil && specials["<|im_end|>"] != nil {
      return .chatML(
        defaultSystem: tokenizer is ZhinaoTokenizer ? "You are a helpful assistant." : nil)
    }
    if specials["<|start_header_id|>"] != nil && specials["<|eot_id|>"] != nil { return .llama3 }
    return nil
  }

  /// What a person must know of how the template was chosen, or nil.
  package var note: String? {
    switch self {
    case .own(let template): template.note
    case .chatML(let system):
      "the model has no chat template; ChatML is used, "
        + (system.map { "with the default system message \"\($0)\"" } ?? "without a default system message")
    case .llama3: "the model has no chat template; that of Llama 3 is used"
    }
  }

  /// Ids of a conversation.
  /// - Parameters:
  ///   - contents: whether special tokens in messages are tokens (the reference) or text (safe for untrusted input).
  ///   - addingGenerationPrompt: ends with the opening of an assistant turn.
  /// - Throws: ``ChatTemplateError`` when the model's own template refuses the conversation or is wrong.
  package func encode(
    _ messages: [ChatMessage], tokenizer: any Tokenizer, contents: SpecialTokens = .recognized,
    addingGenerationPrompt: Bool
  ) throws(ChatTemplateError) -> [Int] {
    try encode(
      ChatPrompt(messages, addingGenerationPrompt: addingGenerationPrompt), tokenizer: tokenizer,
      contents: contents)
  }

  /// Ids of a conversation, with what else the template is told.
  /// - Throws: ``ChatTemplateError``.
  package func encode(
    _ prompt: ChatPrompt, tokenizer: any Tokenizer, contents: SpecialTokens
  ) throws(ChatTemplateError) -> [Int] {
    encode(try segments(of: prompt), tokenizer: tokenizer, contents: contents)
  }

  /// The conversation as ``segments(of:)`` has it, with the places of the template's `{% generation %}` blocks.
  /// - Throws: ``ChatTemplateError``.
  package func rendering(of prompt: ChatPrompt) throws(ChatTemplateError) -> TemplateRendering {
    if case .own(let template) = self { return try template.rendering(of: prompt) }
    return TemplateRendering(segments: try segments(of: prompt), generationRanges: [])
  }

  /// Where the template is from, for messages.
  package func label(of prompt: ChatPrompt) -> String {
    if case .own(let template) = self {
      template.label(forTools: prompt.hasTools)
    } else {
      "default chat template"
    }
  }

  /// Ids of segments. Nothing is added at either end: what begins a prompt, the template writes.
  ///
  /// A model's own template is encoded as transformers encodes the text that it renders: special tokens cut it, and the
  /// text between two of them is one piece, whoever wrote its parts. A default template encodes each segment separately, as
  /// 360Zhinao's own code does, unless the tokenizer would take each for the start of a text.
  /// - Parameter continuing: whether the segments go on after others, so that no text begins anew.
  package func encode(
    _ segments: [TemplateSegment], tokenizer: any Tokenizer, contents: SpecialTokens, continuing: Bool = false
  ) -> [Int] {
    if isOwn || tokenizer.marksTextStart {
      return encodeAsOneText(segments, tokenizer: tokenizer, contents: contents, continuing: continuing)
    }
    return segments.flatMap { segment in
      // A default template leaves out the tokens that the vocabulary does not have.
      if segment.isFromTemplate && DefaultTemplate.tokens.contains(ByteText(segment.text)) {
        return tokenizer.specialTokens[segment.text].map { [$0] } ?? []
      }
      return tokenizer.encode(
        segment.text, specials: segment.isFromTemplate ? .recognized : contents, addingAffixes: false)
    }
  }

  private func encodeAsOneText(
    _ segments: [TemplateSegment], tokenizer: any Tokenizer, contents: SpecialTokens, continuing: Bool
  ) -> [Int] {
    guard contents == .plain else {
      let text = segments.map(\.text).joined()
      return continuing
        ? tokenizer.encodeContinuation(text, specials: .recognized)
        : tokenizer.encode(text, specials: .recognized, addingAffixes: false)
    }
    let splitter = tokenizer.specialSplitter
    var ids: [Int] = []
    var text: [UInt8] = []
    func encodeText() {
      guard !text.isEmpty else { return }
      let piece = String(decoding: text, as: UTF8.self)
      ids +=
        ids.isEmpty && !continuing
        ? tokenizer.encode(piece, specials: .plain, addingAffixes: false)
        : tokenizer.encodeContinuation(piece, specials: .plain)
      text.removeAll(keepingCapacity: true)
    }
    for segment in segments {
      guard segment.isFromTemplate else {
        text += segment.text.utf8
        continue
      }
      let bytes = Array(segment.text.utf8)
      bytes.withUnsafeBufferPointer {
        splitter.forEachSegment(of: $0) { piece in
          switch piece {
          case .text(let range): text += bytes[range]
          case .token(let id, _):
            encodeText()
            ids.append(id)
          }
        }
      }
    }
    encodeText()
    return ids
  }

  /// Whether it is the model's own and speaks of something, for example of the role `developer`.
  package func names(_ word: String) -> Bool {
    if case .own(let template) = self { template.names(word) } else { false }
  }

  /// Whether a variable or a member of messages can come into the prompt: the template speaks of it, or writes whole values as JSON.
  package func canShow(_ name: String) -> Bool { names(name) || names("tojson") }

  /// Whether it is the model's own.
  package var isOwn: Bool { if case .own = self { true } else { false } }

  /// The conversation in segments that are the template's or the conversation's.
  /// - Throws: ``ChatTemplateError``.
  package func segments(of prompt: ChatPrompt) throws(ChatTemplateError) -> [TemplateSegment] {
    switch self {
    case .own(let template): try template.segments(of: prompt)
    case .chatML(let defaultSystem):
      try DefaultTemplate.chatML(defaultSystem: defaultSystem).segments(of: prompt)
    case .llama3: try DefaultTemplate.llama3.segments(of: prompt)
    }
  }

  /// Whether a message's content may be a list of parts; otherwise it must be text.
  package var takesParts: Bool {
    if case .own(let template) = self { template.takesParts() } else { false }
  }

  /// Whether calls of tools in a conversation are written.
  package var writesToolCalls: Bool {
    if case .own(let template) = self { template.writesToolCalls() } else { false }
  }

  /// Whether descriptions of tools are written.
  package var writesTools: Bool {
    if case .own(let template) = self { template.writesTools() } else { false }
  }

  /// Tokens that end an assistant's turn.
  package func stopTokens(_ tokenizer: any Tokenizer) -> [Int] {
    let chatML = ["<eod>", "<|im_end|>", "<|im_start|>", "<|endoftext|>"]
    let llama3 = ["<|eot_id|>", "<|end_of_text|>"]
    let specials = tokenizer.specialTokens
    let names: [String] =
      switch self {
      case .chatML: chatML
      case .llama3: llama3
      case .own(let template):
        (specials["<|im_start|>"] != nil && specials["<|im_end|>"] != nil
          ? chatML : specials["<|start_header_id|>"] != nil && specials["<|eot_id|>"] != nil ? llama3 : [])
          + (template.endToken.map { [$0] } ?? [])
      }
    return names.compactMap { specials[$0] }
  }
}
