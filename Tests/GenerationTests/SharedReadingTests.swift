import Foundation
import Generation
import Models
import TestSupport
import Testing
import Tokenization
import Transformer

/// Requests that come together and begin alike: what they have in common is read once.
@Suite struct SharedReadingTests {
  let decoder: Decoder
  let tokenizer: any Tokenizer
  /// What the prompts begin with.
  let document: [Int]

  init() throws {
    let model = try OpenedModel(path: Fixture.tinyZhinao)
    decoder = try model.decoder()
    tokenizer = try model.tokenizer()
    var random = SplitMix64(seed: 33)
    document = (0..<1300).map { _ in Int.random(in: 0..<2900, using: &random) }
  }

  private func engine(
    _ model: any LanguageModel, type: KVCacheType = .f32, parallel: Int = 4, tokenizer: any Tokenizer
  ) -> GenerationEngine {
    GenerationEngine(
      model: model, tokenizer: tokenizer,
      limits: SchedulerLimits(parallel: parallel, queue: 100, contextLimit: 1500, budgetTokens: 6000),
      cacheType: type)
  }

  @Test(arguments: KVCacheType.allCases)
  func answersAreThoseOfRunningAlone(type: KVCacheType) async throws {
    let prompts = [
      document + [7, 8], document + [9], Array(document[..<700]) + [3, 3, 3], Array(document[..<1300]),
      [5, 6, 7],
    ]
    let requests = prompts.map { GenerationRequest(prompt: $0, maximumNewTokens: 12) }
    let expected = try requests.map {
      try TextGenerator(model: decoder, tokenizer: tokenizer).generate(
        $0, in: CachedSequence(decoder.makeCache(capacity: 1500, type: type))
      ).tokens
    }
    let gated = GatedModel(decoder)
    let engine = engine(gated, type: type, tokenizer: tokenizer)
    let tickets = try requests.map { try engine.submit([$0]) }
    gated.open()
    var reused: [Int] = []
    for (index, ticket) in tickets.enumerated() {
      let outcome = await ticket.outcomes()[0]
      #expect(outcome.tokens == expected[index], "request \(index)")
      reused.append(outcome.summary?.reusedTokens ?? -1)
    }
    // A block of 4 bits that others have gone on from is read again.
    let lost = type == .int4 ? 63 : 0
    #expect(reused[0] == 0 && reused[4] == 0)
    #expect(reused[1] >= 1300 - lost && reused[2] >= 700 - lost && reused[3] >= 1299 - lost, "\(reused)")
    #expect(engine.statistics.waiting == 0 && engine.statistics.running == 0)
    engine.drain(until: .now)
  }

  /// The stand-in notes every token that runs.
  private func start(_ prompts: [[Int]], parallel: Int = 4) throws -> (
    model: StandInModel, engine: GenerationEngine, tickets: [GenerationTicket]
  ) {
    let model = StandInModel(answer: [65], contextLength: 1500, waits: true)
    let engine = engine(model, parallel: parallel, tokenizer: ByteTokenizer())
    let tickets = try prompts.enumerated().map {
      try engine.submit([
        GenerationRequest(prompt: $0.element, maximumNewTokens: 2, client: "\($0.offset)")
      ])
    }
    return (model, engine, tickets)
  }

  private var bytes: [Int] { document.map { $0 % 256 } }

  @Test func aDocumentRunsOnceAndOthersNeedNotWait() async throws {
    let prompts = [bytes + [1, 2], bytes + [3], [9, 9, 9], bytes + [4, 4]]
    let (model, engine, tickets) = try start(prompts)
    model.allow(4)
    // The one that has nothing in common with the others does not wait for them.
    let short = await tickets[2].outcomes()[0]
    #expect(short.tokens.count == 2)
    model.open()
    for index in [0, 1, 3] {
      let outcome = await tickets[index].outcomes()[0]
      #expect(outcome.tokens.count == 2 && outcome.summary?.reusedTokens == (index == 0 ? 0 : 1300))
    }
    // Prompts, and one token of each answer that another followed.
    let tokens = model.takeRuns().reduce(0) { $0 + $1.tokens.count }
    #expect(tokens == 1302 + 1 + 3 + 2 + 4)
    #expect(engine.statistics.reusedTokens == 2600)
    engine.drain(until: .now)
  }

  @Test func whenTheFirstIsCancelledTheNextGoesOnFromThere() async throws {
    let (model, engine, tickets) = try start([bytes + [1], bytes + [2], bytes + [3]])
    model.allow(1)
    while engine.statistics.forwardPasses == 0 { try await Task.sleep(for: .milliseconds(1)) }
    tickets[0].cancel()
    model.open()
    let next = await tickets[1].outcomes()[0]
    let last = await tickets[2].outcomes()[0]
    #expect(next.tokens.count == 2 && last.tokens.count == 2)
    #expect(next.summary?.reusedTokens ?? 0 >= 512 && last.summary?.reusedTokens == 1300)
    let tokens = model.takeRuns().reduce(0) { $0 + $1.tokens.count }
    #expect(tokens <= 1300 + 4 + 2)
    engine.drain(until: .now)
  }

  @Test func waitingRequestsEndWithTheirDeadlineAndTheEngine() async throws {
    let model = StandInModel(answer: [65], contextLength: 1500, waits: true)
    let engine = engine(model, tokenizer: ByteTokenizer())
    let first = try engine.submit([GenerationRequest(prompt: bytes + [1], maximumNewTokens: 2)])
    var late = GenerationRequest(prompt: bytes + [2], maximumNewTokens: 2)
    late.deadline = .now + .milliseconds(50)
    let second = try engine.submit([late])
    let third = try engine.submit([GenerationRequest(prompt: bytes + [3], maximumNewTokens: 2)])
    third.cancel()
    try await Task.sleep(for: .milliseconds(80))
    model.open()
    #expect(await second.outcomes()[0].error == .timedOut)
    #expect(await third.outcomes()[0].tokens.isEmpty)
    #expect(await first.outcomes()[0].tokens.count == 2)
    #expect(engine.statistics.waiting == 0)
    engine.drain(until: .now)
  }

  /// Requests of one client that wait for each other take no turns from others.
  @Test func followersTakeNoMorePlacesThanOthers() async throws {
    let (model, engine, tickets) = try start([bytes + [1], bytes + [2], bytes + [3], [9]], parallel: 2)
    model.allow(2)
    while engine.statistics.forwardPasses < 2 { try await Task.sleep(for: .milliseconds(1)) }
    #expect(engine.statistics.running == 1 && engine.statistics.waiting == 3)
    model.open()
    for ticket in tickets { #expect(await ticket.outcomes()[0].tokens.count == 2) }
    engine.drain(until: .now)
  }
}
