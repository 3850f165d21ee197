import Foundation
import Generation
import JSON
import Models
import TestSupport
import Testing

@Suite struct SamplerTests {
  static func choose(_ parameters: SamplingParameters, _ logits: [Float], context: [Int] = [], times: Int = 1)
    -> [Int]
  {
    var sampler = Sampler(parameters)
    return (0..<times).map { _ in
      var copy = logits
      return copy.withUnsafeMutableBufferPointer {
        sampler.choose($0, tokenCount: logits.count, context: context, generatedFrom: 0)
      }
    }
  }

  @Test func greedyTakesTheLargestAndNeverPadding() {
    #expect(Self.choose(SamplingParameters(), [0, 3, 1]) == [1])
    // The first of equals, wherever it stands among vectors of 16.
    for position in [0, 5, 15, 16, 40, 47, 48, 49] {
      var many = [Float](repeating: -1, count: 50)
      many[position] = 2
      many[49] = 2
      #expect(Self.choose(SamplingParameters(), many) == [position])
    }
    var sampler = Sampler(SamplingParameters())
    var logits: [Float] = [0, 3, 9]
    let id = logits.withUnsafeMutableBufferPointer {
      sampler.choose($0, tokenCount: 2, context: [], generatedFrom: 0)
    }
    #expect(id == 1)
  }

  @Test func frequenciesFollowTheProbabilities() {
    let logits: [Float] = [0, 1, 2]
    let found = Self.choose(SamplingParameters(temperature: 1, seed: 5), logits, times: 20_000)
    for (id, p) in [(0, 0.0900), (1, 0.2447), (2, 0.6652)] {
      #expect(abs(Double(found.count { $0 == id }) / 20_000 - p) < 0.015)
    }
    #expect(found == Self.choose(SamplingParameters(temperature: 1, seed: 5), logits, times: 20_000))
  }

  @Test func limitsKeepOnlyTheLikely() {
    let logits: [Float] = [0, 1, 2, 3]
    #expect(Set(Self.choose(SamplingParameters(temperature: 5, topK: 2), logits, times: 500)) == [2, 3])
    #expect(Set(Self.choose(SamplingParameters(temperature: 1, topP: 0.8), logits, times: 500)) == [2, 3])
    #expect(Set(Self.choose(SamplingParameters(temperature: 1, topP: 0.01), logits, times: 100)) == [3])
    #expect(
      Set(Self.choose(SamplingParameters(temperature: 5, topK: -1), logits, times: 2000)) == [0, 1, 2, 3])
  }

  @Test func minPAndBiasesShapeTheChoice() {
    let logits: [Float] = [0, 1, 2, 3]
    // Relative to the likeliest: 0.05, 0.14, 0.37, 1.
    #expect(Set(Self.choose(SamplingParameters(temperature: 1, minP: 0.3), logits, times: 500)) == [2, 3])
    #expect(
      Set(Self.choose(SamplingParameters(temperature: 1, topK: 3, minP: 0.3), logits, times: 500)) == [2, 3])
    #expect(Self.choose(SamplingParameters(logitBias: [0: 3.5, 9: 100]), logits) == [0])
    #expect(
      Set(Self.choose(SamplingParameters(temperature: 5, logitBias: [3: -100]), logits, times: 500)) == [
        0, 1, 2,
      ])
  }

  @Test func likelyPartOfALargeVocabularyIsTheSortedOne() {
    // Flat enough that more than the first guess of 64 is needed.
    let logits = (0..<5000).map { Float(($0 * 7919) % 5000) / 2500 }
    let sorted = logits.indices.sorted { (logits[$1], $0) < (logits[$0], $1) }
    let weights = sorted.map { exp(Double(logits[$0])) }
    for p in [0.001, 0.1, 0.5, 0.95] {
      var sum = 0.0
      let kept = weights.prefix { weight in
        defer { sum += weight }
        return sum < p * weights.reduce(0, +)
      }.count
      let found = Set(Self.choose(SamplingParameters(temperature: 1, topP: p), logits, times: 300))
      #expect(found.isSubset(of: sorted.prefix(kept)))
    }
  }

  @Test func logprobsAreThoseOfTheModel() {
    let logits: [Float] = [0, 1, 2, 1]
    let result = logits.withUnsafeBufferPointer { TokenLogprobs($0, chosen: 0, topCount: 2) }
    let total = log(1 + 2 * exp(1.0) + exp(2.0))
    #expect(abs(result.chosen.logprob + total) < 1e-12)
    #expect(result.top.map(\.id) == [2, 1])
    #expect(abs(result.top[0].logprob - (2 - total)) < 1e-12)
  }

  @Test func penaltiesLowerWhatWasSaid() {
    #expect(Self.choose(SamplingParameters(repetitionPenalty: 2), [1, 1.5], context: [1]) == [0])
    #expect(Self.choose(SamplingParameters(repetitionPenalty: 2), [-1.5, -1], context: [1]) == [0])
    #expect(Self.choose(SamplingParameters(presencePenalty: 1), [1, 1.5], context: [1]) == [0])
    #expect(Self.choose(SamplingParameters(frequencyPenalty: 0.3), [1, 1.5], context: [1, 1]) == [0])
  }
}

