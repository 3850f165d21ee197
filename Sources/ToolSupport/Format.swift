import Files
import Foundation
import Terminal

/// Numbers and tables for people.
package enum Format {
  /// Two digits and an exponent: `2.3e-05`.
  package static func scientific(_ value: Float) -> String { String(format: "%.1e", Double(value)) }

  package static func number(_ value: Double, digits: Int) -> String { String(format: "%.\(digits)f", value) }

  /// Decimal units, as disks and networks count.
  package static func bytes(_ count: Int) -> String { ByteCount.text(count) }

  /// `6GiB`, `500 MB`, `1000`: bytes; nil when it is none of those.
  package static func byteCount(_ text: String) -> Int? {
    let digits = text.utf8.prefix { UInt8(ascii: "0")...UInt8(ascii: "9") ~= $0 || $0 == UInt8(ascii: ".") }
    let units: [String: Double] = [
      "": 1, "b": 1, "kb": 1e3, "mb": 1e6, "gb": 1e9, "k": 1024, "m": 0x1p20, "g": 0x1p30, "kib": 1024,
      "mib": 0x1p20, "gib": 0x1p30,
    ]
    let unit = String(Substring(text.utf8.dropFirst(digits.count))).bytes.trimmed.lowercased()
    guard let value = Double(Substring(digits)), value > 0, let factor = units[unit], value * factor < 0x1p60
    else {
      return nil
    }
    return Int(value * factor)
  }

  package static func duration(_ seconds: Double) -> String {
    if seconds < 9.95 { return number(seconds, digits: 1) + " s" }
    let whole = Int(seconds.rounded())
    if whole < 60 { return "\(whole) s" }
    if whole < 3600 { return "\(whole / 60) min \(whole % 60) s" }
    return "\(whole / 3600) h \(whole % 3600 / 60) min"
  }

  /// Things per second; 0 when no time passed.
  package static func rate(_ count: Int, _ seconds: Double) -> String {
    number(seconds > 0 ? Double(count) / seconds : 0, digits: 1)
  }

  /// Columns padded to their widest cell; all but the first are aligned to the right when they look like numbers, unless
  /// they are said to be text.
  package static func table(_ rows: [[String]], isText: Bool = false) -> String {
    guard let columns = rows.map(\.count).max() else { return "" }
    let widths = (0..<columns).map { column in
      rows.map { column < $0.count ? TextWidth.of($0[column]) : 0 }.max() ?? 0
    }
    let numeric = (0..<columns).map { column in
      column > 0 && !isText
        && rows.dropFirst().allSatisfy { row in
          guard column < row.count, let first = row[column].first else { return true }
          return first.isNumber || "-+−×".contains(first)
        }
    }
    return rows.map { row in
      row.enumerated().map { column, cell in
        let fill = String(repeating: " ", count: widths[column] - TextWidth.of(cell))
        if numeric[column] { return fill + cell }
        return column == row.count - 1 ? cell : cell + fill
      }.joined(separator: "  ")
    }.joined(separator: "\n")
  }
}
