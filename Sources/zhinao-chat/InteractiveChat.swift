import Dialogue
import Files
import Foundation
import Generation
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
  private var settings: ChatSession.Settings
  private let reader: LineReader
  private var historyFile: HistoryFile?
  /// Problems met before the first prompt, to be told there.
  private var remarks: [String] = []
  /// Files this session wrote or read: it may write them again.
  var ownFiles: Set<String> = []
  var isStreaming = true

  init(options: Chat, device: TerminalDevice) throws {
    self.device = device
    phrases = Phrases(Phrases.Language(environment: environment))
    usesColor = TextStyle.isWanted(environment: environment)
    let opened = try options.open()
    let tokenizer = try opened.tokenizer()
    let template = try options.template(opened, tokenizer)
    let decoder = try options.adapters.decoder(of: opened, arithmetic: options.arithmetic)
    let defaults = SamplingDefaults(try opened.files.generationConfiguration())
    settings = ChatSession.Settings(
      sampling: options.sampling.parameters(defaults: defaults),
      maximumNewTokens: options.sampling.limit(defaults: defaults))
    session = ChatSession(
      model: decoder, tokenizer: tokenizer, template: template,
      contents: options.specialTokens(default: .plain),
      stopTokens: try opened.stopTokens(tokenizer: tokenizer, template: template),
      capacity: min(
        decoder.contextLength,
        options.contextSize
          ?? MemoryPlan.conversationContext(
            decoder.configuration, weightBytes: opened.store.residentBytes + decoder.weights.updateByteCount,
            bytesPerToken: MemoryPlan.bytesPerToken(decoder.configuration, type: options.cacheType))),
      cacheType: options.cacheType, system: options.system)
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
    produce { try session.ask(text, settings: settings, isCancelled: $0, onText: $1) }
  }

  func regenerate() {
    guard session.canRegenerate else { return say(phrases.nothingToRegenerate) }
    if settings.sampling.temperature == 0 { say(phrases.alwaysTheSame) }
    produce { try session.regenerate(settings: settings, isCancelled: $0, onText: $1) }
  }

  private func produce(
    _ body: (_ isCancelled: () -> Bool, _ onText: (String) -> Void) throws -> ChatSession.Answer
  ) {
    device.write(style(.blue).applied(to: phrases.assistant))
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
