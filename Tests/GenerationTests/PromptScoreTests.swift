import Foundation
import Generation
import Models
import TestSupport
import Testing
import Tokenization
import Transformer

/// Log probabilities of prompts.
@Suite struct PromptScoreTests {
  let decoder: Decoder
  let tokenizer: any Tokenizer

  init() throws {
    let model = try OpenedModel(path: Fixture.tinyZhinao)
    decoder = try model.decoder()
    tokenizer = try model.tokenizer()
  }

  /// Of each token but the first, from one plain forward pass.
  func expected(_ ids: [Int]) -> [Double] {
    let hidden = decoder.hiddenStates(ids, cache: decoder.makeCache(capacity: ids.count))
    let logits = decoder.logits(hidden, rows: 0..<ids.count)
    return ids.indices.dropFirst().map { position in
      let row = UnsafeBufferPointer(
        start: logits.pointer + (position - 1) * decoder.vocabularySize, count: tokenizer.tokenCount)
      let largest = Double(row.max()!)
      return Double(row[ids[position]]) - largest - log(row.reduce(0) { $0 + exp(Double($1) - largest) })
    }
  }

  let prompt = (0..<45).map { ($0 * 7) % 2000 }

  /// In passes of 20 tokens, which are more than a block of scored rows.
  @Test func aPromptInPiecesIsScoredOnce() throws {
    let request = GenerationRequest(prompt: prompt, maximumNewTokens: 0, promptLogprobs: 2)
    let stepper = SequenceStepper(
      request, in: CachedSequence(decoder.makeCache(capacity: 60)), tokenizer: tokenizer)
    #expect(!stepper.hasRoom && stepper.hasWork && stepper.finishedPromptScores == nil)
    var passes = 0
    while stepper.hasWork {
      let steps = ForwardPass([stepper], promptTokens: 20).run(on: decoder)
      passes += 1
      #expect(steps.isEmpty == (passes < 3))
    }
    let scores = try #require(stepper.finishedPromptScores)
    #expect(passes == 3 && scores.map(\.chosen.id) == Array(prompt.dropFirst()))
    for (score, logprob) in zip(scores, expected(prompt)) {
      #expect(abs(score.chosen.logprob - logprob) < 1e-4)
      #expect(score.top.count == 2 && score.rank >= 1)
      #expect((score.rank == 1) == (score.top[0].logprob == score.chosen.logprob))
    }
  }

  @Test func aPromptThatIsInACacheIsScoredWhole() async throws {
    let engine = GenerationEngine(
      model: decoder, tokenizer: tokenizer,
      limits: SchedulerLimits(parallel: 3, queue: 9, contextLimit: 60, budgetTokens: 300))
    _ = try await engine.submit([GenerationRequest(prompt: prompt, maximumNewTokens: 2)]).outcomes()
    let requests = [(prompt, 0), (Array(prompt.prefix(21)), 3), (Array(prompt.prefix(1)), 0)].map {
      GenerationRequest(prompt: $0, maximumNewTokens: $1, topLogprobs: 0, promptLogprobs: 0)
    }
    let outcomes = try await engine.submit(requests).outcomes(count: 3)
    for (outcome, request) in zip(outcomes, requests) {
      let scores = try #require(outcome.promptScores)
      for (score, logprob) in zip(scores, expected(request.prompt)) {
        #expect(abs(score.chosen.logprob - logprob) < 1e-4)
      }
      #expect(scores.count == request.prompt.count - 1 && outcome.tokens.count == request.maximumNewTokens)
      #expect(outcome.summary?.reusedTokens == 0 && outcome.summary?.reason == .length)
    }
    engine.drain(until: .now)
  }

  @Test func aWeightThatIsNotFiniteFailsTheRequest() async throws {
    let engine = GenerationEngine(
      model: StandInModel(answer: nil), tokenizer: ByteTokenizer(),
      limits: SchedulerLimits(parallel: 1, queue: 1, contextLimit: 100, budgetTokens: 100))
    let ticket = try engine.submit([
      GenerationRequest(prompt: [1, 2], maximumNewTokens: 0, promptLogprobs: 0)
    ])
    #expect(await ticket.outcomes()[0].error == .notFinite)
    engine.drain(until: .now)
  }
}
