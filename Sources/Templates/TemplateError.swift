/// Why a template was refused, or why it could not be rendered with the values given.
///
/// `line` counts from 1 in the template's source; it is 0 where no line is to blame.
package enum TemplateError: Error, Equatable, Sendable {
  /// The template called `raise_exception`: exactly its message, meant for whoever sent the conversation.
  case raised(String)
  /// The source is not a template of this language.
  case syntax(String, line: Int)
  /// The template uses a part of the language that this interpreter leaves out; the name of the part.
  case unsupported(String, line: Int)
  /// The template does not fit its values: a wrong type, an undefined value, a division by zero.
  case evaluation(String, line: Int)
  /// The source has more bytes than a template may have.
  case sourceTooLong(bytes: Int, limit: Int)
  /// Blocks, expressions, calls of macros or values are nested deeper than the limit.
  case nestingTooDeep(limit: Int, line: Int)
  /// Rendering takes more steps than the limit.
  case tooManySteps(limit: Int, line: Int)
  /// A string would have more bytes than the limit.
  case textTooLong(limit: Int, line: Int)
  /// The rendered text would have more bytes than the limit.
  case outputTooLong(limit: Int, line: Int)
  /// A list would have more items than the limit.
  case listTooLong(limit: Int, line: Int)
  /// `range` would have more items than the limit.
  case rangeTooLong(limit: Int, line: Int)
  /// The strings and lists made while rendering have more bytes together than the limit.
  case tooMuchMemory(limit: Int, line: Int)
  /// An integer does not fit in 64 bits.
  case integerTooLarge(line: Int)

  /// This error with a line, unless it has one already.
  func at(line: Int) -> TemplateError {
    switch self {
    case .syntax(let message, 0): .syntax(message, line: line)
    case .unsupported(let name, 0): .unsupported(name, line: line)
    case .evaluation(let message, 0): .evaluation(message, line: line)
    case .nestingTooDeep(let limit, 0): .nestingTooDeep(limit: limit, line: line)
    case .tooManySteps(let limit, 0): .tooManySteps(limit: limit, line: line)
    case .textTooLong(let limit, 0): .textTooLong(limit: limit, line: line)
    case .outputTooLong(let limit, 0): .outputTooLong(limit: limit, line: line)
    case .listTooLong(let limit, 0): .listTooLong(limit: limit, line: line)
    case .rangeTooLong(let limit, 0): .rangeTooLong(limit: limit, line: line)
    case .tooMuchMemory(let limit, 0): .tooMuchMemory(limit: limit, line: line)
    case .integerTooLarge(0): .integerTooLarge(line: line)
    default: self
    }
  }

  /// An evaluation error whose line the interpreter adds.
  static func evaluation(_ message: String) -> TemplateError { .evaluation(message, line: 0) }

  /// A refusal whose line the interpreter adds.
  static func unsupported(_ name: String) -> TemplateError { .unsupported(name, line: 0) }
}

extension TemplateError: CustomStringConvertible {
  package var description: String {
    switch self {
    case .raised(let message): message
    case .syntax(let message, let line):
      "chat template, line \(line): \(message); correct the template or choose another one"
    case .unsupported(let name, let line):
      "chat template, line \(line): \(name) is not supported; write the template without it or choose another one"
    case .evaluation(let message, let line):
      "chat template, line \(line): \(message); the template does not fit this conversation"
    case .sourceTooLong(let bytes, let limit):
      "the chat template has \(bytes) bytes, at most \(limit) are allowed; choose a shorter template"
    case .nestingTooDeep(let limit, let line):
      "chat template, line \(line): nested deeper than \(limit) levels; simplify the template or the values"
    case .tooManySteps(let limit, let line):
      "chat template, line \(line): rendering takes more than \(limit) steps; shorten the conversation or simplify the template"
    case .textTooLong(let limit, let line):
      "chat template, line \(line): a string would be longer than \(limit) bytes; shorten the conversation"
    case .outputTooLong(let limit, let line):
      "chat template, line \(line): the prompt would be longer than \(limit) bytes; shorten the conversation"
    case .listTooLong(let limit, let line):
      "chat template, line \(line): a list would have more than \(limit) items; shorten the conversation"
    case .rangeTooLong(let limit, let line):
      "chat template, line \(line): range() would have more than \(limit) items; loop over fewer items"
    case .tooMuchMemory(let limit, let line):
      "chat template, line \(line): rendering makes more than \(limit) bytes of strings and lists; shorten the conversation"
    case .integerTooLarge(let line):
      "chat template, line \(line): an integer does not fit in 64 bits; use smaller numbers"
    }
  }
}
