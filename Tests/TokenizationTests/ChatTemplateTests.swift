import Files
import JSON
import Templates
import TestSupport
import Testing
import Tokenization

/// Models' own templates; those here are made for these tests.
@Suite struct ChatTemplateTests {
  static let clock = TemplateClock(year: 2026, month: 11, day: 30, hour: 12)
  static let chatML = """
    {%- for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>\\n' }}{% endfor %}
    {%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}
    """

  static func files(_ contents: [String: String]) -> EmbeddedFiles {
    EmbeddedFiles(
      location: "m",
      contents: Dictionary(
        uniqueKeysWithValues: contents.map { (ByteText($0.key), Array($0.value.utf8)) }))
  }

  static func tokenizer(_ name: String = "qwen2") throws -> any Tokenizer {
    try TokenizerLoader.load(file: Fixture.path("tokenizers/\(name).json"))
  }

  static func template(_ contents: [String: String]) throws -> ChatTemplate {
    try #require(try ChatTemplate.detected(tokenizer: tokenizer(), files: files(contents)))
  }

  static func text(_ template: ChatTemplate, _ edit: (inout ChatPrompt) -> Void = { _ in }) throws -> String {
    var prompt = ChatPrompt([ChatMessage(role: "user", content: "Hi")], addingGenerationPrompt: true)
    prompt.clock = clock
    edit(&prompt)
    return try template.segments(of: prompt).map(\.text).joined()
  }

  static func configuration(_ template: JSONValue) -> [String: String] {
    ["tokenizer_config.json": JSONValue.object(JSONObject([("chat_template", template)])).serialized()]
  }

  @Test(arguments: [
    (
      "{% if tools %}<tools>{% else %}{% if messages[0].role != 'system' %}<|im_start|>system\nBe Bo.<|im_end|>\n{% endif %}{% endif %}"
        + "{{ messages[0].content }}",
      "<|im_start|>system\nBe Bo.<|im_end|>\nHi"
    ),
    (
      "{{ messages[0].content }}{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% endif %}",
      "Hi<|im_start|>assistant\n<think>\n"
    ),
    ("{{ 'Today: ' + strftime_now('%d %b %Y') }}", "Today: 30 Nov 2026"),
    ("{% if tools is none and documents is none %}none{% endif %}", "none"),
  ])
  func theModelsTemplateIsRun(source: String, expected: String) throws {
    #expect(try Self.text(Self.template(["chat_template.jinja": source])) == expected)
    #expect(try Self.text(Self.template(Self.configuration(.string(source)))) == expected)
  }

  @Test func namedTemplatesAreChosenByTools() throws {
    let template = try Self.template(
      Self.configuration([
        ["name": "tool_use", "template": "with"], ["name": "default", "template": "without"],
      ]))
    #expect(try Self.text(template) == "without")
    #expect(try Self.text(template) { $0.variables["tools"] = [["type": "function"]] } == "with")
  }

  @Test func aFileOfItsOwnCountsFirstAndSaysSo() throws {
    var files = Self.configuration("b")
    files["chat_template.jinja"] = "a"
    let template = try Self.template(files)
    #expect(try Self.text(template) == "a")
    #expect(template.note?.contains("different chat templates") == true)
    #expect(try Self.template(["chat_template.jinja": "a"]).note == nil)
  }

  @Test func withoutATemplateTheDefaultSaysSo() throws {
    let template = try Self.template([:])
    #expect(template == .chatML(defaultSystem: nil) && template.note != nil)
  }

  /// A token that the template writes is there once, also where the tokenizer would add it.
  @Test func theBeginningIsNotDoubled() throws {
    let tokenizer = try Self.tokenizer("llama3")
    let begin = try #require(tokenizer.specialTokens["<|begin_of_text|>"])
    #expect(tokenizer.encode("a", specials: .plain, addingAffixes: true).first == begin)
    for token: JSONValue in ["<|begin_of_text|>", ["content": "<|begin_of_text|>"]] {
      let files = Self.files([
        "chat_template.jinja": "{{ bos_token }}{{ messages[0].content }}",
        "tokenizer_config.json": JSONValue.object(JSONObject([("bos_token", token)])).serialized(),
      ])
      let template = try #require(try ChatTemplate.detected(tokenizer: tokenizer, files: files))
      let ids = try template.encode(
        [ChatMessage(role: "user", content: "<|begin_of_text|>a")], tokenizer: tokenizer, contents: .plain,
        addingGenerationPrompt: false)
      #expect(ids.filter { $0 == begin }.count == 1 && ids.first == begin)
    }
  }

  @Test func messagesStayText() throws {
    let tokenizer = try Self.tokenizer()
    let names = tokenizer.specialTokens.keys.map(\.text).sorted()
    let content = names.joined(separator: " ") + "{{ bos_token }}{% raw %}{# \u{1}\u{202E}"
    for change in ["", " | trim", " | replace('zzz', 'y')", " + ''"] {
      let source = "<|im_start|>{{ messages[0].content\(change) }}<|im_end|>"
      let template = try Self.template(["chat_template.jinja": source])
      let ids = try template.encode(
        [ChatMessage(role: "user", content: content)], tokenizer: tokenizer, contents: .plain,
        addingGenerationPrompt: false)
      let specials = Set(tokenizer.specialTokens.values)
      #expect(ids.filter { specials.contains($0) } == [ids.first, ids.last].compactMap { $0 })
      #expect(try tokenizer.decode(Array(ids.dropFirst().dropLast())) == content)
    }
  }

