import Dialogue
import Files
import Foundation
import Terminal
import ToolSupport

extension InteractiveChat {
  /// Does what a line asks for.
  /// - Returns: whether to go on.
  func perform(_ command: ChatCommand) -> Bool {
    switch command {
    case .nothing: break
    case .message(let text): answer(text)
    case .exit: return false
    case .clear:
      session.clear()
      say(phrases.cleared)
    case .stream:
      isStreaming.toggle()
      say(phrases.streaming(isStreaming))
    case .edit: attempt { try edit() }
    case .regenerate: regenerate()
    case .stats: device.write(statistics() + "\n")
    case .help: device.write(lines(phrases.help.map { [$0.command, $0.meaning] }))
    case .system(let text):
      if let text { session.setSystem(text.isEmpty ? nil : text) }
      say(phrases.system(session.conversation.system))
    case .save(let path): attempt { try save(InteractiveChat.expanded(path)) }
    case .load(let path): attempt { try load(InteractiveChat.expanded(path)) }
    case .incomplete(let name): complain(phrases.incomplete(name))
    case .unknown(let name): complain(phrases.unknown(name))
    }
    return true
  }

  /// What fails here is told, and the conversation goes on.
  private func attempt(_ body: () throws -> Void) {
    do { try body() } catch { complain("\(error)") }
  }

  private func edit() throws {
    let text = try editedText()
    guard text.unicodeScalars.contains(where: { !$0.properties.isWhitespace }) else {
      return say(phrases.nothingWritten)
    }
    let written = text.unicodeScalars.split(separator: "\n", omittingEmptySubsequences: false)
    device.write(lines(written.map { [String($0)] }))
    remember(text)
    answer(text)
  }

  private func editedText() throws -> String {
    device.set(.original)
    defer { device.set(.watching) }
    return try ExternalEditor.edit(environment: environment)
  }

  private func save(_ path: String) throws {
    guard ownFiles.contains(path) || !FileManager.default.fileExists(atPath: path) else {
      return complain(phrases.exists(path))
    }
    let now = Date().formatted(.iso8601)
    try AtomicFile.write(ConversationFile.text(of: session.conversation, id: "zhinao-chat \(now)"), to: path)
    ownFiles.insert(path)
    say(phrases.saved(session.conversation.turns.count, path))
  }

  private func load(_ path: String) throws {
    let found = try ConversationFile.read(path: path)
    session.restart(with: found[0])
    // A file of one conversation is this conversation's; one of many is a data set, not to be replaced by it.
    if found.count == 1 { ownFiles.insert(path) }
    say(phrases.loaded(found[0].turns.count, path))
    if found.count > 1 { say(phrases.firstOfSeveral(found.count)) }
  }

  private static func expanded(_ path: String) -> String { (path as NSString).expandingTildeInPath }

  private func statistics() -> String {
    let labels = phrases.statisticsLabels
    var rows: [[String]] = []
    if let answer = session.lastAnswer {
      let result = answer.result
      rows.append([
        labels.answer,
        phrases.answerSpeed(
          tokens: result.tokens.count,
          perSecond: Format.rate(max(0, result.tokens.count - 1), result.generationSeconds)),
      ])
      rows.append([
        labels.prompt,
        phrases.promptSpeed(
          tokens: answer.promptTokens, reused: answer.reusedTokens,
          perSecond: Format.rate(result.promptTokens, result.promptSeconds)),
      ])
    } else {
      rows.append([labels.answer, phrases.noAnswerYet])
    }
    rows.append([labels.context, phrases.contextUse(session.contextTokens, of: session.capacity)])
    rows.append([
      labels.conversation,
      phrases.conversationSize(turns: session.conversation.turns.count, leftOut: session.firstTurn),
    ])
    return Format.table(rows, isText: true)
  }

  private func lines(_ rows: [[String]]) -> String {
    PrintableText.sanitized(Format.table(rows, isText: true)) + "\n"
  }
}
