/// Where a piece of text comes from. Text of the caller's values has no mark.
struct Origin: OptionSet, Hashable, Sendable {
  let rawValue: UInt8

  /// A literal of the template, or text that the caller trusts as much.
  static let template = Origin(rawValue: 1)
  /// Printed inside of a `{% generation %}` block.
  static let generated = Origin(rawValue: 2)
  static let data: Origin = []
}

/// A run of bytes with one origin. Runs follow one another, so the end suffices.
struct Run: Sendable {
  var end: Int
  var origin: Origin
}

/// A string of the template language: UTF-8 bytes, and where each of them comes from.
///
/// Every operation on strings copies the marks along with the bytes, so what a user wrote never passes for
/// what the template's author wrote.
struct Text: Sendable {
  enum Marks: Sendable {
    case uniform(Origin)
    case mixed([Run])
  }

  let bytes: [UInt8]
  let marks: Marks
  /// Whether `safe` or `escape` made this string; adding a plain string to such a string escapes the plain one.
  var isMarkup = false

  init(bytes: [UInt8], marks: Marks, isMarkup: Bool = false) {
    self.bytes = bytes
    self.marks = marks
    self.isMarkup = isMarkup
  }

  init(bytes: [UInt8], _ origin: Origin) {
    self.init(bytes: bytes, marks: .uniform(origin))
  }

  init(_ string: String, _ origin: Origin) {
    self.init(bytes: Array(string.utf8), marks: .uniform(origin))
  }

  static let empty = Text("", .template)

  var string: String { String(decoding: bytes, as: UTF8.self) }
  var isEmpty: Bool { bytes.isEmpty }
  var byteCount: Int { bytes.count }

  /// The same marks on other bytes of the same number.
  func replacingBytes(_ other: [UInt8]) -> Text { Text(bytes: other, marks: marks, isMarkup: isMarkup) }

  /// Calls `body` with each run inside of `range`, in order.
  func forEachRun(in range: Range<Int>, _ body: (Range<Int>, Origin) throws -> Void) rethrows {
    switch marks {
    case .uniform(let origin):
      if !range.isEmpty { try body(range, origin) }
    case .mixed(let runs):
      var start = range.lowerBound
      var index = Text.firstRun(endingAfter: start, in: runs)
      while start < range.upperBound, index < runs.count {
        let end = min(runs[index].end, range.upperBound)
        try body(start..<end, runs[index].origin)
        start = end
        index += 1
      }
    }
  }

  /// The origin of the byte at an offset.
  func origin(at offset: Int) -> Origin {
    switch marks {
    case .uniform(let origin): return origin
    case .mixed(let runs):
      let index = Text.firstRun(endingAfter: offset, in: runs)
      return index < runs.count ? runs[index].origin : .data
    }
  }

  private static func firstRun(endingAfter offset: Int, in runs: [Run]) -> Int {
    var low = 0
    var high = runs.count
    while low < high {
      let middle = (low + high) / 2
      if runs[middle].end > offset { high = middle } else { low = middle + 1 }
    }
    return low
  }

  /// The bytes of `range`, which must begin and end between characters.
  func piece(_ range: Range<Int>) -> Text {
    if range.count == bytes.count { return self }
    switch marks {
    case .uniform(let origin):
      return Text(bytes: Array(bytes[range]), marks: .uniform(origin), isMarkup: isMarkup)
    case .mixed:
      var builder = TextBuilder()
      builder.append(self, range)
      return builder.finish(isMarkup: isMarkup)
    }
  }
}

/// Puts a ``Text`` together.
struct TextBuilder {
  private(set) var bytes: [UInt8] = []
  private var runs: [Run] = []

  var byteCount: Int { bytes.count }

  mutating func reserve(_ byteCount: Int) { bytes.reserveCapacity(byteCount) }

  mutating func append(_ text: Text) { append(text, 0..<text.byteCount) }

  mutating func append(_ text: Text, _ range: Range<Int>) {
    if range.isEmpty { return }
    let offset = bytes.count - range.lowerBound
    bytes.append(contentsOf: text.bytes[range])
    text.forEachRun(in: range) { mark(until: $0.upperBound + offset, $1) }
  }

  mutating func append(_ string: String, _ origin: Origin) {
    bytes.append(contentsOf: string.utf8)
    mark(until: bytes.count, origin)
  }

  mutating func append(bytes more: some Sequence<UInt8>, _ origin: Origin) {
    bytes.append(contentsOf: more)
    mark(until: bytes.count, origin)
  }

  mutating func append(byte: UInt8, _ origin: Origin) {
    bytes.append(byte)
    mark(until: bytes.count, origin)
  }

  private mutating func mark(until end: Int, _ origin: Origin) {
    if let last = runs.last {
      if last.end == end { return }
      if last.origin == origin {
        runs[runs.count - 1].end = end
        return
      }
    } else if end == 0 {
      return
    }
    runs.append(Run(end: end, origin: origin))
  }

  /// Adds a mark to everything from a byte on.
  mutating func insertMark(_ origin: Origin, from start: Int) {
    guard start < bytes.count else { return }
    let first = runs.firstIndex { $0.end > start } ?? runs.count
    let marked = runs[first...]
    runs.removeLast(runs.count - first)
    if let run = marked.first, start > (runs.last?.end ?? 0) { mark(until: start, run.origin) }
    for run in marked { mark(until: run.end, run.origin.union(origin)) }
  }

  func finish(isMarkup: Bool = false) -> Text {
    if runs.count > 1 { return Text(bytes: bytes, marks: .mixed(runs), isMarkup: isMarkup) }
    return Text(bytes: bytes, marks: .uniform(runs.first?.origin ?? .template), isMarkup: isMarkup)
  }

  /// The text for the caller: runs that differ only in the generation mark are one segment.
  func rendering() -> TemplateRendering {
    var rendering = TemplateRendering(segments: [], generationRanges: [])
    var start = 0
    var segmentStart = 0
    for (index, run) in runs.enumerated() {
      if run.origin.contains(.generated) {
        if rendering.generationRanges.last?.upperBound == start {
          let begin = rendering.generationRanges.removeLast().lowerBound
          rendering.generationRanges.append(begin..<run.end)
        } else {
          rendering.generationRanges.append(start..<run.end)
        }
      }
      let isFromTemplate = run.origin.contains(.template)
      let endsHere = index + 1 == runs.count || runs[index + 1].origin.contains(.template) != isFromTemplate
      if endsHere {
        let text = String(decoding: bytes[segmentStart..<run.end], as: UTF8.self)
        rendering.segments.append(TemplateSegment(text: text, isFromTemplate: isFromTemplate))
        segmentStart = run.end
      }
      start = run.end
    }
    return rendering
  }
}
