import Foundation

/// Numbers and tables for people.
package enum Format {
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
