import Foundation
import JSON
import Serving
import TestSupport
import Testing

/// The table of known fields, and the document that shows it.
@Suite struct RequestFieldTests {
  static let document = URL(fileURLWithPath: Fixture.folder).deletingLastPathComponent()
    .deletingLastPathComponent().appendingPathComponent("Docs/serving.md")

  /// Paste what the failure shows.
  @Test func theDocumentHasTheTable() throws {
    let text = try String(contentsOf: Self.document, encoding: .utf8)
    #expect(
      text.contains(RequestField.documentation), "Docs/serving.md lacks:\n\(RequestField.documentation)")
  }

  @Test func theDocumentDescribesEveryFieldThatActs() throws {
    let text = try String(contentsOf: Self.document, encoding: .utf8)
    let section = try #require(text.components(separatedBy: "\n## Fields\n").last)
      .components(separatedBy: "\n### ")[0]
    let described = section.split(separator: "\n").filter { $0.hasPrefix("| `") }
      .flatMap { row in row.split(separator: "|")[0].matches(of: /`([a-z_]+)/).map { String($0.1) } }
    let acting = RequestField.all.filter { $0.treatment == .acts }.map(\.name)
    #expect(Set(described) == Set(acting))
    #expect(described.count == Set(described).count && acting.count == Set(acting).count)
  }

  @Test func fieldsThatAreNotDoneAreRefusedByNameUnlessTheyAskForNothing() throws {
    for field in RequestField.all {
      guard case .refused(let reason, let harmless) = field.treatment else { continue }
      let chats = field.endpoints.contains(.chat)
      let path = chats ? Self.chat : Self.completion
      for value: JSONValue in ["probe", 3, [["x"]], ["x": 1], true, false] where !harmless.contains(value) {
        let error = #expect(throws: JSONFieldError.self) {
          try path("\"\(field.name)\": \(value.serialized())")
        }
        #expect(error?.field == field.name && error?.detail.hasSuffix(reason) == true)
      }
      for value in harmless + [.null] {
        let warnings = try path("\"\(field.name)\": \(value.serialized())").warnings
        #expect(warnings.isEmpty, "\(field.name)")
      }
    }
    #expect(try Self.chat("\"length_penalty\": 1.0, \"mirostat\": 0.0").warnings.isEmpty)
  }

  @Test func fieldsThatCannotChangeAnAnswerAreAccepted() throws {
    for field in RequestField.all {
      guard case .ignored = field.treatment else { continue }
      for value in ["true", "7", "\"x\"", "[{}]"] {
        #expect(try Self.chat("\"\(field.name)\": \(value)").warnings.isEmpty)
        #expect(try Self.completion("\"\(field.name)\": \(value)").warnings.isEmpty)
      }
    }
  }

  @Test func unknownFieldsAreNamedInTheAnswer() throws {
    #expect(
      try Self.chat("\"temprature\": 0.1, \"prompt\": \"a\"").warnings == [
        "temprature is not a known field; it is ignored",
        "prompt is a field of the other endpoint; it is ignored",
      ])
    #expect(
      try Self.completion("\"temprature\": 0.1").warnings == [
        "temprature is not a known field; it is ignored"
      ])
    let many = (0..<50).map { "\"f\($0)\": 1" }.joined(separator: ",")
    #expect(try Self.completion(many).warnings.count == 8)
  }

  static func chat(_ fields: String) throws -> AnswerRequest {
    try decoded(.chat, "\(ErrorTests.hello), \(fields)")
  }

  static func completion(_ fields: String) throws -> AnswerRequest {
    try decoded(.completion, "\"prompt\": \"a\", \(fields)")
  }

  private static func decoded(_ endpoint: RequestField.Endpoint, _ fields: String) throws -> AnswerRequest {
    let models = ServedModels([try TestModel.shared.get()], namesAreExact: false)
    let json = try JSONFields(body: Array("{\(fields)}".utf8))
    switch endpoint {
    case .chat: return try AnswerRequest(chat: json, models: models)
    case .completion: return try AnswerRequest(completion: json, models: models)
    }
  }
}
