import Generation
import HTTPTypes
import Hummingbird
import JSON
import Serving
import TestSupport
import Testing

/// Every error that a client can get, as OpenAI's clients expect it.
@Suite struct ErrorTests {
  static let chat = "/v1/chat/completions"
  static let hello = "\"messages\": [{\"role\": \"user\", \"content\": \"hi\"}]"

  @Test func keys() async throws {
    var server = RouteTests.server()
    server.access = AccessControl(keys: ["first", "second"])
    try await server.run { client in
      for authorization in [nil, "Bearer wrong", "first", "Basic first", "Bearer ", "Bearer\u{301} first"] {
        let headers: HTTPFields = authorization.map { [.authorization: $0] } ?? [:]
        let response = try await client.get("/v1/models", headers: headers)
        try response.isError(401, code: "invalid_api_key")
        #expect(response.headers[.wwwAuthenticate] == "Bearer")
        #expect(try response.error().type == "authentication_error")
      }
      for path in [Self.chat, "/v1/completions"] {
        try await client.post(path, "{").isError(401, code: "invalid_api_key")
      }
      try await client.get("/metrics").isError(401, code: "invalid_api_key")
      for key in ["first", "second"] {
        let response = try await client.get("/v1/models", headers: [.authorization: "Bearer \(key)"])
        #expect(response.status == .ok)
      }
      for path in ["/", "/health", "/script.js"] { #expect(try await client.get(path).status == .ok) }
    }
  }

  @Test func pathsThatAreNot() async throws {
    try await RouteTests.server().run { client in
      for path in [
        "/v1", "/v1/", "/v1/chat", "/v1/chat/completions/", "//", "//health", "/health/", "/v1//models",
        "/v1/models/",
        "/V1/models", "/%00", "/../../etc/passwd", "/v1/files", "/" + String(repeating: "a", count: 3000),
      ] {
        for method in [HTTPRequest.Method.get, .post] {
          try await client.send(method, path).isError(404, code: "unknown_url", "\(path)")
        }
      }
      let long = try await client.get("/" + String(repeating: "a", count: 3000)).error()
      #expect(long.message.utf8.count < 300 && long.type == "invalid_request_error")
    }
  }

  @Test func methodsThatAreNot() async throws {
    try await RouteTests.server().run { client in
      for path in ["/", "/health", "/metrics", "/v1/models", "/v1/models/x", "/style.css"] {
        for method in [HTTPRequest.Method.post, .put, .delete, .patch, .options] {
          let response = try await client.send(method, path)
          try response.isError(405, code: "method_not_allowed", "\(method) \(path)")
          #expect(response.headers[.allow] == "GET, HEAD")
        }
      }
      for path in [Self.chat, "/v1/completions"] {
        for method in [HTTPRequest.Method.get, .put, .delete, .options] {
          let response = try await client.send(method, path)
          try response.isError(405, code: "method_not_allowed")
          #expect(response.headers[.allow] == "POST")
        }
        let head = try await client.send(.head, path)
        #expect(head.status == .methodNotAllowed && head.text.isEmpty)
      }
    }
  }

  @Test func bodiesThatAreTooLarge() async throws {
    var server = RouteTests.server()
    server.limits.bodyBytes = 100
    for path in [Self.chat, "/v1/completions"] {
      // The server closes the connection: it will not read what it refused.
      try await server.run { client in
        let exact = "{\"prompt\": \"" + String(repeating: "x", count: 100 - 14) + "\"}"
        #expect(exact.utf8.count == 100)
        #expect(try await client.post("/v1/completions", exact).status == .ok)
        let response = try await client.post(path, exact + " ")
        try response.isError(413, code: "body_too_large")
        #expect(response.headers[.connection] == "close")
      }
    }
  }

  @Test(arguments: [
    nil, "text/plain", "application/x-www-form-urlencoded", "application/jsonx",
    "text/plain;a=application/json",
  ])
  func bodiesThatAreNotJSON(type: String?) async throws {
    try await RouteTests.server().run { client in
      let headers: HTTPFields = type.map { [.contentType: $0] } ?? [:]
      try await client.send(.post, Self.chat, headers: headers, body: "{\(Self.hello)}")
        .isError(415, code: "unsupported_media_type")
    }
  }

  @Test func mediaTypesWithParametersAreJSON() async throws {
    try await RouteTests.server().run { client in
      for type in ["application/json; charset=utf-8", "Application/JSON", " application/json "] {
        let response = try await client.send(
          .post, Self.chat, headers: [.contentType: type], body: "{\(Self.hello)}")
        #expect(response.status == .ok, "\(type)")
      }
    }
  }

  @Test func bodiesThatAreNoObject() async throws {
    try await RouteTests.server().run { client in
      for body in [
        "", "{", "[]", "null", "3", "{\"a\": 1, \"a\": 2}", "{\"messages\": [1,]}", "\u{FEFF}{}",
        String(repeating: "[", count: 100), "{\"\": \"\\ud800\"}",
      ] {
        for path in [Self.chat, "/v1/completions"] {
          let response = try await client.post(path, body)
          #expect(response.status == .badRequest, "\(body)")
          #expect(try response.error().type == "invalid_request_error")
        }
      }
    }
  }

  /// The path of the field, whatever is wrong with it.
  @Test(arguments: [
    ("{}", "messages"), ("{\"messages\": [\(#"{"role": "user", "content": "a"}"#), 1]}", "messages[1]"),
    ("{\"messages\": [{\"content\": \"\"}]}", "messages[0].role"),
    (
      "{\"messages\": [{\"role\": \"user\", \"content\": [{\"type\": \"image_url\"}]}]}",
      "messages[0].content"
    ),
    ("{\"temperature\": 101}", "temperature"), ("{\"stream\": \"yes\"}", "stream"),
    ("{\"stream\": true, \"stream_options\": {\"include_usage\": 1}}", "stream_options.include_usage"),
    ("{\"stream_options\": []}", "stream_options"), ("{\"n\": 17}", "n"), ("{\"tools\": [1]}", "tools"),
    ("{\"response_format\": {\"type\": 3}}", "response_format.type"), ("{\"model\": []}", "model"),
  ])
  func fieldsThatAreWrong(body: String, field: String) async throws {
    try await RouteTests.server().run { client in
      let response = try await client.post(Self.chat, body)
      let code: String? = ["tools", "messages[0].content"].contains(field) ? "unsupported_parameter" : nil
      try response.isError(400, code: code, parameter: field)
      let message = try response.error().message
      #expect(message.hasPrefix(field + " "), "\(message)")
    }
  }

  /// Every number a request may hold, at its ends and beyond them: an answer or a 400 that names the field.
  @Test func numbersAtTheirEnds() async throws {
    let numbers = [
      "-9223372036854775808", "-1", "0", "1", "9223372036854775807", "9223372036854775808", "1e308", "-1e308",
      "1e400",
      "0.5", "5e-324", "\"NaN\"", "1e18",
    ]
    try await RouteTests.server().run { client in
      for field in [
        "temperature", "top_k", "top_p", "min_p", "repetition_penalty", "presence_penalty",
        "frequency_penalty",
        "seed", "n", "max_tokens", "max_completion_tokens", "max_new_tokens", "logprobs", "best_of",
      ] {
        for number in numbers {
          let response = try await client.post(
            "/v1/completions", "{\"prompt\": \"a\", \"\(field)\": \(number)}")
          guard response.status != .ok else { continue }
          #expect(response.status == .badRequest, "\(field) \(number)")
          #expect(try response.error().parameter == field)
        }
      }
      for body in [
        "\"stop_token_ids\": [9223372036854775807]", "\"logit_bias\": {\"-9223372036854775808\": 1}",
        "\"logit_bias\": {\"1\": 1e400}", "\"prompt\": [9223372036854775807]", "\"prompt\": [[-1]]",
      ] {
        #expect(
          try await client.post("/v1/completions", "{\"prompt\": \"a\", \(body)}").status == .badRequest)
      }
    }
  }

