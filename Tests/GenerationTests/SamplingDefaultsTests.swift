import Architecture
import Generation
import JSON
import Testing

/// One rule for terminal and server (Docs/serving.md, "Sampling defaults").
@Suite struct SamplingDefaultsTests {
  func parameters(_ configuration: String, _ asked: SamplingChoice = SamplingChoice()) throws
    -> SamplingParameters
  {
    let json = try JSONValue.parse(configuration)
    return SamplingDefaults(try GenerationConfiguration(json, label: "test")).parameters(for: asked)
  }

  @Test(arguments: [
    // Nothing is said: as transformers.
    ("{}", 0.0), ("{\"repetition_penalty\": 1.1, \"max_new_tokens\": 9, \"eos_token_id\": 3}", 0),
    // do_sample decides.
    ("{\"do_sample\": true}", 1), ("{\"do_sample\": true, \"temperature\": 0.7}", 0.7),
    ("{\"do_sample\": false}", 0), ("{\"do_sample\": false, \"temperature\": 0.7, \"top_p\": 0.9}", 0),
    // Without it, whatever only sampling uses: as vLLM and llama.cpp.
    ("{\"temperature\": 0.7}", 0.7), ("{\"top_p\": 0.8}", 1), ("{\"top_k\": 20}", 1),
    ("{\"temperature\": 0}", 0),
    // null is not said; what is out of range is not said either.
    ("{\"do_sample\": null, \"temperature\": null}", 0), ("{\"temperature\": -1}", 0),
    ("{\"temperature\": 1e300}", 0), ("{\"top_p\": 7}", 0), ("{\"top_k\": -9}", 0),
    ("{\"do_sample\": true, \"temperature\": -3}", 1),
  ])
  func theConfigurationDecidesWhenNobodyAsks(configuration: String, temperature: Double) throws {
    #expect(try parameters(configuration).temperature == temperature)
  }

  @Test func whatIsAskedWins() throws {
    let greedy = "{\"do_sample\": false, \"temperature\": 0.7, \"top_p\": 0.8, \"top_k\": 5}"
    #expect(try parameters(greedy, SamplingChoice(temperature: 0.3)).temperature == 0.3)
    #expect(try parameters(greedy, SamplingChoice(doSample: true)).temperature == 0.7)
    #expect(
      try parameters(greedy, SamplingChoice(topP: 0.5)).temperature == 0,
      "top_p alone does not overrule do_sample")
    let sampled = "{\"do_sample\": true, \"temperature\": 0.7, \"repetition_penalty\": 1.2}"
    #expect(try parameters(sampled, SamplingChoice(temperature: 0)).temperature == 0)
    #expect(
      try parameters(sampled, SamplingChoice(doSample: false, temperature: 2)).temperature == 0)
    for asked in [SamplingChoice(topK: 3), SamplingChoice(topP: 0.5), SamplingChoice(minP: 0.1)] {
      #expect(try parameters("{}", asked).temperature == 1)
    }
    let all = try parameters(
      "{\"do_sample\": true, \"top_k\": 5, \"top_p\": 0.8, \"repetition_penalty\": 1.2}",
      SamplingChoice(topK: -1, topP: 0.5, minP: 0.2, repetitionPenalty: 1))
    #expect(all.topK == -1 && all.topP == 0.5 && all.minP == 0.2 && all.repetitionPenalty == 1)
    let model = try parameters(
      "{\"do_sample\": true, \"top_k\": 5, \"top_p\": 0.8, \"repetition_penalty\": 1.2}")
    #expect(model.topK == 5 && model.topP == 0.8 && model.repetitionPenalty == 1.2 && model.minP == 0)
  }

  @Test func valuesOutOfRangeCountAsNotGiven() throws {
    let wild = try parameters(
      "{\"do_sample\": true, \"top_k\": -5, \"top_p\": 1.5, \"repetition_penalty\": 0}")
    #expect(wild.topK == 0 && wild.topP == 1 && wild.repetitionPenalty == 1)
    func newTokens(_ text: String) throws -> Int {
      SamplingDefaults(try GenerationConfiguration(JSONValue.parse(text), label: "test")).newTokens
    }
    #expect(try newTokens("{}") == 512)
    #expect(try newTokens("{\"max_new_tokens\": 64}") == 64)
    #expect(try newTokens("{\"max_new_tokens\": -64}") == 512)
  }

  @Test func temperaturesNearZeroAreZero() {
    var sampler = Sampler(SamplingParameters(temperature: 5e-324, seed: 1))
    var logits: [Float] = [0, 3, 1]
    let id = logits.withUnsafeMutableBufferPointer {
      sampler.choose($0, tokenCount: 3, context: [], generatedFrom: 0)
    }
    #expect(id == 1)
  }
}
