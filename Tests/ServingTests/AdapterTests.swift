import Adapters
import Generation
import HTTPTypes
import JSON
import Models
import Serving
import TestSupport
import Testing
import Transformer

/// Adapters of `zhinao-serve --lora`: models of their own in requests, one engine behind them.
@Suite struct AdapterTests {
  private static func models(memoryLimit: Int = 1 << 30) throws -> (models: [ServedModel], plan: MemoryPlan) {
    let opened = try OpenedModel(path: Fixture.path("tiny-zhinao-gqa"))
    let trained = try LoRAAdapter(path: Fixture.path("lora-tiny-zhinao-gqa"))
    let loaded = try LoadedGenerator(
      opened, adapters: [("tone", AppliedAdapter(trained)), ("half", AppliedAdapter(trained, factor: 0.5))],
      arithmetic: .exact)
    #expect(loaded.adapterBytes > 2 * 100_000 && loaded.notes.isEmpty)
    #expect(loaded.residentBytes == opened.store.residentBytes + loaded.adapterBytes)
    return try ServedModel.start(
      loaded, name: "base",
      resources: ServedModel.Resources(
        memoryLimit: memoryLimit, context: nil, parallel: 4, queue: 16, arithmetic: .exact, cacheType: .f32),
      otherBytes: 0)
  }

  private static func server() throws -> TestServer {
    var server = try TestServer()
    server.models = try models().models
    return server
  }

  private static func body(_ model: String?) -> String {
    let name = model.map { "\"model\": \"\($0)\", " } ?? ""
    return "{\(name)\"prompt\": \"Once upon a time\", \"max_tokens\": 8, \"temperature\": 0, \"logprobs\": 1}"
  }

  @Test func areModelsInTheListAndInRequests() async throws {
    try await Self.server().run { client in
      let list = try await client.get("/v1/models").json()
      #expect(list["data"]?.arrayValue?.map { $0["id"] } == ["base", "tone", "half"])
      #expect(list["data"]?.arrayValue?.map { $0["parent"] } == [nil, "base", "base"])
      var answers: [JSONValue?] = []
      for name in [nil, "base", "tone", "half", "tone"] {
        let answer = try await client.post("/v1/completions", Self.body(name)).json()
        #expect(answer["model"] == .string(name ?? "base"))
        answers.append(answer["choices"])
      }
      #expect(answers[0] == answers[1] && answers[2] == answers[4])
      #expect(answers[1] != answers[2] && answers[2] != answers[3] && answers[1] != answers[3])
      // One model alone answers to every name; beside adapters that would be a guess.
      try await client.post("/v1/completions", Self.body("nobody")).isError(
        404, code: "model_not_found", parameter: "model")
    }
  }

  @Test func requestsAtTheSameTimeGetTheirOwnAnswers() async throws {
    let (models, _) = try Self.models()
    let names = ["base", "tone", "half"]
    func answer(_ place: Int) async throws -> [Int] {
      let model = models[place % 3]
      let request = GenerationRequest(
        prompt: [3, 50 + place, 900], maximumNewTokens: 12, variant: place % 3)
      var tokens: [Int] = []
      let ticket = try model.engine.submit([request])
      while let entries = await ticket.next() {
        for entry in entries {
          switch entry.event {
          case .piece(let piece), .finished(_, let piece): tokens += piece.tokens.map(\.id)
          case .prompt, .failed: break
          }
        }
      }
      return tokens
    }
    var alone: [[Int]] = []
    for place in 0..<9 { alone.append(try await answer(place)) }
    let together = try await withThrowingTaskGroup(of: (Int, [Int]).self) { group in
      for place in 0..<9 { group.addTask { (place, try await answer(place)) } }
      var found = [[Int]](repeating: [], count: 9)
      for try await (place, tokens) in group { found[place] = tokens }
      return found
    }
    #expect(names.count == models.count && together == alone)
  }

  @Test func takePartInTheMemoryPlan() throws {
    let (_, plan) = try Self.models()
    let bare = try OpenedModel(path: Fixture.path("tiny-zhinao-gqa")).store.residentBytes
    #expect(plan.weightBytes > bare + 200_000)
  }
}
