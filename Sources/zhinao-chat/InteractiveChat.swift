import Contexts
import Dialogue
import Files
import Foundation
import Generation
import Models
import Terminal
import ToolSupport

/// A conversation on a terminal.
final class InteractiveChat {
  let device: TerminalDevice
  let environment = ProcessInfo.processInfo.environment
  let phrases: Phrases
  let session: ChatSession
  private let usesColor: Bool
  private let interruption: AnswerInterruption
  private let contexts: ContextOptions
  private let identity: ContextIdentity?
  private let opened: OpenedModel
  private var reading: PromptReading?
  private var settings: ChatSession.Settings
  private let reader: LineReader
  private var historyFile: HistoryFile?
  /// Problems met before the first prompt, to be told there.
  private var remarks: [String] = []
  /// Files this session wrote or read: it may write them again.
  var ownFiles: Set<String> = []
  var isStreaming = true
  /// Whether the label of the answer that is being made stands on the screen.
  private var hasLabel = false

  init(options: Chat, device: TerminalDevice) throws {
    self.device = device
    phrases = Phrases(Phrases.Language(environment: environment))
    usesColor = TextStyle.isWanted(environment: environment)
    let opened = try options.open()
    self.opened = opened
    contexts = options.contexts
    identity = try options.identity(opened)
    let saved = try options.contexts.opened(identity, for: opened)
    let tokenizer = try opened.tokenizer()
    let template = try options.template(opened, tokenizer)
    let decoder = try options.adapters.decoder(of: opened, arithmetic: options.arithmetic)
    let defaults = SamplingDefaults(try opened.files.generationConfiguration())
    settings = ChatSession.Settings(
      sampling: options.sampling.parameters(defaults: defaults),
      maximumNewTokens: options.sampling.limit(defaults: defaults))
    let memoryLimit = try options.memoryBytes() ?? MemoryPlan.defaultLimit()
    session = ChatSession(
      model: decoder, tokenizer: tokenizer, template: template,
      contents: options.specialTokens(default: .plain),
      stopTokens: try opened.stopTokens(tokenizer: tokenizer, template: template),
      capacity: min(
        decoder.contextLength,
        options.contextSize
          ?? MemoryPlan.conversationContext(
            decoder.configuration, limit: memoryLimit,
            weightBytes: opened.store.residentBytes + decoder.weights.updateByteCount,
            bytesPerToken: MemoryPlan.bytesPerToken(decoder.configuration, type: options.cacheType))),
      cacheType: options.cacheType, system: options.system)
    try options.checkMemory(
      session.capacity, of: decoder,
      weightBytes: opened.store.residentBytes + decoder.weights.updateByteCount)
    session.savedContext = saved
    // Until here Ctrl-C ends the program: a large model may take long to open.
    interruption = AnswerInterruption()
    var lines: [String] = []
    if !options.noHistory,
      let path = options.historyFile ?? HistoryFile.usualPath(environment: environment)
    {
      let file = HistoryFile(path: path)
      historyFile = file
      do { lines = try file.load() } catch {
        historyFile = nil
        remarks.append(phrases.historyNotKept("\(error)"))
      }
    }
    reader = LineReader(
      device: device, history: LineHistory(lines), isPlain: environment["TERM"] == "dumb")
    let name = PathParts(opened.path).name
    remarks.insert(phrases.welcome(model: name, capacity: session.capacity), at: 0)
    if template == nil { remarks.append(phrases.noTemplate) }
    if let saved { remarks.append(phrases.contextUsed(saved.tokens.count, saved.path)) }
    reading = PromptReading(
      decoder: decoder, cacheType: options.cacheType,
      weightBytes: opened.store.residentBytes + decoder.weights.updateByteCount,
      passTokens: ChatSession.promptChunk, phrases: phrases
    ) { [unowned self] in
      // The label of the answer is on the line already; it comes again with the answer.
      self.device.write("\r\u{1B}[K")
      self.say($0)
      self.hasLabel = false
    }
  }

