import Files
import JSON
import Templates

/// The chat template that a model brings: one, or several of which `tool_use` is for conversations with tools.
package struct ModelTemplate: Equatable, Sendable {
  private struct Named: Equatable, Sendable {
    let name: String
    let source: String
    /// The file, and the template's name where the file holds several.
    let label: String
    /// A template that does not compile is an error for whoever needs it, and nobody else.
    let compiled: Result<Template, TemplateError>

    init(name: String, source: String, label: String) {
      self.name = name
      self.source = source
      self.label = label
      do throws(TemplateError) { compiled = .success(try Template(source)) } catch {
        compiled = .failure(error)
      }
    }

    static func == (a: Named, b: Named) -> Bool {
      a.name.hasSameBytes(as: b.name) && a.source.hasSameBytes(as: b.source)
    }
  }

  private let templates: [Named]
  /// The special tokens that templates know by name, with their text.
  private let tokens: [TemplateMember]
  /// What was chosen among files that disagree, or nil.
  package let note: String?

  /// A template from a file of its own.
  package init(source: String, label: String) {
    templates = [Named(name: ModelTemplate.usual, source: source, label: label)]
    tokens = []
    note = nil
  }

  private static let usual = "default"
  private static let forTools = "tool_use"
  private static let folder = "additional_chat_templates/"

  /// The template among a model's files, or nil when there is none.
  ///
  /// As in transformers, `chat_template.jinja` counts before `chat_template` in `tokenizer_config.json`; `chat_template.json`, which
  /// processors have, counts last.
  package init?(_ files: any ModelFiles) throws {
    let configuration = try files.json(named: "tokenizer_config.json")
    let inConfiguration = ModelTemplate.templates(
      configuration?["chat_template"], label: files.label(of: "tokenizer_config.json"))
    var found: [Named] = []
    if let bytes = try files.bytes(named: "chat_template.jinja") {
      found.append(
        Named(
          name: ModelTemplate.usual, source: String(decoding: bytes, as: UTF8.self),
          label: files.label(of: "chat_template.jinja")))
    }
    for name in try ModelTemplate.additionalNames(files, hasUsual: !found.isEmpty) {
      guard let bytes = try files.bytes(named: ModelTemplate.folder + name + ".jinja") else { continue }
      found.append(
        Named(
          name: name, source: String(decoding: bytes, as: UTF8.self),
          label: files.label(of: ModelTemplate.folder + name + ".jinja")))
    }
    let differs = !found.isEmpty && !inConfiguration.isEmpty && found[0] != inConfiguration[0]
    note =
      differs
      ? "\(files.location): chat_template.jinja and tokenizer_config.json have different chat templates; the first one is used"
      : nil
    if found.isEmpty { found = inConfiguration }
    if found.isEmpty {
      found = ModelTemplate.templates(
        try files.json(named: "chat_template.json")?["chat_template"],
        label: files.label(of: "chat_template.json"))
    }
    guard !found.isEmpty else { return nil }
    templates = found
    tokens = try ModelTemplate.tokens(files, configuration)
  }

  /// Names of templates in a folder of their own, where transformers puts those that are not `default`.
  private static func additionalNames(_ files: any ModelFiles, hasUsual: Bool) throws -> [String] {
    guard hasUsual else { return [] }
    return files.names.compactMap { $0.bytes.dropping(prefix: folder)?.bytes.dropping(suffix: ".jinja") }
  }

  /// A string, or a list of `{"name": …, "template": …}`.
  private static func templates(_ value: JSONValue?, label: String) -> [Named] {
    if let source = value?.stringValue { return [Named(name: usual, source: source, label: label)] }
    let entries = value?.arrayValue ?? []
    return entries.compactMap { entry in
      guard let name = entry["name"]?.stringValue, let source = entry["template"]?.stringValue else {
        return nil
      }
      return Named(name: name, source: source, label: "\(label), template \"\(name)\"")
    }
  }

  private static func tokens(_ files: any ModelFiles, _ configuration: JSONValue?) throws -> [TemplateMember]
  {
    let map = try? files.json(named: "special_tokens_map.json")
    return ChatPrompt.tokenNames.compactMap { name in
      for source in [configuration, map] {
        let value = source?[name.text]
        if let text = value?.stringValue ?? value?["content"]?.stringValue {
          return TemplateMember(name.text, .templateText(text))
        }
      }
      return nil
    }
  }

  // MARK: What it says

  /// The source of the template for conversations without tools.
  package var source: String { chosen(forTools: false).source }

  /// Whether one of the templates that conversations are written with has the word.
  func names(_ word: String) -> Bool {
    chosen(forTools: false).source.bytes.contains(word) || chosen(forTools: true).source.bytes.contains(word)
  }

  private func chosen(forTools: Bool) -> Named {
    let wanted = forTools ? [ModelTemplate.forTools, ModelTemplate.usual] : [ModelTemplate.usual]
    for name in wanted {
      if let template = templates.first(where: { $0.name.hasSameBytes(as: name) }) { return template }
    }
    return templates[0]
  }

  /// The text of the token that ends texts, or nil when the files do not name it.
  var endToken: String? {
    guard case .templateText(let text)? = tokens.first(where: { $0.key == "eos_token" })?.value else {
      return nil
    }
    return text
  }

  /// The conversation as the template writes it, in segments that are the template's or the conversation's.
  /// - Throws: ``ChatTemplateError``.
  package func segments(of prompt: ChatPrompt) throws(ChatTemplateError) -> [TemplateSegment] {
    let path = label(forTools: prompt.hasTools)
    if prompt.continuesFinalMessage && prompt.addsGenerationPrompt {
      throw ChatTemplateError(.continuesAndBegins, path: path)
    }
    let segments = try rendering(of: prompt).segments
    guard prompt.continuesFinalMessage else { return segments }
    guard let open = ModelTemplate.cut(segments, after: prompt.finalText) else {
      throw ChatTemplateError(.nothingToContinue, path: path)
    }
    return open
  }

  /// What the template writes, with the places of its `{% generation %}` blocks; the final message is not continued.
  /// - Throws: ``ChatTemplateError``.
  package func rendering(of prompt: ChatPrompt) throws(ChatTemplateError) -> TemplateRendering {
    let template = chosen(forTools: prompt.hasTools)
    do throws(TemplateError) {
      return try template.compiled.get().render(
        prompt.members(tokens: tokens), clock: prompt.clock ?? .now)
    } catch { throw ChatTemplateError(.template(error), path: template.label) }
  }

  /// The file and, where it holds several, the name of the template.
  package func label(forTools: Bool) -> String { chosen(forTools: forTools).label }

  /// What the template writes up to the last place where it has `text`: where the text is as it was given, with the
  /// spaces at its end, otherwise without.
  private static func cut(_ segments: [TemplateSegment], after text: String?) -> [TemplateSegment]? {
    guard let text, !text.bytes.trimmed.isEmpty else { return nil }
    let whole = Array(segments.map(\.text).joined().utf8)
    let core = Array(text.bytes.trimmed.utf8)
    guard let start = lastStart(of: core, in: whole) else { return nil }
    let leading = Array(text.utf8).firstRange(of: core)?.lowerBound ?? 0
    let trailing = Array(text.utf8).dropFirst(leading)
    var end = start + core.count
    if whole[start...].starts(with: trailing) { end = start + trailing.count }
    var result: [TemplateSegment] = []
    var position = 0
    for segment in segments where position < end {
      let count = min(segment.text.utf8.count, end - position)
      result.append(
        TemplateSegment(
          text: String(decoding: segment.text.utf8.prefix(count), as: UTF8.self),
          isFromTemplate: segment.isFromTemplate))
      position += segment.text.utf8.count
    }
    return result
  }

  private static func lastStart(of part: [UInt8], in whole: [UInt8]) -> Int? {
    var start = whole.count - part.count
    while start >= 0 {
      if whole[start...].starts(with: part) { return start }
      start -= 1
    }
    return nil
  }

  /// Whether the template itself takes lists of parts: a probe's text comes through, and not as a list is printed.
  package func takesParts() -> Bool {
    let part = JSONValue.object(JSONObject([("type", "text"), ("text", .string(ModelTemplate.probe))]))
    let message = JSONObject([("role", "user"), ("content", .array([part]))])
    guard let text = writesProbe(ChatPrompt([message], addingGenerationPrompt: false)) else { return false }
    return !text.bytes.contains("'text'") && !text.bytes.contains("\"text\"")
  }

  private static let probe = "probe8c1f"

  /// What the template writes, when the probe is in it.
  private func writesProbe(_ prompt: ChatPrompt) -> String? {
    guard let segments = try? segments(of: prompt) else { return nil }
    let text = segments.map(\.text).joined()
    return text.bytes.contains(ModelTemplate.probe) ? text : nil
  }

  /// Whether the template writes calls of tools; one that does not know them leaves them out without a word.
  func writesToolCalls() -> Bool {
    let call: JSONValue = [
      "type": "function", "function": ["name": .string(ModelTemplate.probe), "arguments": [:]],
    ]
    // Templates want the content of a message with calls as null, as an empty text, or as either.
    return [JSONValue.null, ""].contains { content in
      let messages = [
        JSONObject([("role", "user"), ("content", "x")]),
        JSONObject([("role", "assistant"), ("content", content), ("tool_calls", .array([call]))]),
      ]
      return writesProbe(ChatPrompt(messages, addingGenerationPrompt: false)) != nil
    }
  }

  /// Whether the template writes descriptions of tools.
  func writesTools() -> Bool {
    var prompt = ChatPrompt([ChatMessage(role: "user", content: "x")], addingGenerationPrompt: false)
    let function: JSONValue = [
      "name": .string(ModelTemplate.probe), "description": "x",
      "parameters": ["type": "object", "properties": [:], "required": []],
    ]
    prompt.variables["tools"] = [["type": "function", "function": function]]
    return writesProbe(prompt) != nil
  }
}

extension ChatPrompt {
  /// The text of the final message: its content, or the last of its parts that has one.
  fileprivate var finalText: String? {
    let content = messages.last?["content"]
    return content?.stringValue
      ?? content?.arrayValue?.last { $0["text"]?.stringValue != nil }?["text"]?.stringValue
  }
}
