import Generation
import HTTPTypes
import Serving
import TestSupport
import Testing

/// What every route answers when all is well.
@Suite struct RouteTests {
  static let chat = "/v1/chat/completions"
  static let hello = "\"messages\": [{\"role\": \"user\", \"content\": \"hi\"}]"

  /// Says "ok" and stops.
  static func server() -> TestServer { TestServer(TestModel.standIn(StandInModel(answer: [111, 107, 257]))) }

  @Test func chatWhole() async throws {
    try await Self.server().run { client in
      let response = try await client.post(Self.chat, "{\(Self.hello)}")
      #expect(response.status == .ok && response.headers[.contentType] == "application/json")
      #expect(response.headers[.xContentTypeOptions] == "nosniff")
      let answer = try response.json()
      #expect(answer["object"] == "chat.completion" && answer["model"] == "stand-in")
      #expect(answer["id"]?.stringValue?.hasPrefix("chatcmpl-") == true)
      #expect(
        answer["choices"] == [
          [
            "index": 0, "message": ["role": "assistant", "content": "ok"], "logprobs": nil,
            "finish_reason": "stop",
          ]
        ])
      let prompt = try #require(answer["usage"]?["prompt_tokens"]?.intValue)
      #expect(answer["usage"]?["completion_tokens"] == 2)
      #expect(answer["usage"]?["total_tokens"]?.intValue == prompt + 2)
      #expect(answer["usage"]?["prompt_tokens_details"]?["cached_tokens"] == 0)
      let again = try await client.post(Self.chat, "{\(Self.hello)}").json()
      #expect(again["usage"]?["prompt_tokens_details"]?["cached_tokens"]?.intValue == prompt - 1)
    }
  }

  /// Also when they come at the same time: the second one waits for what the first one reads.
  @Test func promptsThatComeTogetherAreReadOnce() async throws {
    try await TestServer().run { client in
      @Sendable func answer(_ prompts: [String]) async throws -> (text: [String?], prompt: Int, cached: Int) {
        let list = prompts.map { "\"\($0)\"" }.joined(separator: ",")
        let json = try await client.post(
          "/v1/completions", "{\"prompt\": [\(list)], \"max_tokens\": 8, \"temperature\": 0}"
        ).json()
        return (
          (json["choices"]?.arrayValue ?? []).map { $0["text"]?.stringValue },
          try #require(json["usage"]?["prompt_tokens"]?.intValue),
          try #require(json["usage"]?["prompt_tokens_details"]?["cached_tokens"]?.intValue)
        )
      }
      let document = String(repeating: "煮酒论英雄，龙能大能小，能升能隐。", count: 20)
      let both = try await answer([document + "次日", document + "却说"])
      #expect(both.prompt > 300 && both.cached >= both.prompt / 2 - 16, "\(both.cached) of \(both.prompt)")
      // The same of two connections, with a text that no cache holds.
      let other = String(repeating: "玄德曰：备肉眼安识英雄？", count: 30)
      let two = try await withThrowingTaskGroup(of: (prompt: Int, cached: Int).self) { group in
        for end in ["次日", "却说"] {
          group.addTask {
            let one = try await answer([other + end])
            return (one.prompt, one.cached)
          }
        }
        return try await group.reduce((prompt: 0, cached: 0)) {
          ($0.prompt + $1.prompt, $0.cached + $1.cached)
        }
      }
      #expect(two.cached >= two.prompt / 2 - 16, "\(two.cached) of \(two.prompt)")
      let again = try await answer([document + "次日", document + "却说"])
      #expect(again.text == both.text)
    }
  }

  @Test func chatStreamed() async throws {
    try await Self.server().run { client in
      let response = try await client.post(
        Self.chat, "{\(Self.hello), \"stream\": true, \"stream_options\": {\"include_usage\": true}}")
      #expect(response.headers[.contentType] == "text/event-stream; charset=utf-8")
      #expect(response.headers[.cacheControl] == "no-store")
      let events = try response.events()
      #expect(events.allSatisfy { $0["object"] == "chat.completion.chunk" })
      let deltas = events.compactMap { $0["choices"]?.arrayValue?.first?["delta"] }
      #expect(deltas.first == ["role": "assistant", "content": ""])
      #expect(deltas.compactMap { $0["content"]?.stringValue }.joined() == "ok")
      #expect(deltas.last == [:])
      let reasons = events.compactMap { $0["choices"]?.arrayValue?.first?["finish_reason"]?.stringValue }
      #expect(reasons == ["stop"])
      #expect(events.last?["choices"] == [] && events.last?["usage"]?["completion_tokens"] == 2)
    }
  }

  @Test func completionsWholeAndStreamed() async throws {
    try await Self.server().run { client in
      let whole = try await client.post(
        "/v1/completions", "{\"prompt\": [\"a\", \"b\"], \"echo\": true, \"stop\": \"k\"}"
      ).json()
      #expect(whole["object"] == "text_completion")
      let choices = try #require(whole["choices"]?.arrayValue)
      #expect(choices.map { $0["index"] } == [0, 1])
      #expect(choices.allSatisfy { $0["finish_reason"] == "stop" })
      #expect(choices[0]["text"]?.stringValue?.hasPrefix("a") == true)
      let streamed = try await client.post("/v1/completions", "{\"prompt\": \"a\", \"stream\": true}")
      let text = try streamed.events().compactMap {
        $0["choices"]?.arrayValue?.first?["text"]?.stringValue
      }
      #expect(text.joined() == "ok")
      let logprobs = try await client.post(
        "/v1/completions", "{\"prompt\": \"a\", \"logprobs\": 2, \"ignore_eos\": true, \"max_tokens\": 3}"
      ).json()
      let first = try #require(logprobs["choices"]?.arrayValue?.first)
      #expect(first["finish_reason"] == "length")
      #expect(first["logprobs"]?["tokens"]?.arrayValue?.count == 3)
      #expect(
        first["logprobs"]?["top_logprobs"]?.arrayValue?.allSatisfy { $0.objectValue?.keys.count == 2 }
          == true)
    }
  }

  /// With the real model: a stream is the whole answer in pieces, and a seed makes an answer repeatable.
  @Test func streamedAndWholeAnswersAreEqual() async throws {
    try await TestServer().run { client in
      let body = "\"prompt\": \"春天来了\", \"max_tokens\": 24, \"temperature\": 0.9, \"seed\": 5"
      let whole = try await client.post("/v1/completions", "{\(body)}").json()
      let text = try #require(whole["choices"]?.arrayValue?.first?["text"]?.stringValue)
      let events = try await client.post("/v1/completions", "{\(body), \"stream\": true}").events()
      #expect(
        events.compactMap { $0["choices"]?.arrayValue?.first?["text"]?.stringValue }.joined() == text)
      #expect(text.unicodeScalars.count > 10 && events.count > 10)
    }
  }

  @Test func models() async throws {
    var server = try TestServer()
    let other = TestModel.standIn(StandInModel(answer: [1]), chats: false)
    server.models.append(other)
    try await server.run { client in
      let list = try await client.get("/v1/models").json()
      #expect(list["object"] == "list")
      #expect(list["data"]?.arrayValue?.map { $0["id"] } == ["tiny", "stand-in"])
      #expect(list["data"]?.arrayValue?.map { $0["chat"] } == [true, false])
      let one = try await client.get("/v1/models/stand-in").json()
      #expect(one["id"] == "stand-in" && one["max_model_len"] == 200 && one["object"] == "model")
      #expect(try await client.get("/v1/models/stand%2Din").json()["id"] == "stand-in")
      for path in ["/v1/models/gpt-4", "/v1/models/a/b", "/v1/models/%ff%fe"] {
        try await client.get(path).isError(404, code: "model_not_found", parameter: "model")
      }
    }
  }

  @Test func healthAndShutdown() async throws {
    let model = TestModel.standIn(StandInModel(answer: [111]))
    try await TestServer(model).run { client in
      #expect(try await client.get("/health").json() == ["status": "ok"])
      let head = try await client.send(.head, "/health")
      #expect(head.status == .ok && head.text.isEmpty)
      model.engine.drain(until: .now)
      let response = try await client.get("/health")
      #expect(response.status == .serviceUnavailable)
      #expect(try response.json() == ["status": "shutting down"])
      let refused = try await client.post("/v1/completions", "{\"prompt\": \"a\"}")
      try refused.isError(503, code: "shutting_down")
      #expect(refused.headers[.retryAfter] == "5")
    }
  }

  @Test func metrics() async throws {
    try await Self.server().run { client in
      _ = try await client.post(Self.chat, "{\(Self.hello)}")
      _ = try await client.get("/v1/models/none")
      _ = try await client.get("/made/up")
      let response = try await client.get("/metrics")
      #expect(response.headers[.contentType] == "text/plain; version=0.0.4; charset=utf-8")
      let lines = response.text.split(separator: "\n")
      for line in [
        "zhinao_http_requests_total{path=\"/v1/chat/completions\",status=\"200\"} 1",
        "zhinao_http_requests_total{path=\"/v1/models/{model}\",status=\"404\"} 1",
        "zhinao_http_requests_total{path=\"other\",status=\"404\"} 1",
        "zhinao_generated_tokens_total{model=\"stand-in\"} 2",
        "zhinao_answers_total{model=\"stand-in\",reason=\"stop\"} 1",
        "zhinao_requests_running{model=\"stand-in\"} 0",
      ] { #expect(lines.contains(Substring(line)), "\(line)") }
    }
  }

  /// Names of models come from files: they may hold anything, and one line stays one line.
  @Test func labelsAreEscapedByScalars() async throws {
    let engine = GenerationEngine(
      model: StandInModel(answer: [1]), tokenizer: ByteTokenizer(),
      limits: SchedulerLimits(parallel: 1, queue: 1, contextLimit: 10, budgetTokens: 10))
    let model = ServedModel(
      name: "a\"\u{301}\\\u{FE0F}\r\n\u{200D}b", engine: engine, tokenizer: ByteTokenizer(), template: nil,
      stopTokens: [], defaults: SamplingDefaults())
    try await TestServer(model).run { client in
      let text = try await client.get("/metrics").text
      let expected = "zhinao_requests_running{model=\"a\\\"\u{301}\\\\\u{FE0F}\r\\n\u{200D}b\"} 0\n"
      #expect(Array(text.utf8).contains(sequence: Array(expected.utf8)))
    }
  }

  @Test func page() async throws {
    try await Self.server().run { client in
      for (path, type) in [
        ("/", "text/html; charset=utf-8"), ("/style.css", "text/css; charset=utf-8"),
        ("/script.js", "text/javascript; charset=utf-8"), ("/markdown.js", "text/javascript; charset=utf-8"),
        ("/search.js", "text/javascript; charset=utf-8"),
      ] {
        let response = try await client.get(path)
        #expect(response.status == .ok && response.headers[.contentType] == type)
        #expect(response.headers[.contentSecurityPolicy]?.hasPrefix("default-src 'none'") == true)
        #expect(response.headers[.init("Referrer-Policy")!] == "no-referrer")
        #expect(try response.text == Page.text(path))
        let head = try await client.send(.head, path)
        #expect(head.text.isEmpty && head.headers[.contentType] == type)
      }
      #expect(try await client.get("/?lang=zh").status == .ok)
    }
  }
}

extension [UInt8] {
  fileprivate func contains(sequence other: [UInt8]) -> Bool {
    indices.contains { self[$0...].starts(with: other) }
  }
}
