import Generation
import HummingbirdTesting
import JSON
import Serving
import TestSupport
import Testing

/// Fields of vLLM that decide which tokens an answer has and which text they leave.
@Suite struct TokenFieldTests {
  static func server(_ answer: [Int]) -> TestServer {
    TestServer(TestModel.standIn(StandInModel(answer: answer)))
  }

  /// The text of one answer.
  private static func text(of response: TestResponse, streams: Bool) throws -> String {
    try #require(response.status == .ok, "\(response.text)")
    let choices =
      streams
      ? try response.events().compactMap { $0["choices"]?.arrayValue?.first }
      : try #require(try response.json()["choices"]?.arrayValue)
    return choices.compactMap { choice in
      (choice["text"] ?? choice["message"]?["content"] ?? choice["delta"]?["content"])?.stringValue
    }.joined()
  }

  @Test(arguments: [
    ("\"max_tokens\": 5", "ok"), ("\"max_tokens\": 5, \"min_tokens\": 3", "ok\0ok"),
    ("\"max_tokens\": 5, \"ignore_eos\": true", "okok"),
    ("\"max_tokens\": 5, \"ignore_eos\": true, \"skip_special_tokens\": false", "ok<|im_end|>ok"),
    ("\"max_tokens\": 5, \"stop\": \"k\"", "o"),
    ("\"max_tokens\": 5, \"stop\": \"k\", \"include_stop_str_in_output\": true", "ok"),
    ("\"max_tokens\": 5, \"include_stop_str_in_output\": true", "ok"),
    (
      "\"max_tokens\": 5, \"include_stop_str_in_output\": true, \"skip_special_tokens\": false",
      "ok<|im_end|>"
    ),
    ("\"max_tokens\": 5, \"stop_token_ids\": [107], \"include_stop_str_in_output\": true", "ok"),
    ("\"max_tokens\": 2, \"bad_words\": [\"k\"]", "o\0"),
    ("\"max_tokens\": 2, \"bad_words\": [\"ok\"]", "o\0"),
    ("\"max_tokens\": 2, \"bad_words\": [\"xk\"]", "ok"),
    ("\"max_tokens\": 3, \"bad_words\": [\"<|im_end|>\"]", "ok\0"),
    ("\"max_tokens\": 2, \"allowed_token_ids\": [70, 65]", "AA"),
    ("\"max_tokens\": 2, \"spaces_between_special_tokens\": false", "ok"),
  ])
  func fieldsShapeTheAnswer(fields: String, expected: String) async throws {
    for (path, prompt) in [(RouteTests.chat, RouteTests.hello), ("/v1/completions", "\"prompt\": \"a\"")] {
      for streams in [false, true] {
        // A new server each: the model goes on where it was.
        try await Self.server([111, 107, 257]).run { client in
          let response = try await client.post(path, "{\(prompt), \(fields), \"stream\": \(streams)}")
          #expect(try Self.text(of: response, streams: streams) == expected, "\(path) \(streams)")
        }
      }
    }
  }

