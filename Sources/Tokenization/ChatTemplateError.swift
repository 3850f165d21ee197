import Files
import Templates

/// Why a conversation could not be written as a model's chat template wants it.
package struct ChatTemplateError: DiagnosedError, Equatable {
  package enum Reason: Equatable, Sendable {
    /// The template itself, or the template with this conversation.
    case template(TemplateError)
    /// The family's default template has no place for a part of the conversation; the part.
    case noPlace(String)
    /// `continue_final_message` and `add_generation_prompt` are both true.
    case continuesAndBegins
    /// `continue_final_message` is true and the final message has no text that the prompt holds.
    case nothingToContinue
  }
  package var reason: Reason
  /// The file and, where it holds several, the name of the template.
  package var path: String

  package init(_ reason: Reason, path: String) {
    self.reason = reason
    self.path = path
  }

  package var category: FailureCategory { .badInput }

  /// Whether another conversation could do better; otherwise the template is at fault.
  package var concernsConversation: Bool {
    switch reason {
    case .template(.syntax), .template(.unsupported), .template(.sourceTooLong): false
    default: true
    }
  }

  /// What is wrong, without the file: for whoever sent the conversation.
  package var detail: String {
    switch reason {
    case .template(let error): error.description
    case .noPlace(let part):
      "the model has no chat template of its own, and the default template has no place for \(part)"
    case .continuesAndBegins:
      "continue_final_message and add_generation_prompt cannot both be true; give one of them"
    case .nothingToContinue:
      "continue_final_message: the text of the final message does not appear in the prompt; give it text, or leave the field out"
    }
  }

  package var description: String {
    if case .template(.raised(let message)) = reason {
      return "\(path): the chat template refuses the conversation: \(message)"
    }
    return "\(path): \(detail)"
  }
}
