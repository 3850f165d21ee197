import Foundation

/// How text looks on a terminal (ECMA-48 SGR).
package struct TextStyle: Equatable, Sendable {
  package var start: String
  package var end: String

  package static let plain = TextStyle(start: "", end: "")
  package static let bold = TextStyle(codes: "1")
  package static let dim = TextStyle(codes: "2")
  package static let green = TextStyle(codes: "1;32")
  package static let blue = TextStyle(codes: "1;34")
  package static let red = TextStyle(codes: "31")

  private init(start: String, end: String) {
    self.start = start
    self.end = end
  }

  private init(codes: String) { self.init(start: "\u{1B}[\(codes)m", end: "\u{1B}[0m") }

  package func applied(to text: String) -> String { start + text + end }

  /// Whether to use colour on a terminal: not where `NO_COLOR` is set (no-color.org) or the terminal is called dumb.
  package static func isWanted(environment: [String: String]) -> Bool {
    (environment["NO_COLOR"] ?? "").isEmpty && environment["TERM"] != "dumb"
  }
}
