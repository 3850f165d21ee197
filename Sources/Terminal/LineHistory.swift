import Files

/// Lines entered before, the oldest first, and the place in them while a person steps through.
package struct LineHistory: Equatable, Sendable {
  package private(set) var lines: [String]
  /// `lines.count`: not in the history but at the line being written.
  private var position: Int
  /// The line being written, while a person looks at older ones.
  private var draft = ""
  private let limit: Int

  /// - Parameter limit: older lines are forgotten.
  package init(_ lines: [String] = [], limit: Int = 1000) {
    self.lines = Array(lines.suffix(limit))
    self.limit = limit
    position = self.lines.count
  }

  /// Remembers a line, unless it is blank or repeats the last one.
  /// - Returns: whether it was remembered.
  @discardableResult
  package mutating func add(_ line: String) -> Bool {
    defer { leave() }
    guard !line.bytes.isBlank, lines.last?.hasSameBytes(as: line) != true else { return false }
    lines.append(line)
    if lines.count > limit { lines.removeFirst(lines.count - limit) }
    return true
  }

  /// The next older line; nil when there is none.
  /// - Parameter current: what the person sees now; kept when it is the line being written.
  package mutating func older(current: String) -> String? {
    guard position > 0 else { return nil }
    if position == lines.count { draft = current }
    position -= 1
    return lines[position]
  }

  /// The next newer line, at last the one being written; nil when that is already shown.
  package mutating func newer() -> String? {
    guard position < lines.count else { return nil }
    position += 1
    return position == lines.count ? draft : lines[position]
  }

  /// Back to the line being written.
  package mutating func leave() {
    position = lines.count
    draft = ""
  }
}
