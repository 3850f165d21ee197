import Files
import JSON
import Tokenization

/// One record of a calibration file.
enum CalibrationRecord {
  case text(String)
  case conversation([ChatMessage])
  case ids([Int])

  var kind: String {
    switch self {
    case .text: "text"
    case .conversation: "conversation"
    case .ids: "ids"
    }
  }
}

/// Reads calibration files (`Formats/calibration.md`), gzip'd or not.
enum CalibrationSource {
  static func records(ofFile path: String) throws -> [CalibrationRecord] {
    let bytes = try Gzip.contents(ofFile: path)
    let name = (path.bytes.dropping(suffix: ".gz") ?? path).bytes
    if name.hasSuffix(".jsonl") || name.hasSuffix(".ndjson") { return try lines(bytes, path: path) }
    if name.hasSuffix(".json") { return try document(bytes, path: path) }
    guard let text = String(validating: bytes, as: UTF8.self) else {
      throw FileError(.badContent, path: path, detail: "is not UTF-8 text")
    }
    return text.isEmpty ? [] : [.text(text)]
  }

  private static func lines(_ bytes: [UInt8], path: String) throws -> [CalibrationRecord] {
    var records: [CalibrationRecord] = []
    for (number, line) in bytes.split(separator: 10, omittingEmptySubsequences: false).enumerated() {
      if line.allSatisfy({ $0 == 32 || $0 == 9 || $0 == 13 }) { continue }
      let place = "line \(number + 1)"
      do { records.append(try record(try JSONValue.parse(Array(line)), path: path, place: place)) } catch let
        error as JSONError
      { throw FileError(.badContent, path: path, detail: "\(place): \(error.description)") }
    }
    return records
  }

  private static func document(_ bytes: [UInt8], path: String) throws -> [CalibrationRecord] {
    let json: JSONValue
    do { json = try JSONValue.parse(bytes) } catch {
      throw FileError(.badContent, path: path, detail: error.description)
    }
    let items = json.arrayValue ?? json["data"]?.arrayValue ?? [json]
    return try items.enumerated().map { try record($1, path: path, place: "item \($0)") }
  }

  private static func record(_ value: JSONValue, path: String, place: String) throws -> CalibrationRecord {
    func bad(_ detail: String) -> FileError {
      FileError(.badContent, path: path, detail: "\(place): \(detail)")
    }
    if let text = value.stringValue ?? value["text"]?.stringValue { return .text(text) }
    if let ids = value["input_ids"]?.arrayValue {
      // A batch of one is how Python tools often write a sample.
      let flat = ids.count == 1 ? ids[0].arrayValue ?? ids : ids
      return .ids(
        try flat.map { id in
          guard let id = id.intValue else {
            throw bad("input_ids holds something that is not a whole number")
          }
          return id
        })
    }
    if let turns = try ChatMessage.turns(ofRecord: value, path: path, place: place) {
      guard !turns.isEmpty else { throw bad("has no turns") }
      return .conversation(turns)
    }
    throw bad("has none of text, messages, conversations, input_ids")
  }
}
