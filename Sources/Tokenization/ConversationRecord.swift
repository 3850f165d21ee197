import Files
import JSON

extension ChatMessage {
  /// The turns of one record of a conversation file: `conversations` or `messages`, each turn with `from`/`value` (360Zhinao's
  /// fine-tuning data) or `role`/`content`. `human` becomes `user`, `gpt` and `bot` become `assistant`.
  /// - Returns: nil when the record is no conversation.
  package static func turns(ofRecord record: JSONValue, path: String, place: String) throws -> [ChatMessage]?
  {
    guard let turns = (record["conversations"] ?? record["messages"])?.arrayValue else { return nil }
    return try turns.enumerated().map { index, turn in
      guard let role = (turn["from"] ?? turn["role"])?.stringValue,
        let content = (turn["value"] ?? turn["content"])?.stringValue
      else {
        throw FileError(
          .badContent, path: path, detail: "\(place): turn \(index) has no from/value or role/content")
      }
      return ChatMessage(role: canonicalRole(role), content: content)
    }
  }

  private static func canonicalRole(_ role: String) -> String {
    switch role {
    case "human": "user"
    case "gpt", "bot": "assistant"
    default: role
    }
  }
}
