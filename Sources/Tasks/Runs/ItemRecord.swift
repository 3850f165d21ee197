import Files
import JSON

/// What a model did with one item of a task: a line of a journal.
package struct ItemRecord: Equatable, Sendable {
  /// Unique within the task.
  package var id: String
  /// What results are grouped by: a subject, a data set, a length.
  package var subject: String
  /// The metrics of this item, by name; those between 0 and 1 are shares.
  package var metrics: [(name: String, value: Double)]
  /// What the model answered: the letter of a choice, a text.
  package var answer: String
  /// What is right, for people.
  package var expected: String
  /// More about the item, for `--samples`: log probabilities, lengths, the place of a needle.
  package var details: JSONObject

  package init(
    id: String, subject: String, metrics: [(name: String, value: Double)], answer: String, expected: String,
    details: JSONObject = JSONObject()
  ) {
    self.id = id
    self.subject = subject
    self.metrics = metrics
    self.answer = answer
    self.expected = expected
    self.details = details
  }

  package func value(_ metric: String) -> Double? { metrics.first { $0.name == metric }?.value }

  package static func == (a: ItemRecord, b: ItemRecord) -> Bool { a.json == b.json }

  // MARK: JSON

  package var json: JSONValue {
    [
      "id": .string(id), "subject": .string(subject),
      "metrics": .object(JSONObject(metrics.map { ($0.name, .init($0.value)) })), "answer": .string(answer),
      "expected": .string(expected), "details": .object(details),
    ]
  }

  /// - Throws: ``JSONFieldError``.
  package init(_ value: JSONValue, document: String) throws {
    let fields = try JSONFields(value, document: document)
    id = try fields.requiredString("id")
    subject = try fields.requiredString("subject")
    answer = try fields.requiredString("answer")
    expected = try fields.requiredString("expected")
    metrics = []
    for (name, value) in try fields.object("metrics")?.object.members ?? [] {
      guard let number = value.doubleValue else {
        throw fields.refusal("metrics", "has a value that is no number")
      }
      metrics.append((name, number))
    }
    details = try fields.object("details")?.object ?? JSONObject()
  }
}
