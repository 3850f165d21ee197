/// How a text is cut into the windows that a model sees.
package struct WindowProtocol: Equatable, Sendable {
  /// Ids of one window.
  package var length: Int
  /// Distance of window starts. Equal to `length`: windows stand alone, the last partial one is dropped. Smaller: each
  /// window scores only what earlier ones did not, and the last partial one counts.
  package var stride: Int
  package var maximumWindows: Int?

  package init(length: Int = 512, stride: Int? = nil, maximumWindows: Int? = nil) {
    self.length = length
    self.stride = stride ?? length
    self.maximumWindows = maximumWindows
  }

  /// A window and where its scored tokens begin.
  package struct Window: Equatable, Sendable {
    package var range: Range<Int>
    /// First scored token, an index into the text; it is predicted from the token before it, which is in the window.
    package var firstScored: Int
    package var scoredCount: Int { range.upperBound - firstScored }
    /// Tokens of this window that no window before it had.
    package var newCount: Int
  }

  /// - Throws: when the numbers make no sense or the text is too short for one window.
  package func windows(of count: Int) throws -> [Window] {
    guard length >= 2, stride >= 1, stride <= length else {
      throw EvaluationError(
        "a window of \(length) ids with stride \(stride) makes no sense: 2 <= window, 1 <= stride <= window",
        category: .usage)
    }
    var windows: [Window] = []
    var end = 0
    for start in Swift.stride(from: 0, to: count, by: stride) {
      if let maximumWindows, windows.count == maximumWindows { break }
      let last = count - start <= length ? count : start + length
      if stride == length && last - start < length { break }
      let firstScored = max(end, start + 1)
      if last > firstScored {
        windows.append(Window(range: start..<last, firstScored: firstScored, newCount: last - end))
      }
      end = last
      if last == count { break }
    }
    guard !windows.isEmpty else {
      throw EvaluationError("the text has \(count) tokens, too few for one window of \(length)")
    }
    return windows
  }
}
