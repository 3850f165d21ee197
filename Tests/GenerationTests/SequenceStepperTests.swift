import TestSupport
import Testing

@testable import Generation

/// The loop of chat, server and benchmark, on a model whose answers are known.
@Suite struct SequenceStepperTests {
  let tokenizer = ByteTokenizer()

  func stepper(_ request: GenerationRequest, capacity: Int = 100) -> SequenceStepper {
    let model = StandInModel(answer: [111])
    return SequenceStepper(
      request, in: CachedSequence(model.makeCache(capacity: capacity, type: .f32)), tokenizer: tokenizer)
  }

  @Test func aPassTakesOneTokenOfEveryAnswerAndTheRoomLeftOfPrompts() {
    let model = StandInModel(answer: [111])
    let answering = stepper(GenerationRequest(prompt: [1], maximumNewTokens: 9))
    _ = ForwardPass([answering], promptTokens: 8).run(on: model)
    #expect(answering.isGenerating && Array(answering.newTokens) == [111])
    let long = stepper(GenerationRequest(prompt: Array(1...20), maximumNewTokens: 9))
    let short = stepper(GenerationRequest(prompt: [7, 8], maximumNewTokens: 9))
    _ = model.takeRuns()

    let pass = ForwardPass([long, answering, short], promptTokens: 8)
    #expect(pass.generatingRows == 1 && pass.rows == 9)
    let steps = pass.run(on: model)
    #expect(steps.map(\.index) == [1], "only the answer has all its tokens in the cache")
    let runs = model.takeRuns()
    #expect(
      runs == [.init(tokens: [111], position: 1), .init(tokens: Array(1...8), position: 0)])

    let next = ForwardPass([long, short], promptTokens: 100).run(on: model)
    #expect(next.map(\.index) == [0, 1])
    #expect(
      model.takeRuns() == [.init(tokens: Array(9...20), position: 8), .init(tokens: [7, 8], position: 0)])
  }

  @Test func endsByTokenTextLimitAndContext() {
    func finish(_ request: GenerationRequest, answer: [Int], capacity: Int = 100) -> (FinishReason?, [Int]) {
      let model = StandInModel(answer: answer)
      let stepper = stepper(request, capacity: capacity)
      while true {
        guard let step = ForwardPass([stepper], promptTokens: 4).run(on: model).first?.step else { continue }
        if case .finished(let reason, _) = step { return (reason, Array(stepper.newTokens)) }
        if case .failed = step { return (nil, []) }
      }
    }
    #expect(
      finish(
        GenerationRequest(prompt: [1, 2], stopTokens: [257], maximumNewTokens: 9), answer: [111, 107, 257])
        == (.stop, [111, 107]))
    #expect(
      finish(
        GenerationRequest(prompt: [1, 2], stopStrings: ["ko"], maximumNewTokens: 9), answer: [111, 107])
        == (.stop, [111, 107, 111]))
    #expect(
      finish(GenerationRequest(prompt: [1, 2], maximumNewTokens: 3), answer: [5]) == (.length, [5, 5, 5]))
    #expect(
      finish(GenerationRequest(prompt: [1, 2], maximumNewTokens: .max), answer: [5], capacity: 6)
        == (.length, [5, 5, 5, 5]))
  }

  @Test func requestsAreCheckedBeforeAnythingRuns() {
    func error(_ prompt: [Int]) -> GenerationError? {
      do throws(GenerationError) {
        try GenerationRequest(prompt: prompt, maximumNewTokens: 1).validate(contextLimit: 4, tokenCount: 10)
        return nil
      } catch { return error }
    }
    #expect(error([]) == .emptyPrompt)
    #expect(error([1, 2, 3]) == nil)
    #expect(error([1, 2, 3, 4]) == .promptTooLong(tokens: 4, limit: 3))
    #expect(error([10]) == .unknownToken(id: 10, tokenCount: 10))
    #expect(error([.min]) == .unknownToken(id: .min, tokenCount: 10))
  }

  /// Ids that no token has are not chosen, however large their logits, and are no log probability either.
  @Test func idsWithoutATokenAreNeverChosen() {
    var logits = [Float](repeating: 0, count: 8)
    (logits[3], logits[5], logits[6]) = (9, 7, 1)
    let chooser = TokenChooser(
      sampler: Sampler(SamplingParameters()), constraints: TokenConstraints(), context: [0],
      generatedFrom: 1, tokenCount: 8, unusedIDs: [3..<4, 5..<6, 70..<90], topLogprobs: 8)
    let choice = logits.withUnsafeMutableBufferPointer { chooser.choose($0) }
    #expect(choice.result == .success(6))
    #expect(choice.logprobs?.top.map(\.id) == [6, 0, 1, 2, 4, 7])
    for temperature in [0.5, 2.0] {
      var sampler = Sampler(SamplingParameters(temperature: temperature, logitBias: [3: 100]))
      for _ in 0..<200 {
        var row = [Float](repeating: 0, count: 8)
        row[3] = 9
        let chooser = TokenChooser(
          sampler: sampler, constraints: TokenConstraints(), context: [0], generatedFrom: 1, tokenCount: 8,
          unusedIDs: [3..<4], topLogprobs: nil)
        let choice = row.withUnsafeMutableBufferPointer { chooser.choose($0) }
        sampler = choice.sampler
        #expect(choice.result != .success(3))
      }
    }
  }

  @Test func aTokenWithoutARowIsNamed() {
    func error(_ prompt: [Int]) -> GenerationError? {
      do throws(GenerationError) {
        try GenerationRequest(prompt: prompt, maximumNewTokens: 1).validate(
          contextLimit: 4, tokenizer: ByteTokenizer(), rows: 66)
        return nil
      } catch { return error }
    }
    #expect(error([1, 65]) == nil)
    #expect(error([1, 66]) == .tokenWithoutRow(name: "B", id: 66, rows: 66))
    #expect(error([1, 66])?.description.contains("the token B with id 66") == true)
    #expect(error([300]) == .unknownToken(id: 300, tokenCount: 66))
  }
}