  @Test func modelsThatAreNot() async throws {
    var server = try TestServer()
    server.models.append(TestModel.standIn(StandInModel(answer: [1]), chats: false))
    try await server.run { client in
      try await client.post(Self.chat, "{\"model\": \"gpt-4\", \(Self.hello)}")
        .isError(404, code: "model_not_found", parameter: "model")
      try await client.post(Self.chat, "{\"model\": \"stand-in\", \(Self.hello)}")
        .isError(400, code: nil, parameter: "model", "a base model does not chat")
    }
  }

  @Test func promptsThatAreTooLongOrEmpty() async throws {
    try await RouteTests.server().run { client in
      let long = String(repeating: "x", count: 200)
      try await client.post("/v1/completions", "{\"prompt\": \"\(long)\"}")
        .isError(400, code: "context_length_exceeded")
      try await client.post("/v1/completions", "{\"prompt\": \"\"}")
        .isError(400, code: nil, parameter: "prompt")
      let fits = try await client.post("/v1/completions", "{\"prompt\": \"\(long.dropLast())\"}").json()
      #expect(fits["usage"]?["prompt_tokens"] == 199 && fits["usage"]?["completion_tokens"] == 1)
    }
  }

  @Test func tooManyRequests() async throws {
    var server = RouteTests.server()
    server.access = AccessControl(requestsPerMinute: 2)
    try await server.run { client in
      for _ in 0..<2 { #expect(try await client.post(Self.chat, "{\(Self.hello)}").status == .ok) }
      let response = try await client.post(Self.chat, "{\(Self.hello)}")
      try response.isError(429, code: "rate_limit_exceeded")
      #expect(try response.error().type == "rate_limit_error")
      #expect(try (1...60).contains(#require(Int(response.headers[.retryAfter] ?? ""))))
      #expect(try await client.get("/v1/models").status == .ok, "only answers count")
    }
  }

  @Test func aFullQueue() async throws {
    let gate = StandInModel(answer: [111], waits: true)
    let model = TestModel.standIn(gate, queue: 0)
    try await TestServer(model).run { client in
      let running = try model.engine.submit([GenerationRequest(prompt: [1], maximumNewTokens: 1)])
      let response = try await client.post("/v1/completions", "{\"prompt\": \"a\"}")
      try response.isError(429, code: "queue_full")
      #expect(try (1...120).contains(#require(Int(response.headers[.retryAfter] ?? ""))))
      gate.open()
      while await running.next() != nil {}
      #expect(try await client.post("/v1/completions", "{\"prompt\": \"a\"}").status == .ok)
    }
  }

  @Test func answersThatFail() async throws {
    var server = TestServer(TestModel.standIn(StandInModel(answer: nil)))
    try await server.run { client in
      let response = try await client.post(Self.chat, "{\(Self.hello)}")
      try response.isError(500, code: "not_finite")
      #expect(try response.error().type == "server_error")
      // A stream has begun when its answer fails: the error is an event.
      let stream = try await client.post(Self.chat, "{\(Self.hello), \"stream\": true}")
      #expect(stream.status == .ok && stream.text.contains("\"code\":\"not_finite\""))
      #expect(!stream.text.contains("[DONE]"))
    }
    server = RouteTests.server()
    server.limits.requestTime = .zero
    try await server.run { client in
      let response = try await client.post(Self.chat, "{\(Self.hello)}")
      try response.isError(503, code: "timed_out")
      #expect(response.headers[.retryAfter] == "5")
    }
  }

  @Test func hostsAndOrigins() async throws {
    var server = RouteTests.server()
    server.access = AccessControl(hosts: ["example.org"])
    try await server.run { client in
      try await client.get("/health").isError(403, code: "unknown_host")
    }
    server.access = AccessControl(hosts: ["LOCALHOST"])
    try await server.run { client in
      #expect(try await client.get("/health").status == .ok)
      #expect(try await client.get("/health", headers: [.origin: "http://localhost"]).status == .ok)
      for origin in ["http://evil.example", "null", "http://localhost:1", "http://localhost.evil.example"] {
        let response = try await client.get("/health", headers: [.origin: origin])
        try response.isError(403, code: "unknown_origin", "\(origin)")
        #expect(try response.error().type == "permission_error")
        #expect(response.headers[.accessControlAllowOrigin] == nil)
      }
      let preflight = try await client.send(
        .options, Self.chat, headers: [.origin: "http://localhost"])
      try preflight.isError(405, code: "method_not_allowed", "no other origins, no preflight")
    }
  }

  @Test func pagesOfOtherOrigins() async throws {
    var server = RouteTests.server()
    server.access = AccessControl(keys: ["k"], corsOrigins: ["https://example.org"])
    try await server.run { client in
      let origin: HTTPFields = [.origin: "https://example.org"]
      for (path, method) in [(Self.chat, "POST"), ("/v1/completions", "POST"), ("/v1/models", "GET")] {
        let response = try await client.send(.options, path, headers: origin)
        #expect(response.status == .noContent && response.text.isEmpty, "a preflight carries no key")
        #expect(response.headers[.accessControlAllowOrigin] == "https://example.org")
        #expect(response.headers[.accessControlAllowMethods] == method)
        #expect(response.headers[.accessControlAllowHeaders] == "authorization, content-type")
        #expect(response.headers[.accessControlMaxAge] == "600" && response.headers[.vary] == "Origin")
      }
      try await client.send(.options, "/v1/none", headers: origin).isError(404, code: "unknown_url")
      try await client.send(.options, Self.chat, headers: [.origin: "https://example.com"])
        .isError(403, code: "unknown_origin")
      // The page must be able to read errors, too.
      let refused = try await client.get("/v1/models", headers: origin)
      try refused.isError(401, code: "invalid_api_key")
      #expect(refused.headers[.accessControlAllowOrigin] == "https://example.org")
    }
    server.access = AccessControl(corsOrigins: ["*"])
    try await server.run { client in
      let response = try await client.get("/v1/models", headers: [.origin: "null"])
      #expect(response.status == .ok && response.headers[.accessControlAllowOrigin] == "null")
    }
  }

  /// Whatever else is thrown becomes the same kind of body.
  @Test func everyErrorHasABody() {
    struct Unforeseen: Error {}
    let cases: [(any Error, Int, String?)] = [
      (Unforeseen(), 500, nil), (CancellationError(), 499, nil),
      (HTTPError(.badRequest, message: "x"), 400, nil),
      (JSONFieldError(.missing, document: "the body", field: "a.b"), 400, "a.b"),
      (JSONFieldError(.notAnObject, document: "the body", field: ""), 400, nil),
      (GenerationError.unknownToken(id: 9, tokenCount: 5), 400, "prompt"),
      (GenerationError.queueFull(waiting: 3, retryAfterSeconds: 7), 429, nil),
    ]
    for (error, status, parameter) in cases {
      let described = APIError(describing: error)
      #expect(described.status.code == status && described.parameter == parameter, "\(error)")
      #expect(!described.message.isEmpty)
    }
    #expect(
      APIError(describing: JSONFieldError(.notAnObject, document: "the body", field: "")).message
        == "the body is not a JSON object")
  }
}