  /// The template that says what the built-in format says gives the same ids.
  @Test func theBuiltInFormatAsATemplateGivesTheSameIds() throws {
    let tokenizer = try Self.tokenizer()
    let own = try Self.template(["chat_template.jinja": Self.chatML])
    let messages = [
      ChatMessage(role: "system", content: "Be brief."), ChatMessage(role: "user", content: "Hi <|im_end|>1"),
    ]
    for contents in [SpecialTokens.plain, .recognized] {
      #expect(
        try own.encode(messages, tokenizer: tokenizer, contents: contents, addingGenerationPrompt: true)
          == ChatTemplate.chatML(defaultSystem: nil).encode(
            messages, tokenizer: tokenizer, contents: contents, addingGenerationPrompt: true))
    }
  }

  /// As transformers does it: what the template and the conversation wrote between two special tokens is one piece.
  @Test func textBetweenSpecialTokensIsOnePiece() throws {
    let tokenizer = try Self.tokenizer()
    let own = try Self.template(["chat_template.jinja": Self.chatML])
    let messages = [ChatMessage(role: "user", content: "\n\n 1 + 1 \n")]
    let text = "<|im_start|>user\n\n\n 1 + 1 \n<|im_end|>\n<|im_start|>assistant\n"
    let expected = tokenizer.encode(text, specials: .recognized, addingAffixes: false)
    for contents in [SpecialTokens.plain, .recognized] {
      #expect(
        try own.encode(messages, tokenizer: tokenizer, contents: contents, addingGenerationPrompt: true)
          == expected)
    }
  }

  @Test func theFinalMessageIsContinued() throws {
    let final: JSONValue = ["role": "assistant", "content": "Well, I "]
    for template in [try Self.template(["chat_template.jinja": Self.chatML]), .chatML(defaultSystem: nil)] {
      let text = try Self.text(template) {
        $0.variables["messages"] = [["role": "user", "content": "Hi"], final]
        $0.variables["add_generation_prompt"] = false
        $0.continuesFinalMessage = true
      }
      #expect(text == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nWell, I ")
      #expect(throws: ChatTemplateError.self) { try Self.text(template) { $0.continuesFinalMessage = true } }
    }
  }

  @Test func errorsComeWhenAConversationIsWritten() throws {
    let broken = try Self.template(["chat_template.jinja": "a\n{% if %}"])
    let error = #expect(throws: ChatTemplateError.self) { try Self.text(broken) }
    #expect(error?.concernsConversation == false)
    #expect(error?.description.contains("m: chat_template.jinja") == true)
    #expect(error?.description.contains("line 2") == true)
    let refusing = try Self.template(["chat_template.jinja": "{{ raise_exception('No.') }}"])
    let refusal = #expect(throws: ChatTemplateError.self) { try Self.text(refusing) }
    #expect(refusal?.detail == "No." && refusal?.category == .badInput)
    #expect(refusal?.concernsConversation == true)
  }

  @Test func partsAreTakenWhereTheTemplateReadsThem() throws {
    #expect(
      try Self.template([
        "chat_template.jinja": "{% for p in messages[0].content %}{{ p.text }}{% endfor %}"
      ]).takesParts)
    #expect(try !Self.template(["chat_template.jinja": "{{ messages[0].content }}"]).takesParts)
    #expect(try !Self.template(["chat_template.jinja": Self.chatML]).takesParts)
  }

  @Test func numbersKeepTheirKind() throws {
    let json = try JSONValue.parse("[1, 1.0, 1e2, -0, 123456789012345678901234567890]")
    #expect(
      TemplateValue(json)
        == .array([
          .integer(1), .number(1), .number(100), .integer(0),
          .largeInteger("123456789012345678901234567890"),
        ]))
  }

  /// White space that a special token swallows is swallowed after a template's own token, whoever the text is from.
  @Test func specialTokensSwallowWhiteSpaceInTemplates() throws {
    var json = try JSONValue.parse(Array(Fixture.data("tokenizers/gpt2.json"))).objectValue ?? JSONObject()
    let id = 5000
    json["added_tokens"] = [
      [
        "id": .init(id), "content": "<|turn|>", "single_word": false, "lstrip": false, "rstrip": true,
        "normalized": false, "special": true,
      ]
    ]
    let tokenizer = try BytePairTokenizer(.object(json), path: "t")
    let template = ChatTemplate.own(
      ModelTemplate(source: "{{ '<|turn|>\\n' ~ messages[0].content }}", label: "t"))
    func ids(_ contents: SpecialTokens) throws -> [Int] {
      try template.encode(
        [ChatMessage(role: "user", content: "Hi")], tokenizer: tokenizer, contents: contents,
        addingGenerationPrompt: false)
    }
    #expect(try ids(.plain) == [id] + tokenizer.encode("Hi"))
    #expect(try ids(.plain) == ids(.recognized))
  }
}
