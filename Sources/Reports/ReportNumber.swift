import Foundation

/// Numbers for people. The same number always gives the same text, in every locale.
package enum ReportNumber {
  /// Fixed decimals; `–` for a number that is not finite.
  package static func fixed(_ value: Double, decimals: Int) -> String {
    guard value.isFinite else { return notANumber(value) }
    // -0.0 and what rounds to it.
    let text = String(format: "%.\(max(0, min(decimals, 12)))f", value)
    return text.utf8.contains { $0 >= UInt8(ascii: "1") && $0 <= UInt8(ascii: "9") }
      ? text : text.replacingOccurrences(of: "-", with: "")
  }

  /// Significant digits, as decimals where that is readable and with an exponent where it is not: `0.0123`, `4500`, `1.2e-07`.
  package static func significant(_ value: Double, digits: Int = 3) -> String {
    guard value.isFinite else { return notANumber(value) }
    guard value != 0 else { return "0" }
    let rounded = String(format: "%.\(max(0, digits - 1))e", value)
    guard let parts = exponent(of: rounded), (-4..<7).contains(parts) else { return rounded }
    return fixed(value, decimals: max(0, digits - 1 - parts))
  }

  /// Decimals that show the greatest of these numbers with three digits, so that all of them can have the same.
  static func decimals(of values: [Double], digits: Int = 3) -> Int {
    let most = values.lazy.filter(\.isFinite).map { abs($0) }.max() ?? 0
    guard most > 0 else { return 0 }
    if values.allSatisfy({ !$0.isFinite || ($0.rounded() == $0 && abs($0) < 1e7) }) { return 0 }
    return max(0, min(8, digits - 1 - Int(log10(most).rounded(.down))))
  }

  /// The texts of numbers of a column: with the same decimals, or, if they differ by orders of magnitude, each with its own digits.
  static func column(_ values: [Double], decimals given: Int? = nil) -> [String] {
    if let given { return values.map { fixed($0, decimals: given) } }
    let sizes = values.filter { $0.isFinite && $0 != 0 }.map { abs($0) }
    let isWide = (sizes.max() ?? 1) / (sizes.min() ?? 1) > 1000
    if isWide && !values.allSatisfy({ $0.rounded() == $0 && abs($0) < 1e7 }) {
      return values.map { significant($0) }
    }
    let shared = decimals(of: values)
    return values.map { fixed($0, decimals: shared) }
  }

  private static func exponent(of text: String) -> Int? {
    text.utf8.lastIndex(of: UInt8(ascii: "e")).flatMap { Int(text[text.utf8.index(after: $0)...]) }
  }

  private static func notANumber(_ value: Double) -> String {
    value.isNaN ? "–" : value > 0 ? "∞" : "−∞"
  }
}
