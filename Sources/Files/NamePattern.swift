import Foundation

/// A regular expression from a file, matched against names of modules.
///
/// Such files come from anybody, and there are expressions whose search would not end in a lifetime: a search that takes too many
/// steps is an error instead.
package struct NamePattern: Equatable, Sendable {
  /// Where a match must lie.
  package enum Place: Equatable, Sendable {
    /// At the start of the name, as Python's `re.match` looks for it.
    case start
    /// Anywhere in it, as Python's `re.search` does.
    case anywhere
    /// The name from its start to its end, as Python's `re.fullmatch` does.
    case whole
    /// The name's end from its start or from a dot on, as PEFT reads the keys of its patterns: `(.*\.)?(…)$`.
    case end
  }

  package enum Failure: Error, Equatable, CustomStringConvertible {
    case invalid(String)
    case endless(String, name: String)

    /// A clause of its own.
    package var description: String {
      switch self {
      case .invalid(let text): "\"\(text)\" is not a regular expression"
      case .endless(let text, let name):
        "\"\(text)\" takes too long to compare with \"\(name)\"; write a simpler regular expression"
      }
    }
  }

  /// As the file writes it.
  package let text: String
  package let place: Place
  private let expression: NSRegularExpression

  /// Some milliseconds each.
  private static let mostReports = 50

  package init(_ text: String, at place: Place) throws(Failure) {
    self.text = text
    self.place = place
    let whole =
      switch place {
      case .start, .anywhere: text
      case .whole: "(?:\(text))$"
      case .end: "(.*\\.)?(\(text))$"
      }
    guard !text.isEmpty, let expression = try? NSRegularExpression(pattern: whole) else {
      throw .invalid(text)
    }
    self.expression = expression
  }

  package func matches(_ name: String) throws(Failure) -> Bool {
    var (isFound, isEndless) = (false, false)
    var reports = 0
    let options: NSRegularExpression.MatchingOptions =
      place == .anywhere ? [.reportProgress] : [.reportProgress, .anchored]
    expression.enumerateMatches(
      in: name, options: options, range: NSRange(location: 0, length: name.utf16.count)
    ) { result, flags, stop in
      if result != nil { isFound = true }
      reports += 1
      // Out of memory for going back, or out of patience.
      isEndless = result == nil && (flags.contains(.internalError) || reports > NamePattern.mostReports)
      if isFound || isEndless { stop.pointee = true }
    }
    if isEndless && !isFound { throw .endless(text, name: name) }
    return isFound
  }

  package static func == (a: NamePattern, b: NamePattern) -> Bool {
    a.place == b.place && a.text.hasSameBytes(as: b.text)
  }
}
