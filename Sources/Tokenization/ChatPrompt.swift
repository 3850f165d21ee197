import Files
import Foundation
import JSON
import Templates

/// A conversation and what else a chat template may be told, in the words of transformers' `apply_chat_template`.
package struct ChatPrompt: Sendable {
  /// The variables that a template sees, for example `messages`, `add_generation_prompt`, `tools` and `enable_thinking`. They win
  /// over the model's `bos_token` and `eos_token`.
  package var variables: JSONObject
  /// The prompt ends with the final message's text, so that the model goes on with it.
  package var continuesFinalMessage = false
  /// What `strftime_now` shows; nil: now, in this machine's time zone.
  package var clock: TemplateClock?

  /// Exactly these variables: what is not among them is undefined.
  package init(variables: JSONObject) { self.variables = variables }

  /// A conversation without tools and documents.
  /// - Parameter messages: each with `role`, and usually `content`: a string, null, or a list of parts.
  package init(_ messages: [JSONObject], addingGenerationPrompt: Bool) {
    self.init(
      variables: JSONObject([
        ("messages", .array(messages.map { .object($0) })), ("tools", nil), ("documents", nil),
        ("add_generation_prompt", .bool(addingGenerationPrompt)),
      ]))
  }

  package init(_ messages: [ChatMessage], addingGenerationPrompt: Bool) {
    self.init(
      messages.map { JSONObject([("role", .string($0.role)), ("content", .string($0.content))]) },
      addingGenerationPrompt: addingGenerationPrompt)
  }

  package var messages: [JSONObject] {
    variables["messages"]?.arrayValue?.map { $0.objectValue ?? JSONObject() } ?? []
  }
  package var addsGenerationPrompt: Bool { variables["add_generation_prompt"]?.boolValue ?? false }
  var hasTools: Bool { variables["tools"]?.isNull == false }

  /// - Parameter tokens: the model's special tokens by their names, for example `bos_token`, with their text.
  func members(tokens: [TemplateMember]) -> [TemplateMember] {
    tokens
      + variables.members.map { member in
        // Whoever gives these names the model's tokens: they are as trusted as the template.
        if ChatPrompt.tokenNames.contains(ByteText(member.key)), let text = member.value.stringValue {
          return TemplateMember(member.key, .templateText(text))
        }
        return TemplateMember(member.key, TemplateValue(member.value))
      }
  }

  /// Whether a variable names a special token, so that a string in it counts as the template's own text.
  package static func isToken(_ name: String) -> Bool { tokenNames.contains(ByteText(name)) }

  /// Fields of `tokenizer_config.json` that name a special token.
  static let tokenNames: [ByteText] = [
    "bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token",
  ]
}

extension TemplateValue {
  /// A number is an integer unless it is written with a fraction or an exponent, as in Python.
  package init(_ json: JSONValue) {
    switch json {
    case .null: self = .null
    case .bool(let value): self = .boolean(value)
    case .string(let text): self = .string(text)
    case .array(let elements): self = .array(elements.map { TemplateValue($0) })
    case .object(let object):
      self = .object(object.members.map { TemplateMember($0.key, TemplateValue($0.value)) })
    case .number(let text):
      if text.utf8.contains(where: { ".eE".utf8.contains($0) }) {
        self = .number(Double(text) ?? 0)
      } else {
        self = Int(text).map { .integer($0) } ?? .largeInteger(text)
      }
    }
  }
}

extension TemplateClock {
  /// This moment in this machine's time zone.
  package static var now: TemplateClock {
    var calendar = Calendar(identifier: .gregorian)
    calendar.timeZone = .current
    let parts = calendar.dateComponents([.year, .month, .day, .hour, .minute, .second], from: Date())
    return TemplateClock(
      year: parts.year ?? 1970, month: parts.month ?? 1, day: parts.day ?? 1, hour: parts.hour ?? 0,
      minute: parts.minute ?? 0, second: parts.second ?? 0)
  }
}
