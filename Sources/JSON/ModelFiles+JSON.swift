import Files

extension ModelFiles {
  /// The file parsed as JSON, or nil when there is none.
  package func json(named name: String) throws -> JSONValue? {
    guard let bytes = try bytes(named: name) else { return nil }
    do { return try JSONValue.parse(bytes) } catch {
      let foreign = bytes.withUnsafeBytes { ForeignContent($0) }
      throw FileError(
        .badContent, path: label(of: name), detail: foreign?.description ?? error.description)
    }
  }
}
