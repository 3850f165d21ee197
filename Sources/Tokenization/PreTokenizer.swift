/// How normalized text becomes the pieces that are merged.
struct PreTokenizer: Equatable, Sendable {
  /// What the vocabulary spells its tokens in.
  enum Alphabet: Sendable {
    /// GPT-2's stand-ins for bytes.
    case bytes
    /// The characters themselves.
    case characters
  }
  enum Step: Equatable, Sendable {
    case split(SplitPattern)
    /// A space is put before a piece that does not begin with one.
    case spaceBefore
    case metaspace(Metaspace)
    /// Some literals, the longest first where several begin, become pieces of their own.
    case literals(Literals)
  }
  /// SentencePiece's way with spaces: each becomes a character of its own, one of which stands before a text.
  struct Metaspace: Equatable, Sendable {
    enum Prepending: String, Sendable {
      case always, never
      /// Only where the text begins, and not after an added token.
      case first
    }
    var replacement: [UInt8]
    var prepending: Prepending
    /// Whether each space begins a piece.
    var splits: Bool
  }
  struct Literals: Equatable, Sendable {
    let texts: [[UInt8]]
    fileprivate let splitter: SpecialTokenSplitter

    init(_ texts: [[UInt8]]) {
      self.texts = texts
      splitter = SpecialTokenSplitter(texts.map { AddedToken(id: 0, bytes: $0) })
    }

    static func == (a: Literals, b: Literals) -> Bool { a.texts == b.texts }
  }
  var alphabet: Alphabet
  /// One inside the other.
  var steps: [Step]

  /// The patterns among the steps.
  var patterns: [SplitPattern] {
    steps.compactMap { if case .split(let pattern) = $0 { pattern } else { nil } }
  }

  /// Calls `body` with the pieces of `text` in order. Valid as long as the call.
  /// - Parameter isStart: whether nothing stands before the text.
  func forEachPiece(
    of text: UnsafeBufferPointer<UInt8>, isStart: Bool, _ body: (UnsafeBufferPointer<UInt8>) -> Void
  ) {
    cut(text, steps[...], isStart: isStart, body)
  }

  private func cut(
    _ text: UnsafeBufferPointer<UInt8>, _ steps: ArraySlice<Step>, isStart: Bool,
    _ body: (UnsafeBufferPointer<UInt8>) -> Void
  ) {
    guard let step = steps.first else { return body(text) }
    let rest = steps.dropFirst()
    func goOn(_ range: Range<Int>) {
      cut(
        UnsafeBufferPointer(rebasing: text[range]), rest, isStart: isStart && range.lowerBound == 0, body)
    }
    switch step {
    case .split(let pattern): pattern.forEachPiece(of: text, goOn)
    case .spaceBefore:
      guard text.first != 32 else { return cut(text, rest, isStart: isStart, body) }
      ([32] + Array(text)).withUnsafeBufferPointer { cut($0, rest, isStart: isStart, body) }
    case .literals(let literals):
      literals.splitter.forEachSegment(of: text) {
        switch $0 {
        case .text(let range): goOn(range)
        case .token(_, let range): goOn(range)
        }
      }
    case .metaspace(let metaspace):
      metaspace.apply(text, isStart: isStart).withUnsafeBufferPointer { marked in
        metaspace.forEachPiece(of: marked) { range in
          cut(
            UnsafeBufferPointer(rebasing: marked[range]), rest, isStart: isStart && range.lowerBound == 0,
            body)
        }
      }
    }
  }
}

extension PreTokenizer.Metaspace {
  fileprivate func apply(_ text: UnsafeBufferPointer<UInt8>, isStart: Bool) -> [UInt8] {
    var result: [UInt8] = []
    result.reserveCapacity(text.count + 3 * replacement.count)
    for byte in text {
      if byte == 32 { result += replacement } else { result.append(byte) }
    }
    let isMarked = prepending == .always || prepending == .first && isStart
    return isMarked && !result.starts(with: replacement) ? replacement + result : result
  }

  fileprivate func forEachPiece(of text: UnsafeBufferPointer<UInt8>, _ body: (Range<Int>) -> Void) {
    guard splits else { return body(0..<text.count) }
    var start = 0
    var i = 1
    while i < text.count {
      if i + replacement.count <= text.count && text[i..<i + replacement.count].elementsEqual(replacement) {
        body(start..<i)
        start = i
        i += replacement.count
      } else {
        i += 1
      }
    }
    if start < text.count { body(start..<text.count) }
  }
}
