import ArgumentParser

/// Checks of numbers on the command line.
package enum OptionRange {
  /// - Throws: a usage error that names the option when `value` is given and lies outside `range`; NaN always does.
  package static func check<Value: Comparable>(_ option: String, _ value: Value?, _ range: ClosedRange<Value>)
    throws
  {
    guard let value, !range.contains(value) else { return }
    throw ValidationError(
      "\(option): expected a number from \(range.lowerBound) to \(range.upperBound), not \(value).")
  }

  /// Bytes of a size on the command line, like `6GiB`.
  /// - Throws: a usage error that names the option when `text` is given and is no size.
  package static func byteCount(_ option: String, _ text: String?) throws -> Int? {
    guard let text else { return nil }
    guard let bytes = Format.byteCount(text) else {
      throw ValidationError("\(option): expected a size like 6GiB.")
    }
    return bytes
  }
}
