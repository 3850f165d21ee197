import Foundation

/// Numbers for people. The same number always gives the same text, in every locale.
package enum ReportNumber {
  /// Fixed decimals; `–` for a number that is not finite.
  package static func fixed(_ value: Double, decimals: Int) -> String {
    guard value.isFinite else { return notANumber(value) }
    let text = String(format: "%.\(max(0, min(decimals, 12)))f", abs(value))
    // What rounds to zero has no sign.
    let isZero = !text.utf8.contains { (UInt8(ascii: "1")...UInt8(ascii: "9")).contains($0) }
    return value < 0 && !isZero ? "−" + text : text
  }

  /// Significant digits, as decimals where that is readable and with an exponent where it is not: `0.0123`, `4500`, `1.2e-07`.
  package static func significant(_ value: Double, digits: Int = 3) -> String {
    guard value.isFinite else { return notANumber(value) }
    guard value != 0 else { return "0" }
    let rounded = String(format: "%.\(max(0, digits - 1))e", abs(value))
    guard let power = exponent(of: rounded), (-4..<7).contains(power) else {
      return (value < 0 ? "−" : "") + rounded
    }
    return fixed(value, decimals: max(0, digits - 1 - power))
  }

  /// Decimals that show the greatest of these numbers with three digits, so that all of them can have the same.
  static func decimals(of values: [Double], digits: Int = 3) -> Int {
    let most = values.lazy.filter(\.isFinite).map { abs($0) }.max() ?? 0
    guard most > 0 else { return 0 }
    if values.allSatisfy({ !$0.isFinite || ($0.rounded() == $0 && abs($0) < 1e7) }) { return 0 }
    return max(0, min(8, digits - 1 - Int(log10(most).rounded(.down))))
  }

  /// The texts of numbers of a column: with the same decimals, of which the smallest needs two digits, or, if they differ by orders of
  /// magnitude, each with its own digits.
  static func column(_ values: [Double], decimals given: Int? = nil) -> [String] {
    if let given { return values.map { fixed($0, decimals: given) } }
    let sizes = values.filter { $0.isFinite && $0 != 0 }.map { abs($0) }
    guard let least = sizes.min(), let most = sizes.max() else {
      return values.map { fixed($0, decimals: 0) }
    }
    if sizes.allSatisfy({ $0.rounded() == $0 && $0 < 1e7 }) { return values.map { fixed($0, decimals: 0) } }
    guard most / least <= 1e4, most < 1e7, least > 1e-6 else { return values.map { significant($0) } }
    let shared = max(decimals(of: sizes), 1 - Int(log10(least).rounded(.down)))
    return values.map { fixed($0, decimals: shared) }
  }

  private static func exponent(of text: String) -> Int? {
    text.utf8.lastIndex(of: UInt8(ascii: "e")).flatMap { Int(text[text.utf8.index(after: $0)...]) }
  }

  private static func notANumber(_ value: Double) -> String {
    value.isNaN ? "–" : value > 0 ? "∞" : "−∞"
  }
}
