import Architecture

/// What a request or the options of a command ask of sampling; nil where they say nothing.
package struct SamplingChoice: Equatable, Sendable {
  /// False: always the most likely token, whatever the rest says.
  package var doSample: Bool?
  package var temperature: Double?
  package var topK: Int?
  package var topP: Double?
  package var minP: Double?
  package var repetitionPenalty: Double?

  package init(
    doSample: Bool? = nil, temperature: Double? = nil, topK: Int? = nil, topP: Double? = nil,
    minP: Double? = nil, repetitionPenalty: Double? = nil
  ) {
    self.doSample = doSample
    self.temperature = temperature
    self.topK = topK
    self.topP = topP
    self.minP = minP
    self.repetitionPenalty = repetitionPenalty
  }

  /// Whether it gives a value that only sampling uses.
  fileprivate var shapesSampling: Bool { temperature != nil || topK != nil || topP != nil || minP != nil }
}

/// The values that sampling accepts, from a command line, a request or a model's configuration.
package enum SamplingRange {
  package static let temperature = 0.0...100.0
  /// 0 and −1 both mean all tokens.
  package static let topK = -1...Int.max
  package static let topP = 0.0...1.0
  package static let minP = 0.0...1.0
  package static let repetitionPenalty = 0.01...100.0
  package static let presencePenalty = -2.0...2.0
  package static let logitBias = -100.0...100.0
}

/// How a model samples when nobody says otherwise: the one rule of the terminal and the server.
///
/// Each value is the first of these that is given: the request's (or the option's), the one of the model's
/// `generation_config.json`, the neutral one (temperature 1, no limit, no penalty). Whether there is sampling at all is decided by
/// the first of these that says something:
///
/// 1. the request's `do_sample`;
/// 2. the request's temperature: above 0 samples, 0 does not;
/// 3. the configuration's `do_sample`;
/// 4. any other value that only sampling uses, of the request or the configuration: whoever gives a temperature, a top-k or a
///    top-p wants it to count. Files written for vLLM or llama.cpp rely on it: neither asks for `do_sample`.
/// 5. Nothing was said: the most likely token, as in transformers, whose `do_sample` is false by default. Answers can then be
///    repeated, and a base model without a configuration is not sampled at temperature 1 from its whole vocabulary.
///
/// A value of the configuration that is out of range counts as not given.
package struct SamplingDefaults: Equatable, Sendable {
  private let model: SamplingChoice
  /// The maximum number of tokens of an answer for which nobody gave one.
  package let newTokens: Int

  package init(_ configuration: GenerationConfiguration = GenerationConfiguration()) {
    func value<Value>(_ value: Value?, in range: ClosedRange<Value>) -> Value? {
      value.flatMap { range.contains($0) ? $0 : nil }
    }
    model = SamplingChoice(
      doSample: configuration.doSample,
      temperature: value(configuration.temperature, in: SamplingRange.temperature),
      topK: value(configuration.topK, in: SamplingRange.topK),
      topP: value(configuration.topP, in: SamplingRange.topP),
      repetitionPenalty: value(configuration.repetitionPenalty, in: SamplingRange.repetitionPenalty))
    newTokens = value(configuration.maxNewTokens, in: 1...Int.max) ?? 512
  }

  package func parameters(for asked: SamplingChoice) -> SamplingParameters {
    SamplingParameters(
      temperature: samples(asked) ? asked.temperature ?? model.temperature ?? 1 : 0,
      topK: asked.topK ?? model.topK ?? 0, topP: asked.topP ?? model.topP ?? 1,
      minP: asked.minP ?? model.minP ?? 0,
      repetitionPenalty: asked.repetitionPenalty ?? model.repetitionPenalty ?? 1)
  }

  private func samples(_ asked: SamplingChoice) -> Bool {
    asked.doSample ?? asked.temperature.map { $0 > 0 } ?? model.doSample
      ?? (asked.shapesSampling || model.shapesSampling)
  }
}
