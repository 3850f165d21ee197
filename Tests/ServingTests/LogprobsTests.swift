import Generation
import JSON
import Serving
import TestSupport
import Testing

/// Reports of tokens beside the text.
@Suite struct LogprobsTests {
  /// Half of a character and a whole one, over and over.
  static let halves = Array("春天".utf8).map(Int.init)

  static func choice(_ response: JSONValue) throws -> JSONValue {
    try #require(response["choices"]?.arrayValue?.first)
  }

  static func bytes(_ content: JSONValue?) -> [UInt8] {
    (content?.arrayValue ?? []).flatMap {
      ($0["bytes"]?.arrayValue ?? []).compactMap(\.intValue).map { UInt8($0) }
    }
  }

  @Test(arguments: [
    ("\"max_tokens\": 6", "春天"), ("\"max_tokens\": 12, \"stop\": \"天春\"", "春"),
    ("\"max_tokens\": 12, \"stop\": \"天\", \"include_stop_str_in_output\": true", "春天"),
  ])
  func bytesOfAChatsTokensAreThoseOfItsText(fields: String, expected: String) async throws {
    let body = "\(RouteTests.hello), \(fields), \"logprobs\": true, \"top_logprobs\": 2"
    try await TokenFieldTests.server(Self.halves).run { client in
      let whole = try Self.choice(try await client.post(RouteTests.chat, "{\(body)}").json())
      #expect(whole["message"]?["content"]?.stringValue == expected)
      let content = whole["logprobs"]?["content"]
      #expect(Self.bytes(content) == Array(expected.utf8))
      #expect(content?.arrayValue?.first?["token"] == "\\xe6")
      #expect(content?.arrayValue?.allSatisfy { $0["top_logprobs"]?.arrayValue?.count == 2 } == true)
    }
    try await TokenFieldTests.server(Self.halves).run { client in
      let events = try await client.post(RouteTests.chat, "{\(body), \"stream\": true}").events()
      for choice in events.compactMap({ $0["choices"]?.arrayValue?.first }) {
        guard let text = choice["delta"]?["content"]?.stringValue, !text.isEmpty else { continue }
        // Each chunk has the tokens of its own text.
        #expect(Self.bytes(choice["logprobs"]?["content"]) == Array(text.utf8))
      }
    }
  }

  @Test func specialTokensThatAreLeftOutHaveNoBytes() async throws {
    let body = "\(RouteTests.hello), \"max_tokens\": 3, \"ignore_eos\": true, \"logprobs\": true"
    try await TokenFieldTests.server([111, 257, 107]).run { client in
      let hidden = try Self.choice(try await client.post(RouteTests.chat, "{\(body)}").json())
      #expect(hidden["logprobs"]?["content"]?.arrayValue?.map { $0["token"] } == ["o", "<|im_end|>", "k"])
      #expect(Self.bytes(hidden["logprobs"]?["content"]) == Array("ok".utf8))
      let shown = try Self.choice(
        try await client.post(RouteTests.chat, "{\(body), \"skip_special_tokens\": false}").json())
      #expect(Self.bytes(shown["logprobs"]?["content"]) == Array("o<|im_end|>k".utf8))
    }
  }

