import Files
import JSON

/// The objects of JSON Lines: one to a line. Empty lines are skipped.
package enum JSONLines {
  /// A line longer than this is refused.
  package static let longestLine = 64 << 20

  /// Calls `body` with the fields of each line and the line's number, from 1, until it returns false.
  /// - Throws: ``DataError`` or ``JSONFieldError`` with the line that is not what it should be.
  /// - Complexity: O(bytes).
  package static func forEach(
    _ bytes: UnsafeRawBufferPointer, path: String, _ body: (JSONFields, Int) throws -> Bool
  ) throws {
    var number = 0
    var start = 0
    while start < bytes.count {
      number += 1
      var end = start
      while end < bytes.count, bytes[end] != UInt8(ascii: "\n") { end += 1 }
      let line = UnsafeRawBufferPointer(rebasing: bytes[start..<end])
      start = end + 1
      guard line.count <= longestLine else {
        throw DataError(.lineTooLong(limit: longestLine), path: path, line: number)
      }
      if line.allSatisfy({ $0 == 32 || $0 == 9 || $0 == 13 }) { continue }
      let json: JSONValue
      do throws(JSONError) { json = try JSONValue.parse(line, maximumDepth: 64) } catch {
        let isArray = number == 1 && line.first { $0 != 32 && $0 != 9 } == UInt8(ascii: "[")
        throw DataError(
          .refused(
            error.description
              + (isArray ? "; expected JSON Lines, one object on each line, instead of an array" : "")),
          path: path, line: number)
      }
      guard try body(JSONFields(json, document: "\(path), line \(number)"), number) else { return }
    }
  }

  /// As ``forEach(_:path:_:)`` for a file, which is returned for the report.
  static func forEach(file path: String, _ body: (JSONFields, Int) throws -> Bool) throws -> DataFile {
    let file = try MappedFile.text(path, mostBytes: 8 << 30)
    return try withExtendedLifetime(file) {
      try forEach(file.bytes, path: path, body)
      return DataFile(file)
    }
  }
}
