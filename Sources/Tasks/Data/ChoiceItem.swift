/// A multiple-choice question as its publisher's files have it.
package struct ChoiceItem: Equatable, Sendable {
  /// Unique within the task: the subject and the number of the row, from 0, or the publisher's id.
  package var id: String
  package var subject: String
  package var question: String
  package var choices: [String]
  /// The index of the right choice.
  package var answer: Int
  /// Further columns, by name.
  package var fields: [String: String]

  package init(
    id: String, subject: String, question: String, choices: [String], answer: Int,
    fields: [String: String] = [:]
  ) {
    (self.id, self.subject, self.question) = (id, subject, question)
    (self.choices, self.answer, self.fields) = (choices, answer, fields)
  }
}

/// The questions of one subject.
package struct ChoiceSubject: Equatable, Sendable {
  /// As in names of files: `abstract_algebra`.
  package var name: String
  /// As in prompts: `abstract algebra`, 注册会计师.
  package var title: String
  package var group: String?
  /// What few-shot prompts begin with, in the order of the file.
  package var examples: [ChoiceItem]
  package var items: [ChoiceItem]

  package init(
    name: String, title: String, group: String? = nil, examples: [ChoiceItem] = [], items: [ChoiceItem] = []
  ) {
    (self.name, self.title, self.group) = (name, title, group)
    (self.examples, self.items) = (examples, items)
  }
}

package struct ChoiceData: Equatable, Sendable {
  package var subjects: [ChoiceSubject]
  package var files: [DataFile]

  package init(subjects: [ChoiceSubject], files: [DataFile]) {
    (self.subjects, self.files) = (subjects, files)
  }
}
