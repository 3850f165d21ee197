import Generation
import TestSupport
import Testing

/// Cancellation, time limits and shutdown: the model waits for the test and the clock is the test's, so that nothing depends
/// on how fast the machine is.
@Suite struct EngineTimeTests {
  let model = StandInModel(answer: [111], waits: true)
  let clock = ManualClock()
  let engine: GenerationEngine

  init() {
    engine = GenerationEngine(
      model: model, tokenizer: ByteTokenizer(),
      limits: SchedulerLimits(parallel: 1, queue: 100, contextLimit: 1000, budgetTokens: 1000),
      now: { [clock] in clock.now })
  }

  /// Ends only when the context is full.
  func endless(_ prompt: [Int], deadline: Duration? = nil) -> GenerationRequest {
    GenerationRequest(
      prompt: prompt, maximumNewTokens: .max, deadline: deadline.map { clock.now + $0 })
  }

  @Test func cancelledRequestsMakeRoomForOthers() async throws {
    let running = try engine.submit([endless([3])])
    let waiting = try engine.submit([endless([4])])
    let last = try engine.submit([GenerationRequest(prompt: [5, 6], maximumNewTokens: 3)])
    model.allow(1)
    _ = await running.next()
    waiting.cancel()
    running.cancel()
    model.open()
    #expect(await last.outcomes()[0].tokens == [111, 111, 111])
    #expect(await running.next() == nil)
    #expect(engine.statistics.finished == ["cancelled": 1, "length": 1])
    #expect(engine.statistics.running == 0 && engine.statistics.waiting == 0)
    engine.drain(until: clock.now)
  }

  @Test func cancellingTheTaskCancelsItsRequests() async throws {
    let task = Task { [engine] in
      try await engine.submit([GenerationRequest(prompt: [8], maximumNewTokens: .max)]).outcomes()
    }
    task.cancel()
    _ = try await task.value
    model.open()
    let next = try engine.submit([GenerationRequest(prompt: [5], maximumNewTokens: 3)])
    #expect(await next.outcomes()[0].tokens.count == 3)
    #expect(engine.statistics.running == 0)
    engine.drain(until: clock.now)
  }

  @Test func timeEndsWaitingWithAnErrorAndAnswersWithWhatThereIs() async throws {
    let running = try engine.submit([endless([3], deadline: .seconds(10))])
    let waiting = try engine.submit([endless([4], deadline: .seconds(10))])
    let patient = try engine.submit([GenerationRequest(prompt: [5], maximumNewTokens: 1)])
    model.allow(1)
    let first = await running.next()
    #expect(first?.count == 1)
    clock.advance(by: .seconds(11))
    model.open()
    let cut = await running.outcomes()[0]
    // The engine may have looked at the clock before it moved: then one more token comes.
    #expect(cut.summary?.reason == .length && cut.tokens.count <= 1 && cut.summary?.newTokens ?? 9 <= 2)
    #expect(await waiting.outcomes()[0].error == .timedOut)
    #expect(await patient.outcomes()[0].tokens == [111])
    engine.drain(until: clock.now)
  }

  @Test func aPromptThatDoesNotFinishInTimeFails() async throws {
    let request = try engine.submit([endless(Array(repeating: 1, count: 900), deadline: .seconds(10))])
    model.allow(1)
    while engine.statistics.forwardPasses == 0 { await Task.yield() }
    clock.advance(by: .seconds(11))
    model.open()
    let outcome = await request.outcomes()[0]
    // One pass takes 512 tokens of a prompt; the engine may have begun the next one before the clock moved.
    #expect(outcome.error == .timedOut || outcome.tokens.count == 1)
    engine.drain(until: clock.now)
  }

  @Test func drainingLetsRequestsFinish() async throws {
    let request = try engine.submit([GenerationRequest(prompt: [3], maximumNewTokens: 3)])
    model.allow(1)
    _ = await request.next()
    engine.drain(until: clock.now + .seconds(100))
    #expect(engine.isDraining)
    model.open()
    let outcome = await request.outcomes()[0]
    #expect(outcome.summary?.newTokens == 3 && outcome.error == nil)
  }

  @Test func drainingFailsWhatIsLeftAtItsDeadline() async throws {
    let first = try engine.submit([GenerationRequest(prompt: [3], maximumNewTokens: 5)])
    let others = try (0..<3).map { _ in try engine.submit([endless([4])]) }
    model.allow(5)
    #expect(await first.outcomes()[0].tokens.count == 5)
    engine.drain(until: clock.now + .seconds(20))
    #expect(throws: GenerationError.shuttingDown) {
      try engine.submit([GenerationRequest(prompt: [4], maximumNewTokens: 5)])
    }
    clock.advance(by: .seconds(21))
    model.open()
    for ticket in others { #expect(await ticket.outcomes()[0].error == .shuttingDown) }
    #expect(engine.statistics.finished == ["length": 1, "error": 1] && engine.statistics.waiting == 0)
  }

  @Test func aWeightThatIsNotFiniteFailsTheRequest() async throws {
    let broken = GenerationEngine(
      model: StandInModel(answer: nil), tokenizer: ByteTokenizer(),
      limits: SchedulerLimits(parallel: 1, queue: 1, contextLimit: 100, budgetTokens: 100))
    let ticket = try broken.submit([GenerationRequest(prompt: [1], maximumNewTokens: 5)])
    #expect(await ticket.outcomes()[0].error == .notFinite)
    broken.drain(until: .now)
  }
}
