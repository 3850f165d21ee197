import Files
import JSON

/// A tokenizer over characters laid open as SentencePiece keeps it: tokens merge in the order of their scores.
package struct SentencePieceTables: Sendable {
  package enum Kind: Sendable {
    case normal
    /// Stands for text that has no tokens.
    case unknown
    /// `<0x41>`
    case byte
    /// Recognized in text wherever special tokens are; its own text.
    case special
    /// Recognized in every text; its own text.
    case added
  }
  /// By id; nil: no token has the id.
  package var tokens: [(text: String, kind: Kind, score: Float)?]
  /// A space is put before a text.
  package var putsSpaceBefore = false
  /// Ids put before and after every text.
  package var prefix: [Int]
  package var suffix: [Int]
  package var unknown: Int?
  /// What the tables cannot say.
  package var omissions: [String] = []

  /// SentencePiece's own score of tokens that were added later.
  private static let addedScore: Float = -1000
  private static let mark = Array("\u{2581}".utf8)

  /// Nil for a tokenizer over bytes.
  /// - Throws: for a tokenizer that SentencePiece's format cannot hold.
  package init?(_ json: JSONValue, path: String) throws {
    let file = TokenizerJSON(json: json, path: path)
    let preTokenizer = try file.preTokenizer()
    guard preTokenizer.alphabet == .characters else { return nil }
    let model = try file.bytePairModel()
    let added = try file.addedTokens()
    guard model.fallsBackToBytes else {
      throw file.bad(
        .unsupported("spells tokens in characters without model.byte_fallback, which GGUF cannot say"))
    }
    let affixes = try file.affixes(tokenCount: 1 << 24)
    (prefix, suffix) = (affixes.prefix, affixes.suffix)

    let count = (model.vocabulary.map(\.1) + added.map(\.token.id)).reduce(0) { max($0, $1 + 1) }
    tokens = Array(repeating: nil, count: count)
    let scores = SentencePieceTables.scores(model)
    for (text, id) in model.vocabulary {
      let isByte = TokenDecoder.byte(Array(text.utf8)) != nil
      tokens[id] = (text, isByte ? .byte : .normal, isByte ? 0 : scores[id] ?? 0)
      if let unknown = model.unknown ?? (text.hasSameBytes(as: "<unk>") ? "<unk>" : nil),
        text.hasSameBytes(as: unknown)
      {
        self.unknown = id
      }
    }
    for entry in added where tokens[entry.token.id]?.kind != .byte {
      let id = entry.token.id
      let text = String(decoding: entry.token.bytes, as: UTF8.self)
      let isInVocabulary = tokens[id] != nil
      tokens[id] = (
        entry.token.isSpecial
          ? text : String(decoding: SentencePieceTables.spaced(entry.token.bytes), as: UTF8.self),
        id == unknown ? .unknown : entry.token.isSpecial ? .special : .added,
        isInVocabulary ? 0 : SentencePieceTables.addedScore
      )
    }
    if let unknown { tokens[unknown]?.kind = .unknown }
    try readSpaces(file, preTokenizer)
    if !SentencePieceTables.mergesByScore(model, added: Set(added.map(\.token.id))) {
      omissions.append("the order of merging, which is not that of the tokens' scores")
    }
    if added.contains(where: { $0.token.stripsLeft || $0.token.stripsRight || $0.token.isWholeWord }) {
      omissions.append("white space that special tokens swallow, or their standing alone")
    }
  }

  private static func spaced(_ text: [UInt8]) -> [UInt8] {
    ByteReplacement(pattern: mark, content: [32]).apply(text)
  }

  /// How spaces are marked, by a normalizer or by `Metaspace`.
  private mutating func readSpaces(_ file: TokenizerJSON, _ preTokenizer: PreTokenizer) throws {
    var marksSpaces = false
    var alwaysAddsSpace = false
    for step in try file.normalizer() {
      switch step {
      case .replace(let replacement)
      where replacement.pattern == [32] && replacement.content == SentencePieceTables.mark:
        marksSpaces = true
      case .prepend(SentencePieceTables.mark): (putsSpaceBefore, alwaysAddsSpace) = (true, true)
      case .replaceAtStart(let replacement)
      where replacement.content == replacement.pattern + replacement.pattern:
        alwaysAddsSpace = true
      case .nfc: omissions.append("normalization (NFC)")
      default: omissions.append("replacements in the text")
      }
    }
    for step in preTokenizer.steps {
      switch step {
      case .metaspace(let metaspace) where metaspace.replacement == SentencePieceTables.mark:
        marksSpaces = true
        putsSpaceBefore = metaspace.prepending != .never
        if metaspace.prepending == .first {
          omissions.append("text after a special token without a space before it")
        }
        if putsSpaceBefore && !alwaysAddsSpace {
          omissions.append("no second space before a text that begins with one")
        }
        if metaspace.splits { omissions.append("the cut before every space") }
      case .literals: continue
      default: omissions.append("the cutting of text before merging")
      }
    }
    guard marksSpaces else {
      throw file.bad(.unsupported("does not write spaces as \u{2581}, which GGUF cannot say"))
    }
  }

  /// As SentencePiece numbers them: 0, −1, −2 … in the order of merging, then the tokens that are no result of it.
  private static func scores(_ model: TokenizerJSON.Model) -> [Int: Float] {
    let ids = Dictionary(model.vocabulary.map { ($0.0.bytes, $0.1) }, uniquingKeysWith: { a, _ in a })
    var scores: [Int: Float] = [:]
    func score(_ id: Int) { if scores[id] == nil { scores[id] = -Float(scores.count) } }
    for (left, right) in model.merges { if let id = ids[(left + right).bytes] { score(id) } }
    let rest = model.vocabulary.filter { TokenDecoder.byte(Array($0.0.utf8)) == nil && scores[$0.1] == nil }
    // Characters first: a token that never arises merges last in llama.cpp, too.
    func place(_ entry: (String, Int)) -> (Int, Int) { (min(entry.0.unicodeScalars.count, 2), entry.1) }
    for (_, id) in rest.sorted(by: { place($0) < place($1) }) { score(id) }
    return scores
  }

  /// Whether two neighbours merge exactly when together they are a token, and tokens one after the other.
  private static func mergesByScore(_ model: TokenizerJSON.Model, added: Set<Int>) -> Bool {
    var finished: Set<ByteText> = []
    var last: ByteText?
    var pairs: [ByteText: Int] = [:]
    for (left, right) in model.merges {
      let token = (left + right).bytes
      if token != last {
        guard finished.insert(token).inserted else { return false }
        last = token
      }
      pairs[token, default: 0] += 1
    }
    let mergeable = Set(model.vocabulary.filter { !added.contains($0.1) }.map { $0.0.bytes })
    let ways = SentencePieceMerges.ways(toMake: mergeable.map(\.text)) { mergeable.contains($0.bytes) }
    return ways.allSatisfy { left, right in pairs[(left + right).bytes] != nil }
      && ways.count <= model.merges.count
  }
}

package enum SentencePieceMerges {
  /// Longer tokens are looked up, but never merged to: all the ways to make them would take the square of their length. SentencePiece's
  /// own limit is 16 characters.
  private static let longest = 256

  /// Every way to make tokens, in their order, of two parts that are tokens themselves.
  package static func ways(toMake order: [String], of isToken: (String) -> Bool) -> [(String, String)] {
    order.flatMap { token -> [(String, String)] in
      guard token.utf8.count <= longest else { return [] }
      let scalars = token.unicodeScalars
      return scalars.indices.dropFirst().compactMap { cut in
        let (left, right) = (String(scalars[..<cut]), String(scalars[cut...]))
        return isToken(left) && isToken(right) ? (left, right) : nil
      }
    }
  }
}
