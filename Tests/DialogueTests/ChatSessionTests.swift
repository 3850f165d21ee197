import Contexts
import Dialogue
import Generation
import Models
import Tensors
import TestSupport
import Testing
import Tokenization
import Transformer

@Suite struct ChatSessionTests {
  static let settings = ChatSession.Settings(maximumNewTokens: 50)

  /// Says "ok" and stops.
  static func make(
    answer: [Int] = [111, 107, 257], capacity: Int = 1000, contents: SpecialTokens = .plain
  )
    -> (session: ChatSession, model: StandInModel)
  {
    let model = StandInModel(answer: answer)
    let session = ChatSession(
      model: model, tokenizer: ByteTokenizer(), template: .chatML(defaultSystem: "S"), contents: contents,
      stopTokens: [257, 258], capacity: capacity)
    return (session, model)
  }

  @Test func onlyNewTokensRun() throws {
    let (session, model) = Self.make()
    let first = try session.ask("hello", settings: Self.settings)
    #expect(first.result.text == "ok" && first.result.finishReason == .stop && first.reusedTokens == 0)
    let prompt = model.takeRuns()
    #expect(prompt[0].position == 0 && prompt[0].tokens.count == first.promptTokens)
    let held = session.contextTokens
    #expect(held == first.promptTokens + 2)
    let second = try session.ask("more", settings: Self.settings)
    // The whole of what the cache held is used; what runs is <|im_end|>, a line end and the new turn.
    #expect(second.reusedTokens == held)
    let runs = model.takeRuns()
    #expect(runs[0].position == held && runs[0].tokens.count == second.promptTokens - held)
    #expect(runs[0].tokens.starts(with: [257, 10, 256] + "user\nmore".utf8.map(Int.init)))
  }

  @Test func regenerationAndOtherBeginningsReuseWhatIsTheSame() throws {
    let (session, model) = Self.make()
    let first = try session.ask("hello", settings: Self.settings)
    _ = model.takeRuns()
    let again = try session.regenerate(settings: Self.settings)
    #expect(again.reusedTokens == first.promptTokens - 1, "all but the token whose logits are needed")
    #expect(model.takeRuns()[0].tokens.count == 1)
    #expect(session.conversation.turns.map(\.content) == ["hello", "ok"])
    session.setSystem("T")
    let other = try session.ask("hi", settings: Self.settings)
    #expect(other.reusedTokens == 1 + "system\n".utf8.count, "up to the system message")
    session.clear()
    #expect(session.conversation.turns.isEmpty && session.conversation.system == "T")
    let last = try session.ask("hi", settings: Self.settings)
    #expect(last.reusedTokens > other.reusedTokens && last.promptTokens < other.promptTokens)
  }

  /// The context overflows: the oldest turns go, the system message stays, the rest is used again afterwards.
  @Test func theOldestTurnsGoWhenTheContextIsFull() throws {
    let (session, model) = Self.make(capacity: 400)
    var dropped = 0
    for turn in 1...20 {
      let answer = try session.ask("question number \(turn)", settings: Self.settings)
      #expect(answer.promptTokens + 50 <= 400)
      let runs = model.takeRuns()
      if answer.droppedTurns > 0 {
        #expect(answer.droppedTurns % 2 == 0 && answer.promptTokens <= 200)
        dropped += answer.droppedTurns
        #expect(session.firstTurn == dropped)
        // The prompt still opens with the system message, and then the first turn that is left.
        let prompt = runs[0].position == 0 ? runs[0].tokens : []
        let text = String(decoding: prompt.filter { $0 < 256 }.map(UInt8.init), as: UTF8.self)
        #expect(prompt.isEmpty || text.hasPrefix("system\nS\nuser\nquestion"))
        #expect(answer.reusedTokens <= answer.promptTokens - 100)
      } else if turn > 1 {
        #expect(runs[0].tokens.count < 60, "turn \(turn) ran \(runs[0].tokens.count) tokens")
      }
    }
    #expect(dropped >= 10 && session.conversation.turns.count == 40, "nothing is lost for /save")
    #expect(session.conversation.turns[session.firstTurn].role == "user")
  }

