import ArgumentParser
import Files
import JSON

/// How texts come in on standard input.
enum InputFormat: String, CaseIterable, ExpressibleByArgument {
  /// The first line decides.
  case auto
  /// Each line is a text.
  case lines
  /// Each line is a JSON object.
  case jsonl
}

/// A text of standard input, perhaps with a second one.
struct InputText {
  var text: String
  var pair: String?
}

/// Reads texts from standard input, one a line.
struct TextInput: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "What standard input holds: lines (each line is a text), jsonl (each line is a JSON object with \"text\"), or auto: jsonl when the "
        + "first line is a JSON object.", valueName: "format"))
  var inputFormat = InputFormat.auto

  /// Calls `body` with each text in turn.
  /// - Parameter byteCount: of the line, with its line feed.
  /// - Throws: an error that names the line that is not what it should be.
  func forEachText(_ body: (InputText, _ byteCount: Int) throws -> Void) throws {
    var number = 0
    var isJSON = inputFormat == .jsonl
    try StandardInput.forEachLine { line in
      number += 1
      let byteCount = line.count + 1
      let line = line.last == UInt8(ascii: "\r") ? Array(line.dropLast()) : line
      if number == 1, inputFormat == .auto {
        isJSON = (try? JSONValue.parse(line))?.objectValue != nil
      }
      if isJSON {
        if line.allSatisfy({ $0 == UInt8(ascii: " ") || $0 == UInt8(ascii: "\t") }) { return }
        try body(try TextInput.object(line, number), byteCount)
      } else {
        try body(InputText(text: try TextInput.utf8(line, number)), byteCount)
      }
    }
  }

  static func utf8(_ line: [UInt8], _ number: Int) throws -> String {
    guard let text = String(validating: line, as: UTF8.self) else {
      throw FileError(
        .badContent, path: "standard input", detail: "line \(number) is not UTF-8 text; convert it first")
    }
    return text
  }

  /// The fields of a line that is a JSON object.
  static func fields(_ line: [UInt8], _ number: Int) throws -> JSONFields {
    let label = "standard input, line \(number)"
    let json: JSONValue
    do throws(JSONError) { json = try JSONValue.parse(line) } catch {
      throw FileError(.badContent, path: label, detail: error.description)
    }
    return try JSONFields(json, document: label)
  }

  private static func object(_ line: [UInt8], _ number: Int) throws -> InputText {
    let fields = try fields(line, number)
    return InputText(text: try fields.requiredString("text"), pair: try fields.string("pair"))
  }
}
