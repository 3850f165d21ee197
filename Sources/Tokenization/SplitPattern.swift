/// How text is cut into pieces before merging: hand-written scanners for the patterns of the models we run. Each takes
/// time linear in the text, whatever the text.
package enum SplitPattern: Equatable, Sendable {
  /// `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,digits}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
  ///
  /// cl100k and Llama 3 have 3 digits; Zhinao and Qwen2 have 1.
  case cl100k(digits: Int)
  /// `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`
  case gpt2
  /// `\p{N}` each on its own, what is between them left whole.
  case digits

  /// The pattern in the spelling of `tokenizer.json`.
  package var regularExpression: String {
    let contractions = "'s|'t|'re|'ve|'m|'ll|'d"
    switch self {
    case .cl100k(let digits):
      let numbers = #"\p{N}"# + (digits == 1 ? "" : "{1,\(digits)}")
      return "(?i:\(contractions))|" + #"[^\r\n\p{L}\p{N}]?\p{L}+|"# + numbers
        + #"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"#
    case .gpt2:
      return contractions + #"| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"#
    case .digits: return #"\p{N}"#
    }
  }

  /// Calls `body` with the byte range of each piece, in order; together they are all of `text`, valid UTF-8.
  package func forEachPiece(of text: UnsafeBufferPointer<UInt8>, _ body: (Range<Int>) -> Void) {
    CharacterClasses.withTable { table in
      let cursor = TextCursor(bytes: text, table: table)
      var start = 0
      while let first = cursor.character(at: start) {
        let end: Int
        switch self {
        case .cl100k(let digits): end = cursor.cl100kEnd(start, digits: digits)
        case .gpt2: end = cursor.gpt2End(start, first)
        case .digits: end = cursor.digitsEnd(first)
        }
        body(start..<end)
        start = end
      }
    }
  }
}

extension TextCursor {
  typealias Character = (value: UInt32, kind: CharacterClass, next: Int)

  /// End of the piece that starts at `start`, which is not the end of the text.
  @inline(__always)
  func cl100kEnd(_ start: Int, digits: Int) -> Int {
    let first = bytes[start]
    // Most pieces are a word, alone or after a space.
    if first == 0x20 && start + 1 < bytes.count && bytes[start + 1] < 0x80 {
      if table[Int(bytes[start + 1])] == .letter { return letterEnd(from: start + 2) }
    } else if first < 0x80 && table[Int(first)] == .letter {
      return letterEnd(from: start + 1)
    }
    return generalCL100KEnd(start, character(at: start)!, digits: digits)
  }

  /// The alternatives are tried in the pattern's order.
  @inline(never)
  private func generalCL100KEnd(_ start: Int, _ first: Character, digits: Int) -> Int {
    if first.value == 0x27, let end = contractionEnd(first.next, ignoringCase: true) { return end }
    switch first.kind {
    case .letter: return letterEnd(from: first.next)
    case .number:
      var end = first.next
      var count = 1
      while count < digits, let next = character(at: end), next.kind == .number {
        end = next.next
        count += 1
      }
      return end
    case .space, .other:
      if let next = character(at: first.next) {
        if next.kind == .letter { return letterEnd(from: next.next) }
        if first.value == 0x20 && next.kind == .other {
          return end(of: .newline, from: end(of: .other, from: next.next))
        }
      }
      if first.kind == .other { return end(of: .newline, from: end(of: .other, from: first.next)) }
      return whitespaceEnd(start, newlinesFirst: true)
    case .newline: return whitespaceEnd(start, newlinesFirst: true)
    }
  }

  func gpt2End(_ start: Int, _ first: Character) -> Int {
    if first.value == 0x27, let end = contractionEnd(first.next, ignoringCase: false) { return end }
    switch first.kind {
    case .letter, .number, .other: return end(of: first.kind, from: first.next)
    case .space, .newline:
      if first.value == 0x20, let next = character(at: first.next), !next.kind.isWhitespace {
        return end(of: next.kind, from: next.next)
      }
      return whitespaceEnd(start, newlinesFirst: false)
    }
  }

  func digitsEnd(_ first: Character) -> Int {
    if first.kind == .number { return first.next }
    var end = first.next
    while let next = character(at: end), next.kind != .number { end = next.next }
    return end
  }

  /// `\s*[\r\n]+|\s+(?!\S)|\s+`, the first only if `newlinesFirst`.
  private func whitespaceEnd(_ start: Int, newlinesFirst: Bool) -> Int {
    var end = start
    var last = start
    var afterNewline: Int?
    while let c = character(at: end), c.kind.isWhitespace {
      last = end
      end = c.next
      if c.kind == .newline { afterNewline = end }
    }
    if newlinesFirst, let afterNewline { return afterNewline }
    // (?!\S): leave one character of white space to what follows, if anything does and there is more than one.
    return end == bytes.count || last == start ? end : last
  }

  /// After an apostrophe at `index - 1`: `s|t|re|ve|m|ll|d`. Ignoring case as Unicode does makes U+017F an s.
  private func contractionEnd(_ index: Int, ignoringCase: Bool) -> Int? {
    func letter(at index: Int) -> (value: UInt32, next: Int)? {
      guard let c = character(at: index) else { return nil }
      if ignoringCase {
        if c.value == 0x17F { return (0x73, c.next) }
        if c.value >= 0x41 && c.value <= 0x5A { return (c.value + 0x20, c.next) }
      }
      return (c.value, c.next)
    }
    guard let first = letter(at: index) else { return nil }
    switch first.value {
    case 0x73, 0x74, 0x6D, 0x64: return first.next  // s t m d
    case 0x72, 0x76:  // re ve
      guard let second = letter(at: first.next), second.value == 0x65 else { return nil }
      return second.next
    case 0x6C:  // ll
      guard let second = letter(at: first.next), second.value == 0x6C else { return nil }
      return second.next
    default: return nil
    }
  }
}