  @Test func aMessageThatCannotFitIsTakenBack() throws {
    let (session, _) = Self.make(capacity: 100)
    _ = try session.ask("hi", settings: Self.settings)
    let before = session.conversation
    #expect(throws: GenerationError.self) {
      try session.ask(String(repeating: "x", count: 200), settings: Self.settings)
    }
    #expect(session.conversation == before && session.firstTurn == 0)
    #expect(try session.ask("hi", settings: Self.settings).result.text == "ok")
  }

  @Test func theContextsEndIsNotTheLimit() throws {
    let (session, _) = Self.make(answer: [111], capacity: 80)
    let answer = try session.ask("hi", settings: ChatSession.Settings(maximumNewTokens: 1000))
    #expect(answer.filledContext && answer.result.finishReason == .length && session.contextTokens < 80)
    let (other, _) = Self.make(answer: [111], capacity: 80)
    #expect(try !other.ask("hi", settings: ChatSession.Settings(maximumNewTokens: 3)).filledContext)
  }

  /// Stopped half-way, an answer stays as far as it came; before its first token the message is taken back.
  @Test func stoppedAnswers() throws {
    let (session, _) = Self.make(answer: [111])
    var pieces = 0
    let answer = try session.ask(
      "hi", settings: Self.settings, isCancelled: { pieces >= 3 }, onText: { _ in pieces += 1 })
    #expect(answer.result.finishReason == .cancelled && answer.result.text == "ooo")
    #expect(session.conversation.turns.map(\.content) == ["hi", "ooo"])
    let missing = try session.ask("again", settings: Self.settings, isCancelled: { true })
    #expect(missing.isMissing && session.conversation.turns.count == 2)
    let lost = try session.regenerate(settings: Self.settings, isCancelled: { true })
    #expect(lost.isMissing && session.conversation.turns.map(\.content) == ["hi", "ooo"])
  }

  /// What a person types is text, whatever it looks like, unless asked otherwise.
  @Test func specialTokensInMessages() throws {
    for (contents, marks) in [(SpecialTokens.plain, 2), (.recognized, 3)] {
      let (session, model) = Self.make(contents: contents)
      _ = try session.ask("<|im_end|>", settings: Self.settings)
      #expect(model.takeRuns()[0].tokens.count { $0 == 257 } == marks)
    }
  }

  @Test func withoutATemplateNothingIsRemembered() throws {
    let model = StandInModel(answer: [111, 258])
    let session = ChatSession(
      model: model, tokenizer: ByteTokenizer(), template: nil, contents: .plain, stopTokens: [258],
      capacity: 100)
    for text in ["abc", "xyz"] {
      _ = try session.ask(text, settings: Self.settings)
      #expect(model.takeRuns()[0] == StandInModel.Run(tokens: text.utf8.map(Int.init), position: 0))
    }
    #expect(throws: GenerationError.self) { try session.ask("", settings: Self.settings) }
  }

  /// With a real model: a conversation whose cache is reused says, turn by turn, what a fresh run of the same prompt says.
  @Test(arguments: [Int4Arithmetic.exact, .fast])
  func reuseChangesNoToken(arithmetic: Int4Arithmetic) throws {
    let opened = try OpenedModel(path: Fixture.tinyZhinao)
    let tokenizer = try opened.tokenizer()
    let template = try #require(try ChatTemplate.detected(tokenizer: tokenizer, files: opened.files))
    let decoder = try opened.decoder(arithmetic: arithmetic)
    let stops = try opened.stopTokens(tokenizer: tokenizer, template: template)
    func session() -> ChatSession {
      ChatSession(
        model: decoder, tokenizer: tokenizer, template: template, contents: .plain, stopTokens: stops,
        capacity: 600)
    }
    let settings = ChatSession.Settings(
      sampling: SamplingParameters(repetitionPenalty: 1.3), maximumNewTokens: 24)
    let continued = session()
    var reused = 0
    for text in ["请续写下面的文字：宝玉", "再写一段", "Go on, please."] {
      let before = continued.conversation
      let answer = try continued.ask(text, settings: settings)
      let fresh = session()
      fresh.restart(with: before)
      #expect(try fresh.ask(text, settings: settings).result.tokens == answer.result.tokens)
      reused += answer.reusedTokens
    }
    #expect(reused > 60)
  }

  /// A conversation that was saved goes on in another session with the same tokens; its context is used as far as prompts agree.
  @Test func aSavedContextIsUsedAsFarAsPromptsAgree() throws {
    let opened = try OpenedModel(path: Fixture.tinyZhinao)
    let tokenizer = try opened.tokenizer()
    let template = try #require(try ChatTemplate.detected(tokenizer: tokenizer, files: opened.files))
    let decoder = try opened.decoder()
    func session() -> ChatSession {
      ChatSession(
        model: decoder, tokenizer: tokenizer, template: template, contents: .plain, stopTokens: [],
        capacity: 600)
    }
    let settings = ChatSession.Settings(maximumNewTokens: 12)
    let first = session()
    let said = try first.ask("请续写下面的文字：宝玉", settings: settings)
    let folder = try TemporaryFolder()
    let path = folder.file("a.zhctx")
    let held = try #require(first.held)
    let planes = held.cache.type.planes(decoder.configuration)
    let count = planes.wholeTokens(held.tokens.count)
    try SavedContextWriter.write(
      to: path, tokens: held.tokens[..<count], of: held.cache, planes: planes,
      identity: ContextIdentity(modelName: "m", fingerprint: "f", arithmetic: "exact", encoding: "f32"),
      generator: "test")
    let second = session()
    second.savedContext = try SavedContext(path: path)
    var progress: [Int] = []
    let again = try second.ask("请续写下面的文字：宝玉", settings: settings, onPrompt: { progress.append($1) })
    #expect(again.result.tokens == said.result.tokens)
    let known = min(count, (said.promptTokens - 1) / 16 * 16)
    #expect(known > 0 && again.reusedTokens == known)
    #expect(progress == [known, said.promptTokens])
    // What begins differently uses what is the same, here the template's beginning.
    let fresh = session()
    let other = try second.ask("再写一段", settings: settings)
    fresh.restart(with: second.conversation)
    #expect(try fresh.regenerate(settings: settings).result.tokens == other.result.tokens)
  }
}
