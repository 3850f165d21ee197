import Files

/// How multiple-choice questions are asked and scored.
package enum ChoiceMode: String, CaseIterable, Sendable {
  /// lm-eval: the log-likelihood of each choice after the question.
  case lmEval = "lm-eval"
  /// OpenCompass' PPL mode with string templates: the mean loss of the whole prompt with each label.
  case string
  /// OpenCompass' PPL mode with rounds of a conversation, which the wrapper of base models joins with nothing between them.
  case roundsJoined = "rounds-joined"
  /// The same with line feeds between the rounds, as OpenCompass' older wrapper.
  case roundsNewline = "rounds-newline"
}

/// What a model has to score for one question.
package enum ChoicePrompt: Equatable, Sendable {
  /// lm-eval: each continuation is the delimiter and a choice; `acc_norm` and `acc_bytes` divide by the length of the choice alone.
  case continuations(context: String, continuations: [String], choices: [String])
  /// OpenCompass: one whole prompt for each label.
  case prompts([String])
}

/// How a question becomes a text.
package struct ChoiceTemplate: Equatable, Sendable {
  /// What is scored.
  package enum Scored: String, CaseIterable, Sendable {
    /// A, B, C, …
    case letters
    /// The texts of the choices.
    case texts
  }

  /// Stands once before everything; `{subject}` is the subject's title.
  package var description: String
  /// `{question}`, `{options}` (a line for each choice, `A. …`), `{A}` to `{Z}`, `{subject}` and the names of further columns.
  package var question: String
  package var scored: Scored
  /// Stands between the question and the choice.
  package var delimiter: String
  /// Stands after each example.
  package var separator: String

  package init(
    description: String = "", question: String, scored: Scored, delimiter: String = " ",
    separator: String = "\n\n"
  ) {
    (self.description, self.question, self.scored) = (description, question, scored)
    (self.delimiter, self.separator) = (delimiter, separator)
  }

  /// The question with the letters of its choices, which are scored: as lm-eval asks MMLU.
  package static let letters = ChoiceTemplate(question: "{question}\n{options}\nAnswer:", scored: .letters)
  /// The question alone; the choices' texts are scored: as lm-eval asks HellaSwag.
  package static let texts = ChoiceTemplate(question: "{question}", scored: .texts)

  func text(_ item: ChoiceItem, subject: ChoiceSubject) -> String {
    ChoiceTemplate.fill(question, item, subject)
  }

  func choices(_ item: ChoiceItem) -> [String] {
    scored == .letters ? item.choices.indices.map(ChoiceTemplate.letter) : item.choices
  }

  /// A for 0, to Z for 25.
  package static func letter(_ index: Int) -> String {
    precondition((0..<mostChoices).contains(index))
    return String(Unicode.Scalar(UInt8(65 + index)))
  }

  package static let mostChoices = 26

  /// The template with what its names stand for. What is put in is not looked at again: a question may hold braces.
  static func fill(_ template: String, _ item: ChoiceItem, _ subject: ChoiceSubject) -> String {
    fill(template) { name in
      switch name {
      case "question": return item.question
      case "subject": return subject.title
      case "options":
        return zip(item.choices.indices, item.choices).map { "\(letter($0)). \($1)" }.joined(separator: "\n")
      default:
        if name.utf8.count == 1, let byte = name.utf8.first, (65...90).contains(byte) {
          let index = Int(byte) - 65
          return index < item.choices.count ? item.choices[index] : nil
        }
        return item.fields[name]
      }
    }
  }

  /// The template with each `{name}` that has a value replaced by it; other braces stay.
  static func fill(_ template: String, _ value: (String) -> String?) -> String {
    var result = ""
    var rest = template[...]
    while let open = rest.unicodeScalars.firstIndex(of: "{") {
      result += rest[..<open]
      rest = rest[open...]
      if let close = rest.unicodeScalars.firstIndex(of: "}"),
        let value = value(String(rest[rest.unicodeScalars.index(after: open)..<close]))
      {
        result += value
        rest = rest[rest.unicodeScalars.index(after: close)...]
      } else {
        result += "{"
        rest = rest[rest.unicodeScalars.index(after: open)...]
      }
    }
    return result + rest
  }
}
