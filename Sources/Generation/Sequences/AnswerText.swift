import Tokenization

/// The text of an answer as its tokens come: cut at the first stop string, and held back while it may become one.
package struct AnswerText: Sendable {
  private var detokenizer: StreamingDetokenizer
  private let stops: [[UInt8]]
  private var held: [UInt8] = []
  /// Whether a stop string was found; nothing comes after it.
  package private(set) var isStopped = false

  /// - Parameter stops: texts that end the answer and are not part of it; empty ones are ignored.
  package init(_ tokenizer: any Tokenizer, stops: [String]) {
    detokenizer = StreamingDetokenizer(tokenizer)
    self.stops = stops.map { Array($0.utf8) }.filter { !$0.isEmpty }
  }

  /// The text that is certain once `id` is known; often empty.
  package mutating func push(_ id: Int) throws -> String {
    guard !isStopped else { return "" }
    return release(try detokenizer.push(id), isLast: false)
  }

  /// What was held back, now that nothing follows.
  package mutating func finish() -> String {
    guard !isStopped else { return "" }
    return release(detokenizer.finish(), isLast: true)
  }

  private mutating func release(_ text: String, isLast: Bool) -> String {
    guard !stops.isEmpty else { return text }
    held += text.utf8
    if let end = stops.compactMap(firstOccurrence).min() {
      isStopped = true
      defer { held = [] }
      return String(decoding: held[..<end], as: UTF8.self)
    }
    let ready = held.count - (isLast ? 0 : stops.map(openingAtEnd).max() ?? 0)
    defer { held.removeFirst(ready) }
    return String(decoding: held[..<ready], as: UTF8.self)
  }

  private func firstOccurrence(of stop: [UInt8]) -> Int? {
    guard held.count >= stop.count else { return nil }
    return (0...held.count - stop.count).first { held[$0] == stop[0] && held[$0...].starts(with: stop) }
  }

  /// How many bytes at the end of the held text are a beginning of `stop`.
  private func openingAtEnd(of stop: [UInt8]) -> Int {
    (0..<min(stop.count, held.count + 1)).last { held.suffix($0).elementsEqual(stop.prefix($0)) } ?? 0
  }
}
