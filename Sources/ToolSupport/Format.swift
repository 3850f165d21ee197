import Foundation

/// Numbers and tables for people.
package enum Format {
  /// Two digits and an exponent: `2.3e-05`.
  package static func scientific(_ value: Float) -> String { String(format: "%.1e", Double(value)) }

  package static func number(_ value: Double, digits: Int) -> String { String(format: "%.\(digits)f", value) }

  /// Decimal units, as disks and networks count.
  package static func bytes(_ count: Int) -> String {
    let value = Double(count)
    switch count {
    case 1_000_000_000...: return number(value / 1e9, digits: 2) + " GB"
    case 1_000_000...: return number(value / 1e6, digits: 1) + " MB"
    case 1000...: return number(value / 1e3, digits: 1) + " kB"
    default: return "\(count) bytes"
    }
  }

  /// `6GiB`, `500 MB`, `1000`: bytes; nil when it is none of those.
  package static func byteCount(_ text: String) -> Int? {
    let digits = text.prefix { $0.isNumber || $0 == "." }
    let units: [String: Double] = [
      "": 1, "b": 1, "kb": 1e3, "mb": 1e6, "gb": 1e9, "k": 1024, "m": 0x1p20, "g": 0x1p30, "kib": 1024,
      "mib": 0x1p20, "gib": 0x1p30,
    ]
    let unit = text.dropFirst(digits.count).trimmingCharacters(in: .whitespaces).lowercased()
    guard let value = Double(digits), value > 0, let factor = units[unit], value * factor < 0x1p60 else {
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

  /// Columns padded to their widest cell; all but the first are aligned to the right when they look like numbers.
  package static func table(_ rows: [[String]]) -> String {
    guard let columns = rows.map(\.count).max() else { return "" }
    let widths = (0..<columns).map { column in
      rows.map { column < $0.count ? width($0[column]) : 0 }.max() ?? 0
    }
    let numeric = (0..<columns).map { column in
      column > 0
        && rows.dropFirst().allSatisfy { row in
          guard column < row.count, let first = row[column].first else { return true }
          return first.isNumber || "-+−×".contains(first)
        }
    }
    return rows.map { row in
      row.enumerated().map { column, cell in
        let fill = String(repeating: " ", count: widths[column] - width(cell))
        if numeric[column] { return fill + cell }
        return column == row.count - 1 ? cell : cell + fill
      }.joined(separator: "  ")
    }.joined(separator: "\n")
  }

  /// Columns a terminal uses: two for East Asian wide characters.
  private static func width(_ text: String) -> Int {
    text.unicodeScalars.reduce(0) { sum, scalar in
      sum
        + (scalar.value >= 0x1100
          && (scalar.value < 0x1160 || (scalar.value >= 0x2E80 && scalar.value < 0xFFE7)) ? 2 : 1)
    }
  }
}
