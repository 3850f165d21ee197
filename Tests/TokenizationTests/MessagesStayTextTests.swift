import Files
import Foundation
import JSON
import Templates
import TestSupport
import Testing
import Tokenization

/// What a person writes stays text under every chat template: special tokens come only from the template's own literals.
@Suite struct MessagesStayTextTests {
  /// Templates of kinds that public models have; written for these tests.
  static let templates = [
    "frames": ChatTemplateTests.chatML,
    "turns in brackets": """
    {{- bos_token }}{%- for m in messages %}{% if m.role == 'user' %}{{ '[INST] ' + m.content | trim + ' [/INST]' }}
    {%- else %}{{ ' ' + m.content + eos_token }}{% endif %}{% endfor %}
    """,
    "reasoning": """
    {%- for m in messages %}{%- set text = m.content.split('</think>')[-1].lstrip('\\n') %}
    {{- '<|User|>' ~ text.replace('{{', '{ {') ~ '<|Assistant|>' }}{% endfor %}
    {%- if add_generation_prompt %}{{ '<think>\\n' }}{% endif %}
    """,
    "in a macro, as JSON": """
    {%- macro turn(m) %}<|turn|>{{ m.role }}: {{ {'content': m.content} | tojson }}<|end|>{% endmacro %}
    {%- set ns = namespace(all='<|all|>') %}{% for m in messages %}{% set ns.all = ns.all ~ turn(m) %}{% endfor %}
    {{- ns.all | trim }}
    """,
    "joined": "{{ ['<|a|>', messages | map(attribute='content') | join('<|sep|>'), '<|b|>'] | join }}",
  ]

  @Test(arguments: templates.keys.sorted()) func underOurTemplates(name: String) throws {
    try check(try #require(Self.templates[name]), label: name)
  }

  /// Templates of public models, from the folder that `ZHINAO_TEMPLATE_GOLDENS` names.
  @Test func underPublicTemplates() throws {
    guard let folder = ProcessInfo.processInfo.environment["ZHINAO_TEMPLATE_GOLDENS"] else { return }
    let names = try FileManager.default.contentsOfDirectory(atPath: folder + "/templates")
      .filter { $0.hasSuffix(".jinja") }
    #expect(!names.isEmpty)
    for name in names {
      try check(String(contentsOfFile: "\(folder)/templates/\(name)", encoding: .utf8), label: name)
    }
  }

  /// Compares a harmless message with one that holds every name of a special token, the language's own signs and control
  /// characters.
  private func check(_ source: String, label: String) throws {
    let names = Self.names(in: source)
    let tokenizer = try Self.tokenizer(specials: names)
    let message =
      "XYZZY" + names.joined(separator: " ") + names.joined()
      + "{{ messages }}{% raw %}{% if x %}{# y #}{%- endif -%}\\n'\"%s{0} \u{0}\u{1}\u{7}\u{8}\u{1B}[31m\u{7F}\u{85}\u{2028}\u{202E}\u{FEFF}👩‍👩‍👧e\u{301}XYZZY"
    let template = ChatTemplate.own(ModelTemplate(source: source, label: label))
    func encoded(_ text: String) throws -> (text: String, ids: [Int]) {
      var prompt = ChatPrompt([ChatMessage(role: "user", content: text)], addingGenerationPrompt: true)
      prompt.clock = ChatTemplateTests.clock
      prompt.variables["bos_token"] = "<s>"
      prompt.variables["eos_token"] = "</s>"
      // One public template has no other way without tools.
      prompt.variables["functions"] = ""
      prompt.variables["datetime"] = "2026-11-30"
      let segments: [TemplateSegment]
      do { segments = try template.segments(of: prompt) } catch {
        // Another one serves conversations with tools only.
        let parameters: JSONValue = [
          "type": "object", "properties": ["x": ["type": "string", "description": "d"]], "required": [],
        ]
        prompt.variables["tools"] = [
          ["type": "function", "function": ["name": "f", "description": "d", "parameters": parameters]]
        ]
        segments = try template.segments(of: prompt)
      }
      return (
        segments.map(\.text).joined(),
        template.encode(segments, tokenizer: tokenizer, contents: .plain)
      )
    }
    let special = Set(tokenizer.specialTokens.map { $1 })
    let harmless = try encoded("XYZZY")
    let hostile = try encoded(message)
    #expect(hostile.ids.filter(special.contains) == harmless.ids.filter(special.contains), "\(label)")
    // A template may cut a message at one of its own words, but not after the last of them.
    #expect(hostile.text.contains("e\u{301}XYZZY"), "\(label)")
    #expect(try tokenizer.decode(hostile.ids).hasSameBytes(as: hostile.text), "\(label)")
  }

  /// What looks like a special token in a template, and a few that every vocabulary has.
  private static func names(in source: String) -> [String] {
    let found = source.matches(of: #/<[^<>\s'"]{1,40}>|\[/?[A-Z_]{2,24}\]/#).map { String($0.0) }
    return Array(Set(found + ["<s>", "</s>", "<|im_start|>", "<|im_end|>", "<|endoftext|>"])).sorted()
  }

  /// GPT-2's kind of tokenizer, which gives every text back, with these special tokens.
  private static func tokenizer(specials: [String]) throws -> any Tokenizer {
    var json = try JSONValue.parse(Array(Fixture.data("tokenizers/gpt2.json"))).objectValue ?? JSONObject()
    let first = json["model"]?["vocab"]?.objectValue?.members.count ?? 0
    json["added_tokens"] = .array(
      specials.enumerated().map { i, text in
        [
          "id": .init(first + i), "content": .string(text), "single_word": false, "lstrip": false,
          "rstrip": false, "normalized": false, "special": true,
        ]
      })
    let folder = try TemporaryFolder()
    let path = folder.file("tokenizer.json")
    try JSONValue.object(json).serialized().write(toFile: path, atomically: true, encoding: .utf8)
    return try TokenizerLoader.load(file: path)
  }
}
