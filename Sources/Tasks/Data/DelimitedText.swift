import Files

/// The records of comma-separated text (RFC 4180), read as Python's `csv` module does.
///
/// A field in quotes may hold commas, line feeds and doubled quotes; what follows its closing quote up to the comma belongs to it.
/// Elsewhere quotes are ordinary characters. Records end with LF, CR or both; empty lines are no records. A byte order mark is
/// skipped.
package enum DelimitedText {
  package struct Record: Equatable, Sendable {
    package var fields: [String]
    /// Where the record begins, from 1.
    package var line: Int
  }

  /// A record longer than this is refused: no question is as long.
  static let longestRecord = 16 << 20

  /// - Throws: ``DataError`` with the line and the column that is not what it should be.
  /// - Complexity: O(bytes).
  package static func records(_ bytes: UnsafeRawBufferPointer, path: String) throws -> [Record] {
    var records: [Record] = []
    var position = bytes.starts(with: [0xEF, 0xBB, 0xBF]) ? 3 : 0
    var line = 1
    while position < bytes.count {
      let first = line
      let start = position
      var fields: [String] = []
      var isOver = false
      while !isOver {
        var field: [UInt8] = []
        if position < bytes.count, bytes[position] == quote {
          position += 1
          let opened = line
          var isOpen = true
          while isOpen {
            guard position < bytes.count else {
              throw DataError(.openQuote, path: path, line: opened, column: "\(fields.count + 1)")
            }
            guard position - start <= longestRecord else {
              throw DataError(.lineTooLong(limit: longestRecord), path: path, line: first)
            }
            let byte = bytes[position]
            position += 1
            if byte == quote {
              if position < bytes.count, bytes[position] == quote {
                field.append(quote)
                position += 1
              } else {
                isOpen = false
              }
            } else {
              // Python opens files in text mode, where CR and CR LF are read as LF, also in quotes.
              if byte == carriageReturn, position < bytes.count, bytes[position] == lineFeed { position += 1 }
              if byte == lineFeed || byte == carriageReturn { line += 1 }
              field.append(byte == carriageReturn ? lineFeed : byte)
            }
          }
        }
        // The rest of the field, or all of one without quotes.
        let rest = position
        while position < bytes.count, bytes[position] != comma, bytes[position] != lineFeed,
          bytes[position] != carriageReturn
        {
          position += 1
        }
        guard position - start <= longestRecord else {
          throw DataError(.lineTooLong(limit: longestRecord), path: path, line: first)
        }
        field.append(contentsOf: bytes[rest..<position])
        guard let text = String(validating: field, as: UTF8.self) else {
          throw DataError(.notUTF8, path: path, line: first, column: "\(fields.count + 1)")
        }
        fields.append(text)
        if position < bytes.count, bytes[position] == comma {
          position += 1
        } else {
          isOver = true
          if position < bytes.count, bytes[position] == carriageReturn { position += 1 }
          if position < bytes.count, bytes[position] == lineFeed { position += 1 }
          line += 1
        }
      }
      if fields != [""] { records.append(Record(fields: fields, line: first)) }
    }
    return records
  }

  private static let quote = UInt8(ascii: "\"")
  private static let comma = UInt8(ascii: ",")
  private static let lineFeed = UInt8(ascii: "\n")
  private static let carriageReturn = UInt8(ascii: "\r")
}
