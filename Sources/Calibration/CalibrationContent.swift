import Files
import JSON
import Tokenization

/// How a calibration file is written.
package enum CalibrationFormat: String, CaseIterable, Sendable {
  /// What the content says.
  case auto
  /// One JSON document: an array of records, an object that holds one, or a record.
  case json
  /// A JSON record on each line.
  case jsonl
  /// Plain text.
  case text
}

/// Text that is made for something else than to be read.
package enum StructuredText: String, Equatable, Sendable {
  case html = "an HTML page"
  case xml = "XML"
  case table = "a table of separated values (CSV)"
  case yaml = "YAML"
  case pythonLiteral = "Python's notation of dictionaries, not JSON"
  case columns = "JSON of columns, not of records"

  var remedy: String {
    switch self {
    case .html, .xml: "take the text out of it"
    case .table:
      "make JSON Lines of it: python3 -c \"import pandas; pandas.read_csv('FILE').to_json('data.jsonl', "
        + "orient='records', lines=True, force_ascii=False)\""
    case .yaml: "make JSON of it"
    case .columns:
      "write records: with pandas, to_json('data.jsonl', orient='records', lines=True, force_ascii=False)"
    case .pythonLiteral:
      "make JSON Lines of it: python3 -c \"import ast, json, sys; [print(json.dumps(ast.literal_eval(line), "
        + "ensure_ascii=False)) for line in sys.stdin]\" < FILE > data.jsonl"
    }
  }
}