  /// A word is found whether it begins the text or follows a space, and in each of several answers.
  @Test func wordsAreBannedWithAndWithoutASpace() async throws {
    let body =
      "\"prompt\": \"a\", \"max_tokens\": 12, \"ignore_eos\": true, \"n\": 2, \"temperature\": 1, \"logprobs\": 0"
    try await TestServer().run { client in
      func tokens(_ words: [String]) async throws -> [[String]] {
        let list = JSONValue.array(words.map(JSONValue.string)).serialized()
        let answer = try await client.post(
          "/v1/completions", "{\(body), \"seed\": 4, \"bad_words\": \(list)}")
        return try #require(try answer.json()["choices"]?.arrayValue).map {
          ($0["logprobs"]?["tokens"]?.arrayValue ?? []).compactMap(\.stringValue)
        }
      }
      let spaced = try #require(
        try await tokens([]).joined().first { $0.hasPrefix(" ") && $0.utf8.count > 2 })
      let word = String(spaced.dropFirst())
      #expect(try await tokens([word]).allSatisfy { !$0.contains(spaced) && !$0.contains(word) })
    }
  }

  @Test func promptsAreCutFromTheLeft() async throws {
    try await Self.server([111]).run { client in
      func tokens(_ fields: String) async throws -> JSONValue? {
        try await client.post(
          "/v1/completions", "{\"prompt\": \"abcdef\", \"max_tokens\": 1, \"echo\": true, \(fields)}"
        ).json()["choices"]?.arrayValue?.first?["text"]
      }
      #expect(try await tokens("\"truncate_prompt_tokens\": 2") == "efo")
      #expect(try await tokens("\"truncate_prompt_tokens\": 2, \"truncation_side\": \"right\"") == "abo")
      #expect(try await tokens("\"truncate_prompt_tokens\": 20") == "abcdefo")
      // As much as leaves room for the answer.
      let long = String(repeating: "x", count: 500)
      let whole = try await client.post(
        "/v1/completions", "{\"prompt\": \"\(long)\", \"max_tokens\": 20, \"truncate_prompt_tokens\": -1}"
      ).json()
      #expect(whole["usage"]?["prompt_tokens"] == 180 && whole["usage"]?["completion_tokens"] == 20)
      // The endpoint's own maximum is 16.
      let usual = try await client.post(
        "/v1/completions", "{\"prompt\": \"\(long)\", \"truncate_prompt_tokens\": -1}"
      ).json()
      #expect(usual["usage"]?["prompt_tokens"] == 184 && usual["usage"]?["completion_tokens"] == 16)
      let chat = try await client.post(
        RouteTests.chat, "{\(RouteTests.hello), \"max_tokens\": 1, \"truncate_prompt_tokens\": 4}"
      ).json()
      #expect(chat["usage"]?["prompt_tokens"] == 4)
    }
  }

  @Test(arguments: [
    ("\"min_tokens\": -1", "min_tokens"), ("\"min_tokens\": 9, \"max_tokens\": 8", "min_tokens"),
    ("\"include_stop_str_in_output\": 1", "include_stop_str_in_output"),
    ("\"skip_special_tokens\": \"no\"", "skip_special_tokens"), ("\"bad_words\": [1]", "bad_words"),
    ("\"bad_words\": [\"\"]", "bad_words"), ("\"bad_words\": [\" \"]", "bad_words"),
    ("\"allowed_token_ids\": []", "allowed_token_ids"),
    ("\"allowed_token_ids\": [259]", "allowed_token_ids"),
    ("\"truncate_prompt_tokens\": 0", "truncate_prompt_tokens"),
    ("\"truncate_prompt_tokens\": -2", "truncate_prompt_tokens"),
    ("\"truncation_side\": \"middle\"", "truncation_side"), ("\"prompt_logprobs\": 21", "prompt_logprobs"),
    ("\"prompt_logprobs\": -1", "prompt_logprobs"),
    ("\"prompt_logprobs\": 1, \"stream\": true", "prompt_logprobs"),
    ("\"return_token_ids\": 1", "return_token_ids"),
    ("\"return_tokens_as_token_ids\": 1", "return_tokens_as_token_ids"),
    (
      "\"stream\": true, \"stream_options\": {\"continuous_usage_stats\": true}",
      "stream_options.continuous_usage_stats"
    ),
  ])
  func wrongValuesAreNamed(fields: String, name: String) async throws {
    try await Self.server([111]).run { client in
      for (path, prompt) in [(RouteTests.chat, RouteTests.hello), ("/v1/completions", "\"prompt\": \"a\"")] {
        let error = try await client.post(path, "{\(prompt), \(fields)}")
        #expect(error.status == .badRequest)
        #expect(try error.error().parameter == name)
      }
      // More than the usual maximum of the endpoint.
      try await client.post("/v1/completions", "{\"prompt\": \"a\", \"min_tokens\": 17}")
        .isError(400, code: nil, parameter: "min_tokens")
      try await client.post(RouteTests.chat, "{\(RouteTests.hello), \"add_special_tokens\": true}")
        .isError(400, code: "unsupported_parameter", parameter: "add_special_tokens")
    }
  }

  @Test func anAnswerWithoutAnyTokenLeftIsAnError() async throws {
    try await Self.server([111]).run { client in
      let fields = "\"allowed_token_ids\": [65], \"bad_words\": [\"A\"]"
      try await client.post("/v1/completions", "{\"prompt\": \"a\", \(fields)}")
        .isError(400, code: "no_token_left")
    }
  }

  /// In a completion's prompt the client has written the special tokens; in a chat the template has.
  @Test func namesOfSpecialTokensInPrompts() async throws {
    let turn = "<|im_start|>u<|im_end|>"
    try await Self.server([111]).run { client in
      func count(_ fields: String) async throws -> Int? {
        try await client.post("/v1/completions", "{\"prompt\": \"\(turn)\", \"max_tokens\": 1\(fields)}")
          .json()["usage"]?["prompt_tokens"]?.intValue
      }
      #expect(try await count("") == 3)
      #expect(try await count(", \"allow_special_tokens\": true") == 3)
      #expect(try await count(", \"allow_special_tokens\": false") == turn.utf8.count)
      func chat(_ content: String, _ fields: String = "") async throws -> Int? {
        let message = "{\"role\": \"user\", \"content\": \"\(content)\"}"
        return try await client.post(
          RouteTests.chat, "{\"messages\": [\(message)], \"max_tokens\": 1\(fields)}"
        )
        .json()["usage"]?["prompt_tokens"]?.intValue
      }
      let plain = try #require(try await chat(String(repeating: "x", count: turn.utf8.count)))
      #expect(try await chat(turn) == plain)
      #expect(try await chat(turn, ", \"allow_special_tokens\": true") == plain - turn.utf8.count + 3)
    }
  }

  /// A rendered prompt begins with the token that the tokenizer puts before a text: it is there once.
  @Test func aBeginningIsNotDoubled() async throws {
    let tokenizer = ByteTokenizer(prefix: [258])
    let engine = GenerationEngine(
      model: StandInModel(answer: [111]), tokenizer: tokenizer,
      limits: SchedulerLimits(parallel: 1, queue: 8, contextLimit: 100, budgetTokens: 100))
    let model = ServedModel(
      name: "m", engine: engine, tokenizer: tokenizer, template: nil, stopTokens: [],
      defaults: SamplingDefaults())
    func ids(_ fields: String) throws -> [Int] {
      try AnswerRequest(
        completion: JSONFields(body: Array("{\(fields)}".utf8)),
        models: ServedModels([model], namesAreExact: false)
      ).prompts[0]
    }
    #expect(try ids("\"prompt\": \"ab\"") == [258, 97, 98])
    #expect(try ids("\"prompt\": \"<eod>ab\"") == [258, 97, 98])
    #expect(try ids("\"prompt\": \"<eod>\"") == [258])
    #expect(try ids("\"prompt\": \"ab\", \"add_special_tokens\": false") == [97, 98])
    #expect(try ids("\"prompt\": \"<eod>\", \"allow_special_tokens\": false").count == 6)
    #expect(try ids("\"prompt\": [97]") == [97])
    try await TestServer(model).run { client in
      let echo = try await client.post(
        "/v1/completions", "{\"prompt\": \"ab\", \"max_tokens\": 0, \"echo\": true, \"logprobs\": 0}"
      ).json()["choices"]?.arrayValue?.first
      #expect(echo?["text"] == "ab" && echo?["logprobs"]?["tokens"] == ["<eod>", "a", "b"])
      #expect(echo?["logprobs"]?["text_offset"] == [0, 0, 1])
    }
  }

  @Test func unknownFieldsAreNamedInAnswersAndStreams() async throws {
    try await Self.server([111, 257]).run { client in
      let warnings: JSONValue = ["temprature is not a known field; it is ignored"]
      let body = "\(RouteTests.hello), \"temprature\": 0"
      #expect(try await client.post(RouteTests.chat, "{\(body)}").json()["warnings"] == warnings)
      let events = try await client.post(RouteTests.chat, "{\(body), \"stream\": true}").events()
      #expect(events.compactMap { $0["warnings"] } == [warnings])
      #expect(try await client.post(RouteTests.chat, "{\(RouteTests.hello)}").json()["warnings"] == nil)
    }
  }
}
