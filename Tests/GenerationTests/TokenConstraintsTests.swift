import Generation
import TestSupport
import Testing

/// What a request rules out, on a model whose wishes are known.
@Suite struct TokenConstraintsTests {
  /// All tokens of an answer, and why it ended.
  func answer(
    _ wishes: [Int], _ constraints: TokenConstraints, stopTokens: Set<Int> = [], stops: [String] = [],
    includesStop: Bool = false, most: Int = 6
  ) throws -> (tokens: [AnswerToken], text: String, step: Step?) {
    let model = StandInModel(answer: wishes)
    let request = GenerationRequest(
      prompt: [1], stopTokens: stopTokens, stopStrings: stops, includesStop: includesStop,
      constraints: constraints, maximumNewTokens: most)
    let stepper = SequenceStepper(
      request, in: CachedSequence(model.makeCache(capacity: 50)), tokenizer: ByteTokenizer())
    var pieces: [AnswerPiece] = []
    var last: Step?
    while last == nil {
      let step = try #require(ForwardPass([stepper], promptTokens: 9).run(on: model).first?.step)
      if let piece = step.piece { pieces.append(piece) }
      if case .goesOn = step { continue }
      last = step
    }
    pieces.append(stepper.finish())
    return (pieces.flatMap(\.tokens), pieces.map(\.text).joined(), last)
  }

  func ids(_ wishes: [Int], _ constraints: TokenConstraints) throws -> [Int] {
    try answer(wishes, constraints).tokens.map(\.id)
  }

  @Test func onlyAllowedTokensAreChosen() throws {
    #expect(try ids([111], TokenConstraints(allowed: [70, 65])) == Array(repeating: 65, count: 6))
    #expect(try ids([70], TokenConstraints(allowed: [70, 65])) == Array(repeating: 70, count: 6))
  }

  @Test func theLastTokenOfABannedSequenceIsNotChosenWhereItCompletesIt() throws {
    #expect(try ids([111, 107], TokenConstraints(bannedSequences: [[107]])) == [111, 0, 111, 0, 111, 0])
    #expect(
      try ids([111, 107, 107], TokenConstraints(bannedSequences: [[111, 107]])) == [111, 0, 107, 111, 0, 107])
    // The prompt is not a part of the answer.
    #expect(try ids([107], TokenConstraints(bannedSequences: [[1, 107], []]))[0] == 107)
  }

  @Test func nothingEndsAnAnswerBeforeItsMinimumLength() throws {
    let long = TokenConstraints(minimumNewTokens: 3, endTokens: [257])
    let stopped = try answer([257], long, stopTokens: [257])
    #expect(stopped.tokens.map(\.id) == [0, 0, 0, 257])
    #expect(stopped.tokens.map(\.isPartOfAnswer) == [true, true, true, false])
    // A stop string counts only where it ends after the minimum.
    let text = try answer([111, 107], TokenConstraints(minimumNewTokens: 2), stops: ["ok"])
    #expect(text.text == "ok")
    let spanning = try answer([111, 107], TokenConstraints(minimumNewTokens: 1), stops: ["ok"])
    #expect(spanning.text.isEmpty && spanning.tokens.map(\.isPartOfAnswer) == [false, false])
  }

  @Test func whereNoTokenIsLeftTheRequestFails() throws {
    let end = try answer([65], TokenConstraints(allowed: [65], bannedSequences: [[65, 65]])).step
    guard case .failed(.noTokenLeft) = end else {
      Issue.record("\(String(describing: end))")
      return
    }
  }

  @Test func tokensCarryTheBytesOfTheText() throws {
    // A character in three tokens, cut by a stop string in the middle of a token's neighbours.
    let spring = Array("春天".utf8).map(Int.init)
    let cut = try answer(spring, TokenConstraints(), stops: ["天"])
    #expect(cut.text == "春")
    #expect(cut.tokens.flatMap(\.bytes) == Array("春".utf8))
    #expect(cut.tokens.map(\.isPartOfAnswer) == [true, true, true, false, false, false])
    let kept = try answer(spring, TokenConstraints(), stops: ["天"], includesStop: true)
    #expect(kept.text == "春天" && kept.tokens.allSatisfy(\.isPartOfAnswer))
    let half = try answer(spring, TokenConstraints(), most: 4)
    #expect(half.text == "春\u{FFFD}" && half.tokens.flatMap(\.bytes) == Array("春天".utf8.prefix(4)))
    let end = try answer([111, 257], TokenConstraints(), stopTokens: [257], includesStop: true)
    #expect(end.text == "o" && end.tokens.map(\.bytes) == [[111], []])
  }
}