  // MARK: The loop

  func run() throws {
    // The terminal is restored however the program ends.
    Interruption.farewell.withLock { [device] farewell in
      farewell = {
        device.restore()
        return nil
      }
    }
    defer { device.restore() }
    for remark in remarks { say(remark) }
    // Also when the terminal has gone.
    let end = Result { try converse() }
    if let text = try contexts.save(session.held, identity: identity, model: opened) { say(text) }
    try end.get()
  }

  private func converse() throws {
    while true {
      switch reader.readLine(prompt: phrases.user, style: style(.green)) {
      case .ended:
        if device.isGone { throw StandardStreamError(.cannotRead(EIO), stream: "the terminal") }
        return
      case .interrupted: say(phrases.howToEnd)
      case .line(let line):
        remember(line)
        guard perform(ChatCommand(line)) else { return }
      }
    }
  }

  /// For the arrow keys, in this session and the next.
  func remember(_ line: String) {
    guard reader.remember(line), let file = historyFile else { return }
    do { try file.append(line) } catch {
      historyFile = nil
      say(phrases.historyNotKept("\(error)"))
    }
  }

  // MARK: Answers

  func answer(_ text: String) {
    produce {
      try session.ask(text, settings: settings, isCancelled: $0, onPrompt: showReading, onText: $1)
    }
  }

  func regenerate() {
    guard session.canRegenerate else { return say(phrases.nothingToRegenerate) }
    if settings.sampling.temperature == 0 { say(phrases.alwaysTheSame) }
    produce {
      try session.regenerate(settings: settings, isCancelled: $0, onPrompt: showReading, onText: $1)
    }
  }

  private func showReading(_ prompt: [Int], done: Int) {
    reading?.update(prompt, done: done)
    if done >= prompt.count { showLabel() }
  }

  private func showLabel() {
    guard !hasLabel else { return }
    hasLabel = true
    ProgressReporter.clearCurrentLine()
    device.write(style(.blue).applied(to: phrases.assistant))
  }

  private func produce(
    _ body: (_ isCancelled: () -> Bool, _ onText: (String) -> Void) throws -> ChatSession.Answer
  ) {
    hasLabel = false
    showLabel()
    reading?.reset()
    var endsLine = false
    var held = ""
    func show(_ text: String) {
      guard let last = text.utf8.last else { return }
      device.write(PrintableText.sanitized(text))
      endsLine = last == UInt8(ascii: "\n")
    }
    interruption.reset()
    let outcome = Result {
      try body({ interruption.isRequested }) { piece in
        if isStreaming { show(piece) } else { held += piece }
      }
    }
    // Also after an answer that was stopped before it began.
    showLabel()
    show(held)
    if !endsLine { device.write("\n") }
    // Each answer chooses anew, and the whole session again by the same seed.
    settings.sampling.seed &+= 1
    switch outcome {
    case .success(let answer): for remark in remarks(on: answer) { say(remark) }
    case .failure(let error): complain("\(error)")
    }
  }

  private func remarks(on answer: ChatSession.Answer) -> [String] {
    var remarks: [String] = []
    if answer.droppedTurns > 0 { remarks.append(phrases.dropped(answer.droppedTurns)) }
    switch answer.result.finishReason {
    case .stop: break
    case .cancelled: remarks.append(answer.isMissing ? phrases.takenBack : phrases.stopped)
    case .length:
      remarks.append(
        answer.filledContext ? phrases.contextFull : phrases.limitReached(settings.maximumNewTokens))
    }
    return remarks
  }

  // MARK: Words

  /// A remark, not part of the conversation.
  func say(_ text: String) {
    device.write(style(.dim).applied(to: PrintableText.sanitized(text)) + "\n")
  }

  func complain(_ text: String) {
    device.write(style(.red).applied(to: PrintableText.sanitized(text)) + "\n")
  }

  private func style(_ wanted: TextStyle) -> TextStyle { usesColor ? wanted : .plain }
}
