import Foundation
import Generation
import Models
import TestSupport
import Testing
import Tokenization
import Transformer

/// What a request produced, all events taken.
struct Outcome: Equatable {
  var tokens: [Int] = []
  var text = ""
  var summary: GenerationSummary?
  var error: SchedulingError?
}

extension GenerationTicket {
  func outcomes(count: Int = 1, onEntry: (Entry) -> Void = { _ in }) async -> [Outcome] {
    var all = Array(repeating: Outcome(), count: count)
    while let entries = await next() {
      for entry in entries {
        onEntry(entry)
        switch entry.event {
        case .token(let id, let text, _):
          all[entry.index].tokens.append(id)
          all[entry.index].text += text
        case .finished(let summary, let text):
          all[entry.index].text += text
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

  func engine(parallel: Int = 4, queue: Int = 100, context: Int = 512, budget: Int = 2048, caches: Int? = nil)
    -> GenerationEngine
  {
    GenerationEngine(
      decoder: decoder, tokenizer: tokenizer,
      limits: SchedulerLimits(
        parallel: parallel, queue: queue, contextLimit: context, budgetTokens: budget, caches: caches))
  }

  func solo(_ request: GenerationRequest) throws -> GenerationResult {
    try TextGenerator(model: decoder, tokenizer: tokenizer).generate(
      prompt: request.prompt, cache: decoder.makeCache(capacity: 512), sampling: request.sampling,
      stopTokens: request.stopTokens, maximumNewTokens: request.maximumNewTokens)
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
    let engine = engine(parallel: 6, budget: 1200)
    let requests = requests(40)
    let tickets = try requests.map { try engine.submit([$0]) }
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
    let engine = engine(parallel: 1, queue: 2, context: 64, budget: 64)
    func error(_ prompt: [Int]) -> SchedulingError? {
      do throws(SchedulingError) {
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
    #expect(throws: SchedulingError.self) { try engine.submit(Array(repeating: long, count: 4)) }
    let tickets = try (0..<3).map { _ in try engine.submit([long]) }
    #expect(throws: SchedulingError.self) { try engine.submit([long]) }
    for ticket in tickets { #expect(await ticket.outcomes()[0].tokens.count == 60) }
    #expect(engine.statistics.waiting == 0)
    engine.drain(until: .now)
  }

  /// More tokens than any machine generates while a test runs.
  static let endlessTokens = 50_000
  func endless(_ prompt: [Int]) -> GenerationRequest {
    GenerationRequest(prompt: prompt, maximumNewTokens: SchedulerTests.endlessTokens)
  }
  func endlessEngine() -> GenerationEngine {
    engine(parallel: 1, context: SchedulerTests.endlessTokens + 16, budget: SchedulerTests.endlessTokens + 16)
  }

  /// Statistics follow the events they count by a moment.
  func eventually(_ condition: () -> Bool) async -> Bool {
    for _ in 0..<1000 where !condition() { try? await Task.sleep(for: .milliseconds(10)) }
    return condition()
  }

  @Test func cancelledRequestsMakeRoomForOthers() async throws {
    let engine = endlessEngine()
    let running = try engine.submit([endless([3])])
    let waiting = try engine.submit([endless([4])])
    let short = GenerationRequest(prompt: [5, 6], maximumNewTokens: 3)
    let last = try engine.submit([short])
    _ = await running.next()
    waiting.cancel()
    running.cancel()
    #expect(await last.outcomes()[0].tokens == (try solo(short)).tokens)
    #expect(await running.next() == nil)
    #expect(await eventually { engine.statistics.finished["cancelled"] == 1 })
    let task = Task { try await engine.submit([endless([8])]).outcomes() }
    task.cancel()
    _ = try await task.value
    _ = try await engine.submit([short]).outcomes()
    #expect(await eventually { engine.statistics.running == 0 })
    engine.drain(until: .now)
  }

  @Test func timeEndsWaitingWithAnErrorAndAnswersWithWhatThereIs() async throws {
    let engine = engine(parallel: 1)
    var request = GenerationRequest(prompt: [3], maximumNewTokens: 500)
    request.deadline = .now + .milliseconds(150)
    let running = try engine.submit([request])
    let waiting = try engine.submit([request])
    let cut = await running.outcomes()[0]
    // A fast machine may finish in time.
    #expect(cut.summary?.reason == .length && !cut.tokens.isEmpty)
    if cut.tokens.count < 500 { #expect(await waiting.outcomes()[0].error == .timedOut) }
    engine.drain(until: .now)
  }

  @Test func drainingFinishesOrFailsEverything() async throws {
    let engine = endlessEngine()
    let first = try engine.submit([GenerationRequest(prompt: [3], maximumNewTokens: 5)])
    let endless = try (0..<3).map { _ in try engine.submit([self.endless([4])]) }
    #expect(await first.outcomes()[0].tokens.count == 5)
    engine.drain(until: .now + .milliseconds(20))
    #expect(throws: SchedulingError.shuttingDown) {
      try engine.submit([GenerationRequest(prompt: [4], maximumNewTokens: 5)])
    }
    let outcomes = await [endless[0].outcomes()[0], endless[1].outcomes()[0], endless[2].outcomes()[0]]
    #expect(outcomes.allSatisfy { $0.error == .shuttingDown || $0.summary != nil })
    #expect(outcomes[2].error == .shuttingDown)
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
    let perToken = CacheChoice().bytesPerToken(c)
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
    #expect(throws: GenerationError.self) { try plan(fixed + 200 * perToken) }
  }
}

@Suite struct AnswerTextTests {
  @Test func holdsBackWhatMayBecomeAStop() throws {
    let tokenizer = try OpenedModel(path: Fixture.tinyZhinao).tokenizer()
    func pieces(_ text: String, stops: [String]) throws -> [String] {
      var answer = AnswerText(tokenizer, stops: stops)
      return try tokenizer.encode(text, specials: .plain, addingAffixes: false).map { try answer.push($0) }
        + [answer.finish()]
    }
    for (text, stops, expected) in [
      ("one two three", ["two"], "one "), ("one two three", ["twx"], "one two three"), ("aab", ["ab"], "a"),
      ("春天来了，花开了", ["花"], "春天来了，"), ("春天来了", ["", "了。"], "春天来了"), ("ababac", ["abac", "zz"], "ab"),
      ("xyz", ["yz", "xy"], ""),
    ] {
      #expect(try pieces(text, stops: stops).joined() == expected)
    }
    // Bytes, not what a reader sees: marks that follow do not hide a stop, and other spellings are other texts.
    for (text, stops, expected) in [
      ("a END\u{301}b", ["END"], "a "), ("a\r\nb", ["\n"], "a\r"), ("x\u{E9}y", ["e\u{301}"], "x\u{E9}y"),
      ("xe\u{301}y", ["e"], "x"), ("\u{1F44D}\u{1F3FD}!", ["\u{1F3FD}"], "\u{1F44D}"),
      ("a\u{200D}b", ["\u{200D}"], "a"),
      ("1\u{FE0F}\u{20E3}", ["\u{FE0F}"], "1"),
    ] {
      let found = try pieces(text, stops: stops).joined()
      #expect(found.utf8.elementsEqual(expected.utf8))
    }
  }
}
