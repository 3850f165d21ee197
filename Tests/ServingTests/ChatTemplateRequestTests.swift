import Generation
import JSON
import Serving
import TestSupport
import Testing
import Tokenization

/// Requests to a model with a chat template of its own: what the template is told.
@Suite struct ChatTemplateRequestTests {
  static let usual = """
    {%- if tools %}[{{ tools | length }} tools]{% endif %}{% if enable_thinking is defined %}[{{ enable_thinking }}]{% endif %}
    {%- for m in messages %}<{{ m.role }}>{{ m.content }}
    {%- for c in m.tool_calls or [] %}({{ c.function.name }} {{ c.function.arguments.city }}){% endfor %}</>{% endfor %}
    {%- if add_generation_prompt %}<assistant>{% endif %}
    """
  static let parts = "{% for p in messages[0].content %}<{{ p.text }}>{% endfor %}"

  /// The prompt as text.
  static func prompt(_ json: String, template: String = usual) throws -> String {
    let engine = GenerationEngine(
      model: StandInModel(answer: nil), tokenizer: ByteTokenizer(),
      limits: SchedulerLimits(parallel: 1, queue: 8, contextLimit: 200, budgetTokens: 200))
    let model = ServedModel(
      name: "m", engine: engine, tokenizer: ByteTokenizer(),
      template: .own(ModelTemplate(source: template, label: "t")), stopTokens: [],
      defaults: SamplingDefaults())
    let request = try AnswerRequest(
      chat: JSONFields(body: Array(json.utf8)), models: ServedModels([model], namesAreExact: false))
    return try ByteTokenizer().decode(request.prompts[0])
  }

  static let user = #"{"role": "user", "content": "Hi"}"#

  @Test(arguments: [
    (#"{"messages": [\#(user)]}"#, "<user>Hi</><assistant>"),
    (#"{"messages": [\#(user)], "add_generation_prompt": false}"#, "<user>Hi</>"),
    (
      #"{"messages": [\#(user)], "tools": [{}, {}], "tool_choice": "auto"}"#,
      "[2 tools]<user>Hi</><assistant>"
    ),
    (#"{"messages": [\#(user)], "enable_thinking": false}"#, "[False]<user>Hi</><assistant>"),
    (
      #"{"messages": [\#(user)], "chat_template_kwargs": {"enable_thinking": true}}"#,
      "[True]<user>Hi</><assistant>"
    ),
    (
      #"{"messages": [\#(user), {"role": "assistant", "content": "We"}], "continue_final_message": true}"#,
      "<user>Hi</><assistant>We"
    ),
    (
      #"{"messages": [{"role": "assistant", "content": null}, {"role": "tool", "content": "7"}]}"#,
      "<assistant></><tool>7</><assistant>"
    ),
    (
      #"{"messages": [{"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "f", "arguments": "{\"city\": \"X\"}"}}]}]}"#,
      "<assistant>(f X)</><assistant>"
    ),
  ])
  func fieldsReachTheTemplate(json: String, expected: String) throws {
    #expect(try Self.prompt(json) == expected)
  }

  /// A template that reads lists gets the list, another one the text.
  @Test func partsReachTemplatesThatReadThem() throws {
    let json =
      #"{"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}]}"#
    #expect(try Self.prompt(json, template: Self.parts) == "<a><b>")
    #expect(try Self.prompt(json).hasPrefix("<user>a\nb"))
  }

  @Test(arguments: [
    (#""tool_choice": "required""#, "tool_choice"),
    (#""continue_final_message": 1"#, "continue_final_message"),
    (#""continue_final_message": true, "add_generation_prompt": true"#, "continue_final_message"),
    (#""chat_template_kwargs": {"bos_token": "<x>"}"#, "chat_template_kwargs"),
    (#""chat_template_kwargs": {"chat_template": "x"}"#, "chat_template_kwargs"),
  ])
  func namesTheFieldThatIsWrong(fields: String, name: String) throws {
    let error = #expect(throws: JSONFieldError.self) {
      try Self.prompt("{\"messages\": [\(Self.user)], \(fields)}")
    }
    #expect(error?.field == name)
  }

  /// A template that has a place for developers gets their messages; others get them as the system's.
  @Test func developersAreTheSystemUnlessTheTemplateKnowsThem() throws {
    let json = #"{"messages": [{"role": "developer", "content": "Be brief."}]}"#
    #expect(try Self.prompt(json) == "<system>Be brief.</><assistant>")
    let knowing = Self.usual + "{% if messages[0].role == 'developer' %}!{% endif %}"
    #expect(try Self.prompt(json, template: knowing) == "<developer>Be brief.</><assistant>!")
  }

  /// As in vLLM: the effort decides whether a template that only knows thinking lets the model think.
  @Test func effortDecidesThinkingUnlessThatIsSaid() throws {
    for (fields, mark) in [
      (#""reasoning_effort": "none""#, "[False]"), (#""reasoning_effort": "high""#, "[True]"),
      (#""reasoning_effort": "high", "enable_thinking": false"#, "[False]"),
      (#""reasoning_effort": "none", "chat_template_kwargs": {"enable_thinking": true}"#, "[True]"),
    ] {
      #expect(try Self.prompt("{\"messages\": [\(Self.user)], \(fields)}").hasPrefix(mark))
    }
  }

  /// What the template would leave out without a word is refused by name.
  @Test(arguments: [
    (#""tools": [{"type": "function"}]"#, "tools"), (#""documents": [{"text": "x"}]"#, "documents"),
    (
      #""messages": [{"role": "assistant", "content": "", "tool_calls": [{"id": "1"}]}]"#,
      "messages[0].tool_calls"
    ),
  ])
  func whatTheTemplateHasNoPlaceForIsRefused(fields: String, name: String) throws {
    let json = fields.hasPrefix("\"messages") ? "{\(fields)}" : "{\"messages\": [\(Self.user)], \(fields)}"
    let plain = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"
    let error = #expect(throws: JSONFieldError.self) { try Self.prompt(json, template: plain) }
    #expect(error?.field == name)
    let whole = "{{ messages | tojson }}{{ tools | tojson }}{{ documents | tojson }}"
    #expect(throws: Never.self) { try Self.prompt(json, template: whole) }
  }

  @Test func aRefusalInTheTemplatesWordsIsTheClientsError() throws {
    let error = #expect(throws: ChatTemplateError.self) {
      try Self.prompt(
        "{\"messages\": [\(Self.user)]}", template: "{{ raise_exception('Roles must alternate.') }}")
    }
    let described = APIError(describing: try #require(error))
    #expect(described.status.code == 400 && described.message == "Roles must alternate.")
  }
}