@Suite struct TextGeneratorTests {
  @Test(arguments: ["tiny-zhinao", "tiny-zhinao-gqa"])
  func greedyTokensAreThoseOfTransformers(name: String) throws {
    let model = try OpenedModel(path: name == "tiny-zhinao" ? Fixture.tinyZhinao : Fixture.path(name))
    let decoder = try model.decoder()
    let generator = TextGenerator(model: decoder, tokenizer: try model.tokenizer())
    let prompts = try #require(
      try JSONValue.parse(file: Fixture.path("golden/logits-\(name).json"))["prompts"]?.arrayValue)
    var compared = 0
    for prompt in prompts {
      let ids = try #require(prompt["ids"]?.arrayValue).compactMap(\.intValue)
      let key = try #require(
        prompt.objectValue?.keys.first { $0.hasPrefix("greedy") && !$0.contains("margin") })
      let greedy = try #require(prompt[key]?.arrayValue).compactMap(\.intValue)
      let margins = (prompt["greedy_margin"]?.arrayValue ?? []).compactMap(\.doubleValue)
      // Where two tokens are this close, another order of summation may choose the other one.
      let sure = margins.firstIndex { $0 < 1e-3 } ?? greedy.count
      var text = ""
      let result = try generator.generate(
        GenerationRequest(prompt: ids, maximumNewTokens: greedy.count),
        in: CachedSequence(decoder.makeCache(capacity: ids.count + greedy.count + 1))
      ) { piece in
        text += piece
        return true
      }
      #expect(Array(result.tokens.prefix(sure)) == Array(greedy.prefix(sure)))
      #expect(text == result.text)
      compared += sure
    }
    #expect(compared > 20)
  }

  @Test func stopsWhereItShould() throws {
    let model = try OpenedModel(path: Fixture.path("tiny-zhinao-gqa"))
    let decoder = try model.decoder()
    let generator = TextGenerator(model: decoder, tokenizer: try model.tokenizer())
    func run(stop: Set<Int>, limit: Int, capacity: Int = 64, keepGoing: Bool = true) throws
      -> GenerationResult
    {
      try generator.generate(
        GenerationRequest(prompt: [10, 20, 30], stopTokens: stop, maximumNewTokens: limit),
        in: CachedSequence(decoder.makeCache(capacity: capacity))
      ) { _ in keepGoing }
    }
    let free = try run(stop: [], limit: 8)
    #expect(free.tokens.count == 8 && free.finishReason == .length)
    let stopped = try run(stop: [free.tokens[3]], limit: 8)
    #expect(stopped.finishReason == .stop)
    #expect(!stopped.tokens.contains(free.tokens[3]))
    #expect(try run(stop: [], limit: 100, capacity: 8).finishReason == .length)
    #expect(try run(stop: [], limit: 8, keepGoing: false).finishReason == .cancelled)
    #expect(try run(stop: [], limit: 0).tokens.isEmpty)
    #expect(try run(stop: [], limit: .max, capacity: 8).tokens.count == 5)
    #expect(throws: GenerationError.promptTooLong(tokens: 3, limit: 2)) {
      try run(stop: [], limit: 8, capacity: 3)
    }
  }
}
