import Foundation
import HTTPTypes
import HummingbirdTesting
import JSON
import Models
import Serving
import TestSupport
import Testing
import Tokenization

/// The routes for vectors and scores, in the words of every API they speak.
@Suite struct RetrievalRouteTests {
  static func server() -> TestServer { TestServer(StandIn.embedder(), StandIn.reranker()) }

  static func floats(_ value: JSONValue?) -> [Float]? {
    value?.arrayValue?.compactMap { $0.doubleValue.map { Float($0) } }
  }

  static func decoded(_ base64: String) -> [Float] {
    let bytes = [UInt8](Data(base64Encoded: base64) ?? Data())
    return stride(from: 0, to: bytes.count, by: 4).map { start in
      Float(bitPattern: (0..<4).reduce(0) { $0 | UInt32(bytes[start + $1]) << (8 * $1) })
    }
  }

  // MARK: Embeddings

  @Test func embeddingsOfEveryFormOfInput() async throws {
    try await Self.server().run { client in
      for path in ["/v1/embeddings", "/embeddings"] {
        let response = try await client.post(path, #"{"input": "abc", "model": "text-embedding-3-small"}"#)
        #expect(response.status == .ok)
        let one = try response.json()
        #expect(one["object"] == "list" && one["model"] == "embedder" && one["warnings"] == nil)
        #expect(one["usage"] == ["prompt_tokens": 5, "total_tokens": 5])
        #expect(one["data"]?.arrayValue?.count == 1 && one["data"]?.arrayValue?[0]["index"] == 0)
        let vector = try #require(Self.floats(one["data"]?.arrayValue?[0]["embedding"]))
        let several = try await client.post(path, #"{"input": ["x", "abc", [256, 97, 98, 99, 257]]}"#).json()
        let vectors = try #require(several["data"]?.arrayValue).map { Self.floats($0["embedding"]) }
        #expect(vectors.count == 3 && vectors[1] == vector && vectors[2] == vector && vectors[0] != vector)
        // A flat array of numbers is one text.
        let flat = try await client.post(path, #"{"input": [256, 97, 98, 99, 257]}"#).json()
        #expect(flat["data"]?.arrayValue?.map { Self.floats($0["embedding"]) } == [vector])
      }
    }
  }

  @Test func base64HasTheSameFloats() async throws {
    try await Self.server().run { client in
      let floats = try await client.post("/v1/embeddings", #"{"input": ["abc", "z"]}"#).json()
      let coded = try await client.post(
        "/v1/embeddings", #"{"input": ["abc", "z"], "encoding_format": "base64"}"#
      ).json()
      for (a, b) in zip(try #require(floats["data"]?.arrayValue), try #require(coded["data"]?.arrayValue)) {
        #expect(Self.floats(a["embedding"]) == Self.decoded(try #require(b["embedding"]?.stringValue)))
      }
    }
  }

  @Test func dimensions() async throws {
    func status(_ server: TestServer, _ dimensions: String) async throws -> (Int, Int?) {
      nonisolated(unsafe) var result: (Int, Int?) = (0, nil)
      try await server.run { client in
        let response = try await client.post(
          "/v1/embeddings", #"{"input": "abc", "dimensions": \#(dimensions)}"#)
        let vector = Self.floats(try? response.json()["data"]?.arrayValue?[0]["embedding"])
        if let vector { #expect(abs(vector.reduce(0) { $0 + $1 * $1 } - 1) < 1e-5) }
        result = (response.status.code, vector?.count)
      }
      return result
    }
    let plain = TestServer(StandIn.embedder())
    #expect(try await status(plain, "4") == (200, 4))
    for wrong in ["2", "0", "5", "-1", "1.5", "\"2\""] { #expect(try await status(plain, wrong).0 == 400) }
    var allowing = TestServer(StandIn.embedder())
    allowing.limits.shortensVectors = true
    #expect(try await status(allowing, "2") == (200, 2))
    let any = TestServer(StandIn.embedder(StandInEmbedder(matryoshka: [])))
    #expect(try await status(any, "3") == (200, 3))
    let some = TestServer(StandIn.embedder(StandInEmbedder(matryoshka: [2])))
    #expect(try await status(some, "2") == (200, 2))
    #expect(try await status(some, "3").0 == 400)
  }

  @Test func longTextsAreCutWithANoteOrRefused() async throws {
    let long = "\"" + String(repeating: "a", count: 30) + "\""
    try await Self.server().run { client in
      let cut = try await client.post("/v1/embeddings", #"{"input": ["b", \#(long)]}"#).json()
      #expect(cut["usage"]?["prompt_tokens"] == 19)
      #expect(cut["warnings"]?.arrayValue?.count == 1)
      let refused = #"{"input": \#(long), "truncate": "NONE"}"#
      try await client.post("/v1/embeddings", refused).isError(
        400, code: "context_length_exceeded", parameter: "input")
      let shorter = try await client.post(
        "/v1/embeddings", #"{"input": \#(long), "truncate_prompt_tokens": 5}"#
      ).json()
      #expect(shorter["usage"]?["prompt_tokens"] == 5)
      for wrong in ["0", "2", "17", "-2"] {
        try await client.post("/v1/embeddings", #"{"input": "a", "truncate_prompt_tokens": \#(wrong)}"#)
          .isError(400, code: nil, parameter: "truncate_prompt_tokens")
      }
      #expect(
        try await client.get("/metrics").text.contains(
          "zhinao_retrieval_truncated_total{model=\"embedder\",task=\"embed\"} 2\n"))
    }
    var server = Self.server()
    server.limits.truncates = false
    try await server.run { client in
      try await client.post("/v1/embeddings", #"{"input": \#(long)}"#).isError(
        400, code: "context_length_exceeded", parameter: "input")
      #expect(
        try await client.post("/v1/embeddings", #"{"input": \#(long), "truncate": true}"#).status == .ok)
    }
  }

  @Test func promptsOfQueries() async throws {
    try await Self.server().run { client in
      func tokens(_ fields: String) async throws -> JSONValue? {
        try await client.post("/v1/embeddings", #"{"input": "abc"\#(fields)}"#).json()["usage"]?[
          "prompt_tokens"]
      }
      #expect(try await tokens("") == 5)
      #expect(try await tokens(#", "input_type": "search_query""#) == 7)
      #expect(try await tokens(#", "input_type": "search_document""#) == 5)
      #expect(try await tokens(#", "prompt_name": "query""#) == 7)
      for (field, value) in [("prompt_name", "none"), ("input_type", "picture")] {
        try await client.post("/v1/embeddings", #"{"input": "abc", "\#(field)": "\#(value)"}"#).isError(
          400, code: nil, parameter: field)
      }
    }
  }

  @Test func wrongInputs() async throws {
    var server = Self.server()
    server.limits.inputs = 3
    try await server.run { client in
      for empty in ["\"\"", "[]", "[\"a\", \"\"]", "[[]]"] {
        try await client.post("/v1/embeddings", #"{"input": \#(empty)}"#).isError(
          400, code: "empty_input", parameter: "input")
      }
      for wrong in [
        "1", "{}", "[true]", "[1, \"a\"]", "[[1], 2]", "[-1]", "[1.5]", "[[1, null]]",
        "[\"a\",\"b\",\"c\",\"d\"]", "[900]",
      ] {
        try await client.post("/v1/embeddings", #"{"input": \#(wrong)}"#).isError(
          400, code: nil, parameter: "input", "\(wrong)")
      }
      try await client.post("/v1/embeddings", "{}").isError(400, code: nil, parameter: "input")
      try await client.post("/v1/embeddings", #"{"input": "a", "encoding_format": "int8"}"#).isError(
        400, code: nil, parameter: "encoding_format")
      try await client.post("/v1/embeddings", #"{"messages": []}"#).isError(
        400, code: "unsupported_parameter", parameter: "messages")
      let unknown = try await client.post("/v1/embeddings", #"{"input": "a", "frobnicate": 1, "user": "me"}"#)
      #expect(try unknown.json()["warnings"]?.arrayValue?.count == 1)
    }
  }

  @Test func embeddingsForCohere() async throws {
    let wide = StandInEmbedder(dimensions: 8)
    try await TestServer(StandIn.embedder(wide)).run { client in
      let types = #""embedding_types": ["float", "binary", "ubinary", "base64"]"#
      let answer = try await client.post(
        "/v2/embed", #"{"texts": ["abc"], "input_type": "search_document", \#(types)}"#
      )
      .json()
      #expect(answer["response_type"] == "embeddings_by_type" && answer["texts"] == ["abc"])
      #expect(answer["meta"]?["billed_units"] == ["input_tokens": 5])
      let embeddings = try #require(answer["embeddings"])
      #expect(embeddings["ubinary"] == [[240]] && embeddings["binary"] == [[112]])
      let floats = Self.floats(embeddings["float"]?.arrayValue?[0])
      #expect(floats == Self.decoded(try #require(embeddings["base64"]?.arrayValue?[0].stringValue)))
      for wrong in [
        #"{"texts": []}"#, #"{"texts": ["a"], "embedding_types": ["int8"]}"#,
        #"{"texts": ["a"], "images": ["x"]}"#,
        #"{"texts": ["a"], "output_dimension": 3}"#,
      ] { try await client.post("/v2/embed", wrong).rerankIsError(400) }
    }
    try await Self.server().run { client in
      let bits = #"{"texts": ["a"], "embedding_types": ["binary"]}"#
      try await client.post("/v2/embed", bits).rerankIsError(400)
    }
  }

  // MARK: Models

  @Test func modelsOfEveryKind() async throws {
    let chat = TestModel.standIn(StandInModel(answer: [111, 107, 257]))
    try await TestServer(chat, StandIn.embedder(), StandIn.reranker()).run { client in
      let list = try await client.get("/v1/models").json()
      #expect(list["data"]?.arrayValue?.map { $0["task"] } == ["generate", "embed", "rerank"])
      // Without a name, or with a foreign one, the only one that fits answers.
      for model in ["", #""model": "gpt-4", "#] {
        #expect(try await client.post("/v1/embeddings", #"{\#(model)"input": "a"}"#).status == .ok)
        #expect(
          try await client.post("/v1/rerank", #"{\#(model)"query": "a", "documents": ["b"]}"#).status == .ok)
        #expect(try await client.post("/v1/completions", #"{\#(model)"prompt": "a"}"#).status == .ok)
      }
      for (path, body) in [
        ("/v1/embeddings", #"{"model": "reranker", "input": "a"}"#),
        ("/v1/score", #"{"model": "stand-in", "text_1": "a", "text_2": "b"}"#),
        ("/v1/completions", #"{"model": "embedder", "prompt": "a"}"#),
        ("/v1/chat/completions", #"{"model": "reranker", "messages": [{"role": "user", "content": "a"}]}"#),
      ] {
        try await client.post(path, body).isError(
          400, code: "wrong_model_kind", parameter: "model", "\(path)")
      }
      let rerank = try await client.post(
        "/v1/rerank", #"{"model": "embedder", "query": "a", "documents": ["b"]}"#)
      #expect(try rerank.status == .badRequest && rerank.json()["message"]?.stringValue != nil)
      for (path, body) in [
        ("/embed", #"{"model": "reranker", "inputs": "a"}"#),
        ("/rerank", #"{"model": "embedder", "query": "a", "texts": ["b"]}"#),
      ] {
        let response = try await client.post(path, body)
        #expect(try response.status.code == 424 && response.json()["error_type"] == "Backend", "\(path)")
      }
    }
    try await TestServer(StandIn.embedder(name: "a"), StandIn.embedder(name: "b")).run { client in
      try await client.post("/v1/embeddings", #"{"input": "a"}"#).isError(400, code: nil, parameter: "model")
      try await client.post("/v1/embeddings", #"{"input": "a", "model": "c"}"#).isError(
        404, code: "model_not_found", parameter: "model")
      #expect(
        try await client.post("/v1/embeddings", #"{"input": "a", "model": "b"}"#).json()["model"] == "b")
      try await client.post("/v1/rerank", #"{"query": "a", "documents": ["b"]}"#).rerankIsError(400)
    }
  }

  // MARK: Reranking and scores

  @Test func rerankForCohereJinaAndVLLM() async throws {
    try await Self.server().run { client in
      let body = #""query": "abc", "documents": ["xyz", {"text": "ab"}, "cba", "x", "ba"]"#
      for (path, hasDocument) in [("/v1/rerank", true), ("/rerank", true), ("/v2/rerank", false)] {
        let answer = try await client.post(path, "{\(body)}").json()
        let results = try #require(answer["results"]?.arrayValue)
        // Equal scores keep the request's order.
        #expect(results.map { $0["index"]?.intValue } == [2, 1, 4, 0, 3])
        let scores: [Float] = [0.75, 2.0 / 3, 2.0 / 3, 0, 0]
        #expect(results.compactMap { $0["relevance_score"]?.doubleValue.map { Float($0) } } == scores)
        #expect(results.allSatisfy { ($0["document"] != nil) == hasDocument }, "\(path)")
        #expect(answer["id"] != nil && answer["object"] == "list" && answer["model"] == "reranker")
        #expect(
          answer["usage"]?["total_tokens"] == 41 && answer["meta"]?["billed_units"]?["search_units"] == 1)
      }
      let top = try await client.post(
        "/v1/rerank", "{\(body), \"top_n\": 2, \"return_documents\": true, \"use_activation\": false}"
      ).json()
      #expect(
        top["results"] == [
          ["index": 2, "relevance_score": .number("3.0"), "document": ["text": "cba"]],
          ["index": 1, "relevance_score": .number("2.0"), "document": ["text": "ab"]],
        ])
      #expect(
        try await client.post("/v1/rerank", "{\(body), \"top_n\": 0}").json()["results"]?.arrayValue?.count
          == 5)
    }
  }

  @Test func rerankForTextEmbeddingsInference() async throws {
    try await Self.server().run { client in
      let body = #""query": "abc", "texts": ["xyz", "ab", "ba"]"#
      let plain = try await client.post("/rerank", "{\(body)}").json()
      #expect(plain.arrayValue?.map { $0["index"]?.intValue } == [1, 2, 0])
      #expect(plain.arrayValue?.allSatisfy { $0.objectValue?.keys == ["index", "score"] } == true)
      let full = try await client.post("/rerank", "{\(body), \"raw_scores\": true, \"return_text\": true}")
        .json()
      #expect(full.arrayValue?[0] == ["index": 1, "score": .number("2.0"), "text": "ab"])
      for (wrong, status, type) in [
        (#"{"query": "a", "texts": []}"#, 400, "Empty"),
        (#"{"query": "a", "texts": [1]}"#, 422, "Validation"),
        (#"{"texts": ["a"]}"#, 422, "Validation"), (#"{"query": "a", "texts": "b"}"#, 422, "Validation"),
      ] {
        let response = try await client.post("/rerank", wrong)
        #expect(
          try response.status.code == status && response.json()["error_type"] == .string(type), "\(wrong)")
        #expect(try response.json().objectValue?.keys == ["error", "error_type"])
      }
    }
  }

  @Test func wrongReranks() async throws {
    try await Self.server().run { client in
      for wrong in [
        #"{"documents": ["a"]}"#, #"{"query": 1, "documents": ["a"]}"#, #"{"query": "a"}"#,
        #"{"query": "a", "documents": []}"#, #"{"query": "a", "documents": "b"}"#,
        #"{"query": "a", "documents": [{"title": "b"}]}"#,
        #"{"query": "a", "documents": ["b"], "top_n": -1}"#,
        #"{"query": "a", "documents": ["b"], "rank_fields": ["title"]}"#,
        #"{"query": "a", "documents": ["b"], "max_tokens_per_doc": 10}"#,
        #"{"query": "a", "documents": ["b"], "raw_scores": true, "use_activation": true}"#,
      ] { try await client.post("/v1/rerank", wrong).rerankIsError(400) }
      let harmless =
        #"{"query": "a", "documents": ["b"], "max_tokens_per_doc": 4096, "rank_fields": ["text"]}"#
      #expect(try await client.post("/v1/rerank", harmless).status == .ok)
      let long = String(repeating: "a", count: 200)
      let cut = try await client.post("/v1/rerank", #"{"query": "a", "documents": ["\#(long)", "a"]}"#).json()
      #expect(cut["warnings"]?.arrayValue?.count == 1)
      try await client.post("/v1/rerank", #"{"query": "a", "documents": ["\#(long)"], "truncate": false}"#)
        .rerankIsError(400)
    }
  }

  @Test func scores() async throws {
    try await Self.server().run { client in
      func scores(_ body: String) async throws -> [Float]? {
        let answer = try await client.post("/score", body).json()
        #expect(answer["object"] == "list" && answer["usage"]?["prompt_tokens"] != nil)
        #expect(answer["data"]?.arrayValue?.allSatisfy { $0["object"] == "score" } == true)
        return answer["data"]?.arrayValue?.compactMap { $0["score"]?.doubleValue.map { Float($0) } }
      }
      #expect(try await scores(#"{"text_1": "ab", "text_2": "xa"}"#) == [0.5])
      let three: [Float] = [0, 2.0 / 3, 0.5]
      #expect(try await scores(#"{"queries": "ab", "documents": ["x", "ab", "a"]}"#) == three)
      #expect(try await scores(#"{"data_1": ["a", "b"], "data_2": ["a", "a"]}"#) == [0.5, 0])
      let cosine = try await scores(#"{"model": "embedder", "text_1": "abc", "text_2": ["abc", "x"]}"#)
      #expect(abs(try #require(cosine?.first) - 1) < 1e-6)
      for wrong in [
        #"{"text_1": ["a", "b"], "text_2": ["a"]}"#, #"{"text_1": "a"}"#, #"{"text_1": "a", "text_2": []}"#,
        #"{"text_1": ["a", "b"], "text_2": ["a", "b", "c"]}"#,
      ] { #expect(try await client.post("/v1/score", wrong).status == .badRequest, "\(wrong)") }
    }
  }

  // MARK: Text Embeddings Inference

  @Test func textEmbeddingsInference() async throws {
    try await Self.server().run { client in
      let one = try await client.post("/embed", #"{"inputs": "abc"}"#).json()
      #expect(one.arrayValue?.count == 1 && Self.floats(one.arrayValue?[0])?.count == 4)
      let raw = try await client.post("/embed", #"{"inputs": ["abc"], "normalize": false}"#).json()
      #expect(Self.floats(raw.arrayValue?[0]) == [5, 256, 257, 1])
      let cut =
        #"{"inputs": "0123456789abcdefghi", "truncate": true, "truncation_direction": "Left", "normalize": false}"#
      #expect(Self.floats(try await client.post("/embed", cut).json().arrayValue?[0]) == [16, 256, 257, 1])
      for (body, status, type) in [
        (#"{"inputs": []}"#, 400, "Empty"), (#"{"inputs": ""}"#, 400, "Empty"),
        (#"{"inputs": 7}"#, 422, "Validation"),
        (#"{"inputs": "0123456789abcdefghi", "truncate": false}"#, 422, "Validation"),
        ("{", 400, "Validation"),
        (#"{"inputs": "a", "dimensions": 2}"#, 422, "Validation"),
      ] {
        let response = try await client.post("/embed", body)
        #expect(
          try response.status.code == status && response.json()["error_type"] == .string(type), "\(body)")
      }
      let pair = try await client.post("/predict", #"{"inputs": ["ab", "a"]}"#).json()
      #expect(pair == [["score": .number("0.5"), "label": "LABEL_0"]])
      let pairs = try await client.post("/predict", #"{"inputs": [["ab", "a"], ["x", "y"]]}"#).json()
      #expect(pairs.arrayValue?.count == 2 && pairs.arrayValue?[0].arrayValue?.count == 1)
      #expect(try await client.post("/predict", #"{"inputs": "a"}"#).status.code == 422)
      let similar = try await client.post(
        "/similarity", #"{"inputs": {"source_sentence": "abc", "sentences": ["abc", "z"]}}"#
      ).json()
      #expect(similar.arrayValue?.count == 2)
      let tokens = try await client.post("/tokenize", #"{"inputs": "ab"}"#).json()
      #expect(tokens.arrayValue?.map { $0.arrayValue?.map { $0["id"] } } == [[256, 97, 98, 257]])
      #expect(tokens.arrayValue?[0].arrayValue?.map { $0["special"] } == [true, false, false, true])
      let bare = try await client.post("/tokenize", #"{"inputs": ["ab"], "add_special_tokens": false}"#)
        .json()
      #expect(bare.arrayValue?[0].arrayValue?.map { $0["text"] } == ["a", "b"])
      #expect(try await client.post("/decode", #"{"ids": [256, 97, 98, 257]}"#).json() == ["ab"])
      #expect(try await client.post("/decode", #"{"ids": [900]}"#).status.code == 422)
      let info = try await client.get("/info").json()
      #expect(info["model_type"] == ["embedding": ["pooling": "cls"]] && info["max_input_length"] == 16)
    }
  }

  // MARK: Real models

  @Test func tasksFollowFromFiles() throws {
    for (path, task) in [
      (Fixture.tinyZhinao, ModelTask.generate), (Fixture.path("tiny-bert"), .embed),
      (Fixture.path("tiny-bert-cross"), .rerank),
    ] { #expect(try ModelTask(of: OpenedModel(path: path, accepting: .all)) == task, "\(path)") }
  }

  @Test func smallModels() async throws {
    let limits = BatchLimits(batchTokens: 64, queue: 8)
    let embedder = try ServedEmbedder.start(
      OpenedModel(path: Fixture.path("tiny-bert"), accepting: .all), name: "tiny-bert", arithmetic: .exact,
      limits: limits
    ).model
    func reranker(_ name: String, _ specials: SpecialTokens) throws -> ServedReranker {
      try ServedReranker.start(
        OpenedModel(path: Fixture.path("tiny-bert-cross"), accepting: .all), name: name, settings: nil,
        specials: specials, arithmetic: .exact, limits: limits
      ).model
    }
    let server = TestServer(embedder, try reranker("cross", .recognized), try reranker("plain", .plain))
    try await server.run { client in
      let texts = #"["春天来了", "却说那老王骑马而去", "The king sailed home.", "x", "春天来了"]"#
      let together = try await client.post("/embed", #"{"inputs": \#(texts)}"#).json()
      let vectors = try #require(together.arrayValue).map { Self.floats($0) }
      #expect(vectors.allSatisfy { $0?.count == 96 } && vectors[0] == vectors[4])
      let alone = try await client.post("/embed", #"{"inputs": "x"}"#).json()
      #expect(Self.floats(alone.arrayValue?[0]) == vectors[3])
      let similar = try await client.post(
        "/similarity", #"{"inputs": {"source_sentence": "老王骑马", "sentences": \#(texts)}}"#
      ).json()
      let cosines = try #require(Self.floats(similar))
      #expect(cosines.indices.max { cosines[$0] < cosines[$1] } == 1)
      let ranked = try await client.post(
        "/rerank", #"{"model": "cross", "query": "老王骑马", "texts": \#(texts)}"#
      ).json()
      #expect(ranked.arrayValue?.first?["index"] == 1)
      // The same passage twice: the request's order.
      let order = (ranked.arrayValue ?? []).compactMap { $0["index"]?.intValue }
      #expect(order.firstIndex(of: 0).map { order[$0 + 1] } == 4)
      func score(_ model: String) async throws -> JSONValue? {
        let body = #"{"model": "\#(model)", "text_1": "a", "text_2": "b [SEP] c"}"#
        return try await client.post("/score", body).json()["usage"]?["prompt_tokens"]
      }
      #expect(try await score("cross") != score("plain"))
    }
  }

  // MARK: Batches

  @Test func manyTextsAreComputedInPiecesAndComeInOrder() async throws {
    let backend = StandInEmbedder()
    try await TestServer(StandIn.embedder(backend, batchTokens: 10)).run { client in
      let texts = (0..<40).map { "\"" + String(repeating: "a", count: 1 + $0 % 5) + "\"" }.joined(
        separator: ",")
      let answer = try await client.post("/embed", #"{"inputs": [\#(texts)], "normalize": false}"#).json()
      let counts = (answer.arrayValue ?? []).compactMap { Self.floats($0)?.first }
      let expected: [Float] = (0..<40).map { Float(3 + $0 % 5) }
      #expect(counts == expected)
      #expect(backend.batches.withLock { $0.count } > 10)
    }
  }
}

extension TestResponse {
  /// An error for Cohere's clients: OpenAI's with a message beside it.
  func rerankIsError(_ status: Int, location: SourceLocation = #_sourceLocation) throws {
    let body = try json()
    #expect(self.status.code == status, sourceLocation: location)
    #expect(body["message"] == body["error"]?["message"] && body["message"] != nil, sourceLocation: location)
  }
}