/// What a calibration file holds, decided by its bytes. Its name only contradicts: a file called JSON that is none is an error.
package enum CalibrationContent {
  case text(String)
  /// Values of a JSON document or of lines, each with its place for messages.
  case records([(place: String, value: JSONValue)], CalibrationFormat)

  package init(ofFile path: String, format: CalibrationFormat) throws {
    let bytes = try TextFile.bytes(ofFile: path)
    let name = CalibrationContent.comparedName(path)
    switch format {
    case .text: self = try .text(CalibrationContent.text(bytes, path))
    case .json: self = try .records(CalibrationContent.document(bytes, path), .json)
    case .jsonl: self = try .records(CalibrationContent.lines(bytes, path), .jsonl)
    case .auto:
      let isCalledJSON = [".json", ".jsonl", ".ndjson"].contains { name.bytes.hasSuffix($0) }
      let isBlank = CalibrationContent.start(bytes, count: 1).isEmpty
      if CalibrationContent.looksLikeJSON(bytes)
        || (isCalledJSON && !isBlank && !bytes.prefix(64).contains(0))
      {
        self = try CalibrationContent.json(bytes, path)
        return
      }
      if let other = CalibrationContent.structure(of: bytes, name: name) {
        throw CalibrationError(.structured(other), path: path)
      }
      self = try .text(CalibrationContent.text(bytes, path))
    }
  }

  /// The name in small letters, without what says that it is compressed.
  private static func comparedName(_ path: String) -> String {
    let name = PathParts(path).name.lowercased()
    return name.bytes.dropping(suffix: ".gz") ?? name
  }

  private static func text(_ bytes: [UInt8], _ path: String) throws -> String {
    guard let text = String(validating: bytes, as: UTF8.self) else {
      throw CalibrationError(.notUTF8, path: path)
    }
    // As in UTF-16 without a mark, and in files of other programs.
    if bytes.contains(0) { throw CalibrationError(.zeroBytes, path: path) }
    return text
  }

  // MARK: What it looks like

  private static let space: Set<UInt8> = [0x20, 0x09, 0x0A, 0x0D]

  /// The first bytes that are not white space.
  private static func start(_ bytes: [UInt8], count: Int) -> [UInt8] {
    Array(bytes.lazy.filter { !space.contains($0) }.prefix(count))
  }

  /// Whether it begins as records do: `{"`, `{}`, `[{`, `["`, `[[{`, `[]`. Code and Markdown begin with a brace too.
  private static func looksLikeJSON(_ bytes: [UInt8]) -> Bool {
    let first = start(bytes, count: 3)
    if ["{\"", "{}", "[{", "[\"", "[]"].contains(where: { first.starts(with: $0.utf8) })
      || first == Array("[[{".utf8)
    {
      return !isPythonLiteral(bytes)
    }
    // Strings, one on each line.
    return first.first == UInt8(ascii: "\"")
      && contentLines(bytes).allSatisfy { (try? JSONValue.parse(Array($0.line)))?.stringValue != nil }
  }

  private static func isPythonLiteral(_ bytes: [UInt8]) -> Bool {
    let first = start(bytes, count: 3)
    return first.starts(with: "{'".utf8) || first == Array("[{'".utf8)
  }

  private static func structure(of bytes: [UInt8], name: String) -> StructuredText? {
    let first = String(decoding: bytes.drop { space.contains($0) }.prefix(15), as: UTF8.self).lowercased()
    if first.bytes.hasPrefix("<!doctype html") || first.bytes.hasPrefix("<html") { return .html }
    if first.bytes.hasPrefix("<?xml") { return .xml }
    if isPythonLiteral(bytes) { return .pythonLiteral }
    if name.bytes.hasSuffix(".csv") || name.bytes.hasSuffix(".tsv") || hasColumnNames(bytes) { return .table }
    return name.bytes.hasSuffix(".yaml") || name.bytes.hasSuffix(".yml") ? .yaml : nil
  }

  /// Whether the first line names columns, one of which is a record's field.
  private static func hasColumnNames(_ bytes: [UInt8]) -> Bool {
    let line = bytes.prefix(1000).prefix { $0 != 0x0A && $0 != 0x0D }
    let known: Set<ByteText> = [
      "text", "content", "instruction", "output", "prompt", "completion", "response", "question", "answer",
      "messages", "conversations",
    ]
    for separator in ",\t;|".utf8 {
      let cells = line.split(separator: separator, omittingEmptySubsequences: false).map { cell in
        var name = cell
        if name.count > 1 && name.first == 0x22 && name.last == 0x22 { name = name.dropFirst().dropLast() }
        return name
      }
      let areNames = cells.allSatisfy { cell in
        !cell.isEmpty
          && cell.allSatisfy { byte in
            byte == 0x5F || (0x30...0x39).contains(byte) || (0x41...0x5A).contains(byte)
              || (0x61...0x7A).contains(byte)
          }
      }
      if cells.count > 1 && areNames
        && cells.contains(where: { known.contains(String(decoding: $0, as: UTF8.self).lowercased()) })
      {
        return true
      }
    }
    return false
  }

  // MARK: JSON

  /// A document, or lines when it is none but its first line is.
  private static func json(_ bytes: [UInt8], _ path: String) throws -> CalibrationContent {
    let value: JSONValue
    do throws(JSONError) { value = try JSONValue.parse(bytes) } catch {
      let first = bytes.drop { space.contains($0) }.prefix { $0 != 0x0A }
      guard (try? JSONValue.parse(Array(first))) != nil else {
        throw CalibrationError(.notJSON(place: nil, error), path: path)
      }
      return .records(try lines(bytes, path), .jsonl)
    }
    return .records(try items(value, path), .json)
  }

  private static func document(_ bytes: [UInt8], _ path: String) throws -> [(place: String, value: JSONValue)]
  {
    let value: JSONValue
    do throws(JSONError) { value = try JSONValue.parse(bytes) } catch {
      throw CalibrationError(.notJSON(place: nil, error), path: path)
    }
    return try items(value, path)
  }

  private static func contentLines(_ bytes: [UInt8]) -> some Sequence<(number: Int, line: ArraySlice<UInt8>)>
  {
    bytes.split(separator: 10, omittingEmptySubsequences: false).lazy.enumerated()
      .map { (number: $0.offset + 1, line: $0.element) }
      .filter { !$0.line.allSatisfy { $0 == 0x20 || $0 == 0x09 || $0 == 0x0D } }
  }

  private static func lines(_ bytes: [UInt8], _ path: String) throws -> [(place: String, value: JSONValue)] {
    try contentLines(bytes).map { number, line in
      let place = "line \(number)"
      do throws(JSONError) { return (place, try JSONValue.parse(Array(line))) } catch {
        throw CalibrationError(.notJSON(place: place, error), path: path)
      }
    }
  }

  /// The records of a document: an array of them, an object that holds one such array, or the document itself.
  private static func items(_ json: JSONValue, _ path: String) throws -> [(place: String, value: JSONValue)] {
    // As pandas writes a table unless it is told otherwise.
    if let columns = json.objectValue?.members, !columns.isEmpty,
      columns.allSatisfy({ $0.value.objectValue?.keys.first == "0" })
    {
      throw CalibrationError(.structured(.columns), path: path)
    }
    return values(json).enumerated().map { ("item \($0.offset)", $0.element) }
  }

  private static func values(_ json: JSONValue) -> [JSONValue] {
    if let array = json.arrayValue { return ConversationRecord.areTurns(array) ? [json] : array }
    guard let object = json.objectValue else { return [json] }
    for name in ["conversations", "messages", "conversation"] {
      // A list of conversations, not of turns.
      if let list = object[name]?.arrayValue, !list.isEmpty,
        list.allSatisfy({ $0.arrayValue != nil || CalibrationRecord.hasKnownField($0, besidesContent: true) })
      {
        return list
      }
    }
    if CalibrationRecord.hasKnownField(json) { return [json] }
    if let data = object["data"]?.arrayValue { return data }
    let lists = object.members.compactMap(\.value.arrayValue).filter { !$0.isEmpty }
    guard lists.count == 1, lists[0].allSatisfy({ CalibrationRecord.hasKnownField($0) }) else {
      return [json]
    }
    return lists[0]
  }
}
