import Files
import JSON
import Tokenization

/// A system message, if any, and turns of user and assistant.
package struct Conversation: Equatable, Sendable {
  /// Nil: the chat template's own.
  package var system: String?
  package var turns: [ChatMessage]

  package init(system: String? = nil, turns: [ChatMessage] = []) {
    self.system = system
    self.turns = turns
  }

  /// - Parameter messages: a leading system message becomes `system`.
  init(messages: [ChatMessage]) {
    system = messages.first.flatMap { $0.role == "system" ? $0.content : nil }
    turns = Array(messages.dropFirst(system == nil ? 0 : 1))
  }

  /// What the template gets, without the turns before `firstTurn`.
  package func messages(from firstTurn: Int = 0) -> [ChatMessage] {
    (system.map { [ChatMessage(role: "system", content: $0)] } ?? []) + turns[firstTurn...]
  }

  /// Where turns of the user begin.
  package var userTurns: [Int] { turns.indices.filter { turns[$0].role == "user" } }
}

/// Conversations in files, in the format of 360Zhinao's fine-tuning data: what is saved here can be trained on.
package enum ConversationFile {
  /// A file larger than this is no conversation someone had here.
  private static let longestFile = 64 << 20

  /// `[{"id": …, "conversations": [{"from": "user", "value": "…"}, …]}]`
  package static func text(of conversation: Conversation, id: String) -> String {
    let turns = conversation.messages().map { message -> JSONValue in
      ["from": .string(message.role), "value": .string(message.content)]
    }
    let document: JSONValue = [["id": .string(id), "conversations": .array(turns)]]
    return document.serialized(indent: 2) + "\n"
  }

  /// The conversations of a file: an array of records, or one record, in any form that ``ConversationRecord`` reads.
  /// - Throws: ``FileError``, when it holds none or something else.
  package static func read(path: String) throws -> [Conversation] {
    let json = try JSONValue.parse(file: path, maximumByteCount: longestFile)
    let records = json.arrayValue ?? [json]
    let found = try records.enumerated().map { index, record in
      func bad(_ detail: String) -> FileError {
        FileError(.badContent, path: path, detail: "item \(index): \(detail)")
      }
      let conversation: ConversationRecord?
      do throws(ConversationRecord.Problem) { conversation = try ConversationRecord(record) } catch {
        throw bad("\(error)")
      }
      guard let conversation else { throw bad("has neither conversations nor messages") }
      guard let turns = conversation.plainTurns else {
        throw bad("has tools or calls of tools, with which a chat cannot go on")
      }
      return Conversation(messages: turns)
    }
    guard !found.isEmpty else { throw FileError(.badContent, path: path, detail: "holds no conversation") }
    return found
  }
}
