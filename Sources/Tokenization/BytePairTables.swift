import Files
import JSON

/// A byte-level BPE tokenizer laid open, for formats that keep it as tables.
package struct BytePairTables: Sendable {
  package enum Kind: Sendable {
    /// Made by merging; spelled in GPT-2's stand-ins for bytes.
    case normal
    /// Recognized in text wherever special tokens are; its own text.
    case special
    /// Recognized in every text; its own text.
    case added
  }
  /// By id; nil: no token has the id.
  package var tokens: [(text: String, kind: Kind)?]
  /// Pairs that merge, earliest first.
  package var merges: [(left: String, right: String)]
  package var steps: [SplitPattern]
  /// Whether a whole piece that is a token becomes it without merging.
  package var ignoresMerges: Bool
  /// Ids put before every text.
  package var prefix: [Int]
  /// What the tables cannot say.
  package var omissions: [String]

  // MARK: tokenizer.json

  /// - Throws: for a tokenizer that this toolchain does not read.
  package init(_ json: JSONValue, path: String) throws {
    let file = TokenizerJSON(json: json, path: path)
    let model = try file.bytePairModel()
    let addedTokens = try file.addedTokens()
    let count = (model.vocabulary.map(\.1) + addedTokens.map(\.token.id)).reduce(0) { max($0, $1 + 1) }
    tokens = Array(repeating: nil, count: count)
    for (text, id) in model.vocabulary { tokens[id] = (text, .normal) }
    for entry in addedTokens {
      let text = String(decoding: entry.token.bytes, as: UTF8.self)
      tokens[entry.token.id] = (text, entry.token.isSpecial ? .special : .added)
    }
    merges = model.merges.map { ($0.0, $0.1) }
    ignoresMerges = model.ignoresMerges
    let preTokenizer = try file.preTokenizer()
    steps = preTokenizer.patterns
    let affixes = try file.affixes(tokenCount: count)
    prefix = affixes.prefix
    omissions = []
    if let index = preTokenizer.steps.firstIndex(of: .spaceBefore) {
      omissions.append("a space put before every \(index == 0 ? "text" : "piece of a text")")
    }
    if preTokenizer.steps.contains(where: { if case .literals = $0 { true } else { false } }) {
      omissions.append("the cutting of text at fixed texts")
    }
    let normalization = try file.normalizer()
    if normalization.contains(.nfc) { omissions.append("normalization (NFC)") }
    if normalization.contains(where: { $0 != .nfc }) { omissions.append("replacements in the text") }
    if !affixes.suffix.isEmpty { omissions.append("tokens put after every text") }
    if addedTokens.contains(where: { $0.token.stripsLeft || $0.token.stripsRight || $0.token.isWholeWord }) {
      omissions.append("white space that special tokens swallow, or their standing alone")
    }
  }

  // MARK: Zhinao

  /// The tables of a tiktoken vocabulary. Every token of several bytes is the merge of the two parts that merging its
  /// bytes by lower ranks ends in: wherever the token arises from its neighbours, it arises from these two.
  ///
  /// The space tokens are spelled as the spaces they stand for: runs of spaces then become them, longest first, as
  /// Zhinao's own replacement makes them.
  package init(_ tokenizer: ZhinaoTokenizer) throws {
    let ranks = try (0..<tokenizer.rankCount).map {
      try tokenizer.bytes(of: $0, skippingSpecials: false) ?? []
    }
    var table = ByteTable(capacity: ranks.count, byteCapacity: ranks.reduce(0) { $0 + $1.count })
    for token in ranks { _ = table.append(token) }
    tokens = ranks.map { (ByteLevelAlphabet.encoded($0[...]), .normal) }
    merges = []
    var whole = 0
    for (rank, token) in ranks.enumerated() where token.count > 1 {
      let parts = BytePairTables.parts(of: token, below: rank, table)
      if parts.count == 3 {
        merges.append(
          (
            ByteLevelAlphabet.encoded(token[..<parts[1]]), ByteLevelAlphabet.encoded(token[parts[1]...])
          ))
      } else {
        whole += 1
      }
    }
    for (index, name) in ZhinaoTokenizer.specialNames.enumerated() {
      let id = tokenizer.rankCount + index
      let spelled = try tokenizer.bytes(of: id, skippingSpecials: true)
      tokens.append(spelled.map { (String(decoding: $0, as: UTF8.self), .added) } ?? (name, .special))
    }
    steps = [.cl100k(digits: 1)]
    ignoresMerges = whole > 0
    prefix = []
    omissions = ["<br> and [br] as newlines", "the names [space2], [space3], [space4], [space8] in a text"]
  }

  /// Where the parts of `token` start after all merges of lower rank than `limit`, and its end.
  private static func parts(of token: [UInt8], below limit: Int, _ table: ByteTable) -> [Int] {
    var starts = Array(0...token.count)
    token.withUnsafeBufferPointer { bytes in
      while starts.count > 3 {
        var best = limit
        var at = -1
        for i in 0..<starts.count - 2 {
          let pair = UnsafeBufferPointer(rebasing: bytes[starts[i]..<starts[i + 2]])
          if let rank = table.id(of: pair), rank < best { (best, at) = (rank, i) }
        }
        guard at >= 0 else { return }
        starts.remove(at: at + 1)
      }
    }
    return starts
  }
}

extension ByteLevelAlphabet {
  /// The spelling of bytes in a vocabulary.
  static func encoded(_ bytes: ArraySlice<UInt8>) -> String {
    var text = String.UnicodeScalarView()
    for byte in bytes { text.append(characters[Int(byte)]) }
    return String(text)
  }
}
