import Tokenization

/// The text of an answer as the bytes of its tokens come: whole characters only, cut at the first stop string, and held back while
/// it may become one.
package struct AnswerText: Sendable {
  private let stops: [[UInt8]]
  private let includesStop: Bool
  private var held: [UInt8] = []
  /// Bytes of tokens whose text is out; at the end, of the answer.
  package private(set) var releasedBytes = 0
  /// A stop string counts only if it ends after so many bytes.
  private var stopFloor = 0
  /// Whether a stop string was found; nothing comes after it.
  package private(set) var isStopped = false

  /// - Parameters:
  ///   - stops: texts that end the answer; empty ones are ignored.
  ///   - includesStop: whether the answer ends with the stop string, or before it.
  package init(stops: [String], includesStop: Bool = false) {
    self.stops = stops.map { Array($0.utf8) }.filter { !$0.isEmpty }
    self.includesStop = includesStop
  }

  /// The text that is certain once the bytes of the next token are known; often empty.
  /// - Parameter mayStop: whether a stop string may end in this token.
  package mutating func push(_ bytes: [UInt8], mayStop: Bool = true) -> String {
    guard !isStopped else { return "" }
    held += bytes
    if !mayStop { stopFloor = releasedBytes + held.count }
    return release(isLast: false)
  }

  /// What was held back, now that nothing follows: replacement characters for what never became a character.
  package mutating func finish() -> String { isStopped ? "" : release(isLast: true) }

  private mutating func release(isLast: Bool) -> String {
    if let stop = firstStop() {
      isStopped = true
      return take(includesStop ? stop.upperBound : stop.lowerBound)
    }
    let kept =
      isLast ? 0 : max(StreamingDetokenizer.unfinishedTail(of: held), stops.map(openingAtEnd).max() ?? 0)
    return take(held.count - kept)
  }

  private mutating func take(_ count: Int) -> String {
    releasedBytes += count
    defer { if isStopped { held = [] } else { held.removeFirst(count) } }
    return String(decoding: held[..<count], as: UTF8.self)
  }

  private func firstStop() -> Range<Int>? {
    stops.compactMap(firstOccurrence).min { $0.lowerBound < $1.lowerBound }
  }

  private func firstOccurrence(of stop: [UInt8]) -> Range<Int>? {
    let first = max(0, stopFloor - releasedBytes - stop.count + 1)
    guard held.count >= first + stop.count else { return nil }
    let start = (first...held.count - stop.count).first {
      held[$0] == stop[0] && held[$0...].starts(with: stop)
    }
    return start.map { $0..<$0 + stop.count }
  }

  /// How many bytes at the end of the held text are a beginning of `stop`.
  private func openingAtEnd(of stop: [UInt8]) -> Int {
    (0..<min(stop.count, held.count + 1)).last { held.suffix($0).elementsEqual(stop.prefix($0)) } ?? 0
  }
}
