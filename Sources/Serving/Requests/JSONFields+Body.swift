import Hummingbird
import JSON

extension JSONFields {
  /// How messages call the document.
  private static let documentName = "the body"

  /// The fields of a request's body.
  /// - Throws: ``JSONError``, ``JSONFieldError``.
  init(bodyOf request: Request) async throws {
    // The body has been collected within its limit.
    let bytes = try await request.body.collect(upTo: .max)
    try self.init(body: Array(bytes.readableBytesView))
  }

  package init(body: [UInt8]) throws {
    try self.init(JSONValue.parse(body, maximumDepth: 32), document: JSONFields.documentName)
  }
}
