import Foundation
import Generation
import Models
import TestSupport
import Testing
import Tokenization
import Transformer

/// What a request produced, all events taken.
struct Outcome: Equatable {
  var reported: [AnswerToken] = []
  var text = ""
  var promptScores: [TokenLogprobs]?
  var summary: GenerationSummary?
  var error: GenerationError?

  /// Without the token that ended the answer.
  var tokens: [Int] { reported.filter(\.isPartOfAnswer).map(\.id) }

  mutating func add(_ piece: AnswerPiece) {
    reported += piece.tokens
    text += piece.text
  }
}

extension GenerationTicket {
  func outcomes(count: Int = 1, onEntry: (Entry) -> Void = { _ in }) async -> [Outcome] {
    var all = Array(repeating: Outcome(), count: count)
    while let entries = await next() {
      for entry in entries {
        onEntry(entry)
        switch entry.event {
        case .prompt(let scores): all[entry.index].promptScores = scores
        case .piece(let piece): all[entry.index].add(piece)
        case .finished(let summary, let piece):
          all[entry.index].add(piece)
          all[entry.index].summary = summary
        case .failed(let error): all[entry.index].error = error
        }
      }
    }
    return all
  }
}

@Suite struct SchedulerTests {
  let decoder: Decoder
  let tokenizer: any Tokenizer

  init() throws {
    let model = try OpenedModel(path: Fixture.tinyZhinao)
    decoder = try model.decoder()
    tokenizer = try model.tokenizer()
  }

  func engine(
    _ model: (any LanguageModel)? = nil, parallel: Int = 4, queue: Int = 100, context: Int = 512,
    budget: Int = 2048, caches: Int? = nil
  ) -> GenerationEngine {
    GenerationEngine(
      model: model ?? decoder, tokenizer: tokenizer,
      limits: SchedulerLimits(
        parallel: parallel, queue: queue, contextLimit: context, budgetTokens: budget, caches: caches))
  }

  func solo(_ request: GenerationRequest) throws -> GenerationResult {
    try TextGenerator(model: decoder, tokenizer: tokenizer).generate(
      request, in: CachedSequence(decoder.makeCache(capacity: 512)))
  }

  /// Prompts of many lengths, some sharing their beginnings, greedy and sampled.
  func requests(_ count: Int) -> [GenerationRequest] {
    (0..<count).map { index in
      let shared = (0..<(index % 3) * 40).map { $0 % 97 + 1 }
      let own = (0..<(1 + index * 7 % 90)).map { ($0 * 31 + index * 17) % 2900 }
      return GenerationRequest(
        prompt: shared + own,
        sampling: index.isMultiple(of: 2)
          ? SamplingParameters() : SamplingParameters(temperature: 1, topP: 0.9, seed: UInt64(index)),
        maximumNewTokens: 5 + index * 5 % 30, client: "client \(index % 5)")
    }
  }

  @Test func answersAreThoseOfRunningAlone() async throws {
    let gated = GatedModel(decoder)
    let engine = engine(gated, parallel: 6, budget: 1200)
    let requests = requests(40)
    let tickets = try requests.map { try engine.submit([$0]) }
    gated.open()
    for (request, ticket) in zip(requests, tickets) {
      let outcome = await ticket.outcomes()[0]
      let expected = try solo(request)
      #expect(outcome.tokens == expected.tokens)
      #expect(outcome.text == expected.text)
      #expect(outcome.summary?.reason == .length)
    }
    let statistics = engine.statistics
    #expect(statistics.running == 0 && statistics.waiting == 0)
    #expect(statistics.generatedTokens == requests.reduce(0) { $0 + $1.maximumNewTokens })
    #expect(statistics.cachedTokens <= 1200)
    #expect(statistics.forwardPasses < statistics.generatedTokens / 2, "passes were not shared")
    engine.drain(until: .now)
  }

  @Test func nextTurnReusesWhatTheFirstLeft() async throws {
    let engine = engine()
    let first = GenerationRequest(prompt: Array(1...200), maximumNewTokens: 20)
    let answer = try await engine.submit([first]).outcomes()[0]
    let second = GenerationRequest(
      prompt: first.prompt + answer.tokens + [7, 8, 9], maximumNewTokens: 20)
    // Another conversation meanwhile.
    _ = try await engine.submit([GenerationRequest(prompt: [5, 4, 3], maximumNewTokens: 3)]).outcomes()
    let next = try await engine.submit([second]).outcomes()[0]
    #expect(next.summary?.reusedTokens == 219)
    #expect(next.tokens == (try solo(second)).tokens)
    // The same prompt again: all of it but the last token.
    let again = try await engine.submit([second]).outcomes()[0]
    #expect(again.summary?.reusedTokens == second.prompt.count - 1)
    #expect(again.tokens == next.tokens)
    engine.drain(until: .now)
  }

