import Contexts
import Generation
import Tokenization
import Transformer

/// A conversation with a model: what was said, and what the model still holds of it.
///
/// The ids of each prompt are compared with those already in the KV cache; only what follows their common part runs. When the
/// context is full the oldest turns are left out of it; they stay in `conversation`.
package final class ChatSession {
  package struct Settings: Sendable {
    package var sampling: SamplingParameters
    package var maximumNewTokens: Int
    package init(sampling: SamplingParameters = SamplingParameters(), maximumNewTokens: Int = 512) {
      self.sampling = sampling
      self.maximumNewTokens = maximumNewTokens
    }
  }
  package struct Answer: Equatable, Sendable {
    package var result: GenerationResult
    /// Tokens of the whole prompt, and how many of them the cache held.
    package var promptTokens: Int
    package var reusedTokens: Int
    /// Turns left out of the context for this answer.
    package var droppedTurns: Int
    /// The context, not a limit or a stop token, ended the answer.
    package var filledContext: Bool

    /// It was cancelled before its first token.
    package var isMissing: Bool { result.tokens.isEmpty && result.finishReason == .cancelled }
  }

  /// Prompt tokens between two looks at whether to stop: on a large model 512 take half a minute.
  package static let promptChunk = 128

  package private(set) var conversation: Conversation
  /// Turns before this one are no longer in the context.
  package private(set) var firstTurn = 0
  package private(set) var lastAnswer: Answer?
  /// Tokens there is room for.
  package var capacity: Int { caches.contextLimit }
  /// Tokens of the conversation that the model holds. After another conversation began they are not its own, even if it will use
  /// some of them.
  package var contextTokens: Int { lastAnswer == nil ? 0 : caches.latestTokens }

  /// Keys and values in a file, used for prompts that begin as it does.
  package var savedContext: SavedContext?

  private let generator: TextGenerator
  private let template: ChatTemplate?
  private let contents: SpecialTokens
  private let stopTokens: Set<Int>
  /// One cache.
  private var caches: CachePool

  /// - Parameters:
  ///   - template: nil: each text is continued by itself, nothing is remembered.
  ///   - contents: whether names of special tokens in messages are tokens or text.
  ///   - capacity: tokens of context, at least 2.
  package init(
    model: any LanguageModel, tokenizer: any Tokenizer, template: ChatTemplate?, contents: SpecialTokens,
    stopTokens: Set<Int>, capacity: Int, cacheType: KVCacheType = .f32,
    system: String? = nil
  ) {
    generator = TextGenerator(model: model, tokenizer: tokenizer, promptChunk: ChatSession.promptChunk)
    self.template = template
    self.contents = contents
    self.stopTokens = stopTokens
    caches = CachePool(model: model, contextLimit: capacity, type: cacheType)
    conversation = Conversation(system: system)
  }

  // MARK: What was said

  /// Forgets all turns.
  package func clear() { restart(with: Conversation(system: conversation.system)) }

  package func setSystem(_ system: String?) {
    conversation.system = system
  }

  package func restart(with conversation: Conversation) {
    self.conversation = conversation
    firstTurn = 0
    lastAnswer = nil
  }

  // MARK: Answers

  /// Says `text` and gets an answer. When there is none, because of an error or because it was cancelled before its first token, the
  /// text is taken back.
  /// - Parameters: see ``TextGenerator/generate(_:in:onText:isCancelled:onPrompt:)``; `onPrompt` also gets the prompt.
  package func ask(
    _ text: String, settings: Settings, isCancelled: () -> Bool = { false },
    onPrompt: ([Int], Int) -> Void = { _, _ in },
    onText: (String) -> Void = { _ in }
  ) throws -> Answer {
    if template == nil { restart(with: Conversation()) }
    return try keepingConversationOnFailure {
      conversation.turns.append(ChatMessage(role: "user", content: text))
      return try answer(settings, isCancelled: isCancelled, onPrompt: onPrompt, onText: onText)
    }
  }

  /// Whether there is an answer to make again, or a last turn of the user without one.
  package var canRegenerate: Bool { !conversation.userTurns.isEmpty }

  /// Answers the last message of the user again. The old answer comes back when there is no new one.
  package func regenerate(
    settings: Settings, isCancelled: () -> Bool = { false }, onPrompt: ([Int], Int) -> Void = { _, _ in },
    onText: (String) -> Void = { _ in }
  ) throws -> Answer {
    guard let last = conversation.userTurns.last else {
      throw GenerationError.nothingToAnswer
    }
    return try keepingConversationOnFailure {
      conversation.turns.removeSubrange((last + 1)...)
      return try answer(settings, isCancelled: isCancelled, onPrompt: onPrompt, onText: onText)
    }
  }

  private func keepingConversationOnFailure(_ body: () throws -> Answer) throws -> Answer {
    let before = (conversation, firstTurn)
    do {
      let answer = try body()
      if answer.isMissing { (conversation, firstTurn) = before }
      return answer
    } catch {
      (conversation, firstTurn) = before
      throw error
    }
  }

  private func answer(
    _ settings: Settings, isCancelled: () -> Bool, onPrompt: ([Int], Int) -> Void, onText: (String) -> Void
  ) throws -> Answer {
    let firstBefore = firstTurn
    let ids = try fittingPrompt(reserve: min(settings.maximumNewTokens, capacity / 4))
    let request = GenerationRequest(
      prompt: ids, sampling: settings.sampling, stopTokens: stopTokens,
      maximumNewTokens: settings.maximumNewTokens)
    guard let sequence = caches.acquire(request) else {
      preconditionFailure("the only cache is in use: a session answers one message at a time")
    }
    defer { caches.release(sequence) }
    try load(ids, into: sequence)
    let reused = sequence.tokens.count
    let result = try generator.generate(
      request, in: sequence,
      onText: { piece in
        onText(piece)
        return true
      }, isCancelled: isCancelled, onPrompt: { onPrompt(ids, $0) })
    conversation.turns.append(ChatMessage(role: "assistant", content: result.text))
    let answer = Answer(
      result: result, promptTokens: ids.count, reusedTokens: reused, droppedTurns: firstTurn - firstBefore,
      filledContext: result.finishReason == .length && result.tokens.count < settings.maximumNewTokens)
    lastAnswer = answer
    return answer
  }

  // MARK: Context

  /// Fills the cache with what the saved context has of a prompt, if that is more than the cache has.
  private func load(_ ids: [Int], into sequence: CachedSequence) throws {
    guard let context = savedContext else { return }
    do {
      try sequence.load(context, prompt: ids)
    } catch {
      // It is damaged: the next answer does without it.
      savedContext = nil
      throw error
    }
  }

  /// What the model holds, for a file: the tokens of its cache, and the cache.
  package var held: (tokens: [Int], cache: KVCache)? { caches.latest.map { ($0.tokens, $0.cache) } }

  /// Ids of the prompt, the oldest turns left out when they and `reserve` tokens of answer do not fit.
  private func fittingPrompt(reserve: Int) throws -> [Int] {
    var ids = try prompt(from: firstTurn)
    if ids.count + reserve > capacity {
      // Half of the context is freed at once: leaving out one turn each time would change the prompt's beginning each time, and
      // nothing of the cache could be used again.
      let starts = conversation.userTurns.filter { $0 > firstTurn }
      firstTurn = try firstStart(in: starts, fitting: capacity / 2) ?? starts.last ?? firstTurn
      ids = try prompt(from: firstTurn)
    }
    guard !ids.isEmpty else { throw GenerationError.emptyPrompt }
    guard ids.count < capacity else {
      throw GenerationError.messageTooLong(tokens: ids.count, limit: capacity - 1)
    }
    return ids
  }

  /// The first of `starts` from which the prompt has at most `limit` tokens; prompts get shorter from one to the next.
  private func firstStart(in starts: [Int], fitting limit: Int) throws -> Int? {
    var (low, high) = (0, starts.count)
    while low < high {
      let middle = (low + high) / 2
      if try prompt(from: starts[middle]).count <= limit { high = middle } else { low = middle + 1 }
    }
    return low < starts.count ? starts[low] : nil
  }

  private func prompt(from turn: Int) throws -> [Int] {
    guard let template else {
      let text = conversation.turns.last?.content ?? ""
      return generator.tokenizer.encode(text, specials: contents, addingAffixes: true)
    }
    return try template.encode(
      conversation.messages(from: turn), tokenizer: generator.tokenizer, contents: contents,
      addingGenerationPrompt: true)
  }
}