  /// As OpenAI's servers do: what is no text is called by its bytes, so that no two tokens share a key.
  @Test func completionsNamePartsOfCharactersByTheirBytes() async throws {
    try await TokenFieldTests.server(Self.halves).run { client in
      let body = "\"prompt\": \"a\", \"max_tokens\": 6, \"logprobs\": 1"
      let logprobs = try Self.choice(try await client.post("/v1/completions", "{\(body)}").json())["logprobs"]
      #expect(
        logprobs?["tokens"] == [
          "bytes:\\xe6", "bytes:\\x98", "bytes:\\xa5", "bytes:\\xe5", "bytes:\\xa4", "bytes:\\xa9",
        ])
      #expect(logprobs?["text_offset"] == [0, 0, 0, 1, 1, 1])
      #expect(logprobs?["top_logprobs"]?.arrayValue?[0].objectValue?.keys == ["bytes:\\xe6"])
    }
    // A real vocabulary: many of the likeliest tokens are parts of characters.
    try await TestServer().run { client in
      let body =
        "\"prompt\": \"\u{1F600}\u{9F98}\", \"max_tokens\": 12, \"ignore_eos\": true, \"logprobs\": 20"
      let logprobs = try Self.choice(try await client.post("/v1/completions", "{\(body)}").json())["logprobs"]
      let tops = try #require(logprobs?["top_logprobs"]?.arrayValue)
      #expect(tops.count == 12 && tops.allSatisfy { $0.objectValue?.keys.count == 20 })
    }
  }

  /// What lm-evaluation-harness asks for.
  @Test func echoWithLogprobsScoresThePrompt() async throws {
    try await TestServer().run { client in
      let prompt = "却说那老王，\u{1F600}"
      func lists(_ fields: String) async throws -> JSONValue {
        try Self.choice(
          try await client.post(
            "/v1/completions", "{\"prompt\": \"\(prompt)\", \"echo\": true, \"logprobs\": 2, \(fields)}"
          ).json())
      }
      let none = try await lists("\"max_tokens\": 0, \"prompt_logprobs\": 1")
      #expect(none["text"]?.stringValue == prompt)
      let logprobs = try #require(none["logprobs"])
      let tokens = try #require(logprobs["tokens"]?.arrayValue)
      #expect(tokens.count > 5)
      let values = try #require(logprobs["token_logprobs"]?.arrayValue)
      #expect(values[0].isNull && values.dropFirst().allSatisfy { $0.doubleValue ?? 1 <= 0 })
      let tops = try #require(logprobs["top_logprobs"]?.arrayValue)
      #expect(
        tops[0].isNull && tops.dropFirst().allSatisfy { (2...3).contains($0.objectValue?.keys.count ?? 0) })
      for place in tokens.indices.dropFirst() {
        #expect(tops[place][try #require(tokens[place].stringValue)] == values[place])
      }
      let offsets = try #require(logprobs["text_offset"]?.arrayValue).compactMap(\.intValue)
      #expect(offsets.count == tokens.count && offsets == offsets.sorted() && offsets.last! < 7)

      // vLLM's form of the same.
      let scores = try #require(none["prompt_logprobs"]?.arrayValue)
      #expect(scores.count == tokens.count && scores[0].isNull)
      for place in tokens.indices.dropFirst() {
        let first = try #require(scores[place].objectValue?.members.first?.value)
        #expect(first["logprob"] == values[place])
        #expect((first["rank"]?.intValue ?? 0) >= 1 && first["decoded_token"]?.stringValue != nil)
      }

      let one = try await lists("\"max_tokens\": 1")
      let extended = try #require(one["logprobs"])
      #expect(extended["tokens"]?.arrayValue?.count == tokens.count + 1)
      #expect(Array(try #require(extended["token_logprobs"]?.arrayValue).prefix(tokens.count)) == values)
      let several = try await client.post(
        "/v1/completions",
        "{\"prompt\": [[1, 2, 3], [4, 5]], \"n\": 2, \"echo\": true, \"logprobs\": 0, \"max_tokens\": 0}"
      ).json()["choices"]?.arrayValue
      #expect(several?.map { $0["logprobs"]?["tokens"]?.arrayValue?.count } == [3, 3, 2, 2])

      let events = try await client.post(
        "/v1/completions",
        "{\"prompt\": \"\(prompt)\", \"echo\": true, \"logprobs\": 2, \"max_tokens\": 1, \"stream\": true}"
      ).events()
      let chunks = events.compactMap { $0["choices"]?.arrayValue?.first }
      #expect(chunks.compactMap { $0["text"]?.stringValue }.joined() == one["text"]?.stringValue)
      for name in ["tokens", "token_logprobs", "text_offset", "top_logprobs"] {
        #expect(
          JSONValue.array(chunks.flatMap { $0["logprobs"]?[name]?.arrayValue ?? [] }) == extended[name],
          "\(name)")
      }
    }
  }

  /// A model that ends at once has one entry more than the prompt all the same: the end's.
  @Test func theEndIsScoredBesideThePrompt() async throws {
    try await TokenFieldTests.server([257]).run { client in
      let body = "\"prompt\": \"ab\", \"echo\": true, \"logprobs\": 1, \"max_tokens\": 1"
      let choice = try Self.choice(try await client.post("/v1/completions", "{\(body)}").json())
      #expect(choice["text"] == "ab" && choice["finish_reason"] == "stop")
      #expect(choice["logprobs"]?["tokens"] == ["a", "b", "<|im_end|>"])
    }
  }

  @Test func promptsOfChatsAreScored() async throws {
    try await TestServer().run { client in
      let answer = try await client.post(
        RouteTests.chat, "{\(RouteTests.hello), \"max_tokens\": 1, \"prompt_logprobs\": 0}"
      ).json()
      let scores = try #require(answer["prompt_logprobs"]?.arrayValue)
      #expect(scores.count == answer["usage"]?["prompt_tokens"]?.intValue)
      #expect(scores[0].isNull && scores.dropFirst().allSatisfy { $0.objectValue?.keys.count == 1 })
      #expect(answer["usage"]?["prompt_tokens_details"]?["cached_tokens"] == 0)
    }
  }

  @Test func idsAreReportedWhenAskedFor() async throws {
    try await TokenFieldTests.server([111, 107, 257]).run { client in
      let ids = "\"max_tokens\": 5, \"return_token_ids\": true"
      let completion = try Self.choice(
        try await client.post("/v1/completions", "{\"prompt\": \"ab\", \(ids)}").json())
      #expect(completion["token_ids"] == [111, 107, 257] && completion["prompt_token_ids"] == [97, 98])
      let chat = try await client.post(RouteTests.chat, "{\(RouteTests.hello), \(ids)}").json()
      #expect(try Self.choice(chat)["token_ids"] == [111, 107, 257])
      #expect(chat["prompt_token_ids"]?.arrayValue?.count == chat["usage"]?["prompt_tokens"]?.intValue)
      for (path, prompt) in [(RouteTests.chat, RouteTests.hello), ("/v1/completions", "\"prompt\": \"ab\"")] {
        let events = try await client.post(path, "{\(prompt), \(ids), \"stream\": true}").events()
        let choices = events.compactMap { $0["choices"]?.arrayValue?.first }
        #expect(choices.flatMap { $0["token_ids"]?.arrayValue ?? [] } == [111, 107, 257])
        #expect((events + choices).compactMap { $0["prompt_token_ids"] }.count == 1)
      }
      let named = try Self.choice(
        try await client.post(
          "/v1/completions",
          "{\"prompt\": \"ab\", \"max_tokens\": 1, \"logprobs\": 1, \"return_tokens_as_token_ids\": true}"
        ).json())
      #expect(named["logprobs"]?["tokens"] == ["token_id:111"])
      #expect(named["logprobs"]?["top_logprobs"]?.arrayValue?[0].objectValue?.keys == ["token_id:111"])
    }
  }
}