  @Test func stopsAtTokensStringsAndLimits() async throws {
    let engine = engine(context: 64)
    let prompt = tokenizer.encode("今天天气", specials: .plain, addingAffixes: true)
    let free = try await engine.submit([GenerationRequest(prompt: prompt, maximumNewTokens: 30)]).outcomes()[
      0]
    #expect(free.tokens.count == 30)
    let stop = try await engine.submit([
      GenerationRequest(prompt: prompt, stopTokens: [free.tokens[4]], maximumNewTokens: 30)
    ]).outcomes()[0]
    #expect(stop.summary?.reason == .stop)
    #expect(!stop.tokens.contains(free.tokens[4]))
    let middle = free.text.index(free.text.startIndex, offsetBy: 5)
    let string = String(free.text[middle...].prefix(3))
    let cut = try await engine.submit([
      GenerationRequest(prompt: prompt, stopStrings: [string], maximumNewTokens: 30)
    ]).outcomes()[0]
    #expect(cut.summary?.reason == .stop)
    #expect(cut.text == String(free.text[..<free.text.range(of: string)!.lowerBound]))
    let full = try await engine.submit([GenerationRequest(prompt: prompt, maximumNewTokens: 500)]).outcomes()[
      0]
    #expect(full.summary?.reason == .length && full.tokens.count == 64 - prompt.count)
    let none = try await engine.submit([GenerationRequest(prompt: prompt, maximumNewTokens: 0)]).outcomes()[0]
    #expect(none.tokens.isEmpty && none.summary?.reason == .length)
    engine.drain(until: .now)
  }

  @Test func refusesWhatDoesNotFit() async throws {
    let gated = GatedModel(decoder)
    let engine = engine(gated, parallel: 1, queue: 2, context: 64, budget: 64)
    func error(_ prompt: [Int]) -> GenerationError? {
      do throws(GenerationError) {
        _ = try engine.submit([GenerationRequest(prompt: prompt, maximumNewTokens: 1)])
        return nil
      } catch { return error }
    }
    #expect(error([]) == .emptyPrompt)
    #expect(error(Array(repeating: 1, count: 64)) == .promptTooLong(tokens: 64, limit: 63))
    #expect(error([1 << 40]) == .unknownToken(id: 1 << 40, tokenCount: tokenizer.tokenCount))
    #expect(error([-1]) == .unknownToken(id: -1, tokenCount: tokenizer.tokenCount))
    let long = GenerationRequest(prompt: [1, 2], maximumNewTokens: 60)
    // One may run, two may wait; together they are refused as a whole.
    #expect(throws: GenerationError.self) { try engine.submit(Array(repeating: long, count: 4)) }
    let tickets = try (0..<3).map { _ in try engine.submit([long]) }
    #expect(throws: GenerationError.self) { try engine.submit([long]) }
    gated.open()
    for ticket in tickets { #expect(await ticket.outcomes()[0].tokens.count == 60) }
    #expect(engine.statistics.waiting == 0)
    engine.drain(until: .now)
  }

  @Test func clientsTakeTurns() {
    var queue = FairQueue<String>()
    for index in 0..<3 { queue.append("a\(index)", client: "a") }
    queue.append("b0", client: "b")
    queue.append("c0", client: "c")
    queue.append("b1", client: "b")
    queue.removeAll { $0 == "c0" }
    #expect(queue.count == 5 && queue.first == "a0")
    var order: [String] = []
    while let next = queue.popFirst() { order.append(next) }
    #expect(order == ["a0", "b0", "a1", "b1", "a2"])
    #expect(queue.isEmpty)
  }

  @Test func memoryIsPlannedBeforehand() throws {
    let c = decoder.configuration
    let perToken = MemoryPlan.bytesPerToken(c, type: .f32)
    func plan(_ limit: Int, context: Int? = nil) throws -> MemoryPlan {
      try MemoryPlan(
        c, limit: limit, weightBytes: 10 << 20, context: context, parallel: 4, bytesPerToken: perToken)
    }
    let rich = try plan(8 << 30)
    #expect(rich.contextLimit == c.contextLength && rich.budgetTokens == 8 * c.contextLength)
    #expect(try plan(8 << 30, context: 100).contextLimit == 100)
    let fixed = rich.workBytes + rich.weightBytes
    let poor = try plan(fixed + 1000 * perToken)
    #expect(poor.contextLimit == 960 && poor.budgetTokens == 960)
    #expect(
      throws: GenerationError.memoryLimitTooSmall(
        limit: fixed + 200 * perToken, needed: fixed + 256 * perToken, weights: rich.weightBytes,
        work: rich.workBytes, token: perToken)
    ) { try plan(fixed + 200 * perToken) }
    #expect(throws: GenerationError.self) { try plan(1) }
    #expect(try plan(1 << 60, context: .max).contextLimit == c.contextLength)
    func conversation(_ limit: Int) -> Int {
      MemoryPlan.conversationContext(c, limit: limit, weightBytes: 10 << 20, bytesPerToken: perToken)
    }
    #expect(conversation(8 << 30) == c.contextLength)
    #expect(conversation(1) == 512, "a person may want to wait")
  }
}
