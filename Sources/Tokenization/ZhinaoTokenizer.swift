import Files

/// The tokenizer of the 360Zhinao 7B and 1.8B models: a tiktoken vocabulary, eleven special tokens after it, and two
/// replacements before encoding (`Docs/tokenizers.md`).
package struct ZhinaoTokenizer: Tokenizer {
  /// In the order of their ids, which follow the vocabulary's.
  package static let specialNames = [
    "<pad>", "<unk>", "<mask>", "<eod>", "<eop>", "[space2]", "[space3]", "[space4]", "[space8]",
    "<|im_start|>",
    "<|im_end|>",
  ]
  /// `[br]`, then `<br>`, become a newline.
  private static let lineBreaks = [ByteReplacement("[br]", "\n"), ByteReplacement("<br>", "\n")]
  /// Spaces that a token stands for, by its place among the special tokens.
  private static let spaces = [5: 2, 6: 3, 7: 4, 8: 8]
  /// What decoding replaces, in the reference's order.
  private static let spaceNames = spaces.sorted { $0.key < $1.key }.map { special, count in
    ByteReplacement(specialNames[special], String(repeating: " ", count: count))
  }

  /// The vocabulary file, for messages.
  package let path: String
  package let rankCount: Int
  package let tokenCount: Int
  package let specialTokens: [ByteText: Int]
  private let ranks: Ranks
  private let splitter: SpecialTokenSplitter

  /// The vocabulary, and what is looked up so often that it has a table of its own.
  private final class Ranks: Sendable {
    let table: ByteTable
    private let bytes = TableMemory<Int32>(count: 256)
    private let pairs = TableMemory<Int32>(count: 65536)
    private let characters: CharacterTable

    /// - Parameter bytes: the id of each single byte.
    init(_ table: ByteTable, bytes single: [Int32]) {
      self.table = table
      let (bytes, pairs) = (self.bytes.pointer, self.pairs.pointer)
      for byte in 0..<256 { bytes[byte] = single[byte] }
      withUnsafeTemporaryAllocation(of: UInt8.self, capacity: 2) { two in
        for pair in 0..<65536 {
          (two[0], two[1]) = (UInt8(pair >> 8), UInt8(pair & 0xFF))
          pairs[pair] = table.id(of: UnsafeBufferPointer(two)).map(Int32.init) ?? -1
        }
      }
      let merges = RankTable(
        ranks: table.view, bytes: UnsafePointer(bytes), pairs: UnsafePointer(pairs))
      characters = CharacterTable(table, merges)
    }

    /// - Parameter text: not empty; it stays where it is.
    func encoder(for text: UnsafeBufferPointer<UInt8>) -> PieceEncoder {
      PieceEncoder(
        RankTable(
          ranks: table.view, bytes: UnsafePointer(bytes.pointer), pairs: UnsafePointer(pairs.pointer)),
        characters.view, text: text)
    }
  }

  /// - Parameters:
  ///   - vocabulary: lines of `base64(token) SPACE rank`; empty lines are ignored. Ranks are 0, 1, 2 … in any order.
  ///   - path: the file's name in messages.
  package init(vocabulary: [UInt8], path: String) throws {
    self.path = path
    func bad(_ reason: TokenizationError.Reason) -> TokenizationError {
      TokenizationError(reason, path: path)
    }
    var tokens: [[UInt8]?] = []
    var line = 0
    for text in vocabulary.split(separator: 10, omittingEmptySubsequences: false) {
      line += 1
      let text = text.last == 13 ? text.dropLast() : text
      if text.isEmpty { continue }
      guard let space = text.firstIndex(of: 32), let rank = decimal(text[(space + 1)...]),
        let token = Base64.decoded(text[..<space]), !token.isEmpty
      else { throw bad(.badLine(line)) }
      guard rank < 1 << 24 else { throw bad(.rankTooLarge(line: line, rank: rank)) }
      if rank >= tokens.count { tokens += Array(repeating: nil, count: rank + 1 - tokens.count) }
      guard tokens[rank] == nil else { throw bad(.rankGivenTwice(line: line, rank: rank)) }
      tokens[rank] = token
    }
    guard !tokens.isEmpty else { throw bad(.noTokens) }
    var ranks = ByteTable(
      capacity: tokens.count, byteCapacity: tokens.reduce(0) { $0 + ($1?.count ?? 0) })
    for (rank, token) in tokens.enumerated() {
      guard let token else { throw bad(.rankMissing(rank, count: tokens.count)) }
      guard ranks.append(token) else { throw bad(.tokenRepeated(rank: rank)) }
    }
    let single: [Int32] = try (0..<256).map { byte in
      let id = withUnsafeBytes(of: UInt8(byte)) { ranks.id(of: $0.bindMemory(to: UInt8.self)) }
      guard let id else { throw bad(.byteMissing(byte)) }
      return Int32(id)
    }
    let count = tokens.count
    rankCount = count
    tokenCount = count + ZhinaoTokenizer.specialNames.count
    specialTokens = Dictionary(
      uniqueKeysWithValues: ZhinaoTokenizer.specialNames.enumerated().map {
        ($0.element.bytes, count + $0.offset)
      })
    self.ranks = Ranks(ranks, bytes: single)
    splitter = SpecialTokenSplitter(
      ZhinaoTokenizer.specialNames.enumerated().map {
        AddedToken(id: count + $0.offset, bytes: Array($0.element.utf8))
      })
  }

  // MARK: Text to ids

  package func encode(_ text: String, specials: SpecialTokens, addingAffixes: Bool) -> [Int] {
    let replaced = ZhinaoTokenizer.lineBreaks.apply(Array(text.utf8))
    if replaced.isEmpty { return [] }
    return withExtendedLifetime(ranks) {
      replaced.withUnsafeBufferPointer { bytes in
        var encoder = ranks.encoder(for: bytes)
        // No name of a token holds two spaces, so the runs of spaces can be taken out first.
        var start = 0
        forEachSpaceToken(in: bytes) { range, special in
          encode(UnsafeBufferPointer(rebasing: bytes[start..<range.lowerBound]), specials, &encoder)
          encoder.append(rankCount + special)
          start = range.upperBound
        }
        encode(UnsafeBufferPointer(rebasing: bytes[start...]), specials, &encoder)
        return encoder.ids.array
      }
    }
  }

  /// With `plain`, names of tokens in the text stay text.
  private func encode(
    _ text: UnsafeBufferPointer<UInt8>, _ specials: SpecialTokens, _ encoder: inout PieceEncoder
  ) {
    guard specials == .recognized else { return encoder.encode(text) }
    splitter.forEachSegment(of: text) { segment in
      switch segment {
      case .token(let id, _): encoder.append(id)
      case .text(let range): encoder.encode(UnsafeBufferPointer(rebasing: text[range]))
      }
    }
  }

  /// Replacing runs of 8, then 4, 3 and 2 spaces by tokens comes to this: of a run, as many eights as fit, then what
  /// is left as 4, 3 or 2, then perhaps one ordinary space.
  private func forEachSpaceToken(
    in text: UnsafeBufferPointer<UInt8>, _ body: (Range<Int>, _ special: Int) -> Void
  ) {
    var i = 0
    while true {
      i = text.firstIndex(of: 32, before: 32, from: i)
      guard i < text.count else { return }
      var end = i + 2
      while end < text.count && text[end] == 32 { end += 1 }
      for (special, length) in [(8, 8), (7, 4), (6, 3), (5, 2)] {
        while end - i >= length {
          body(i..<i + length, special)
          i += length
        }
      }
      i = end
    }
  }

  // MARK: Ids to text

  package func decode(_ ids: [Int], skippingSpecials: Bool) throws -> String {
    var bytes: [UInt8] = []
    for id in ids {
      let special = id - rankCount
      if special >= 0 && special < ZhinaoTokenizer.specialNames.count {
        if skippingSpecials && ZhinaoTokenizer.spaces[special] == nil { continue }
        bytes.append(contentsOf: ZhinaoTokenizer.specialNames[special].utf8)
      } else {
        bytes.append(contentsOf: try tokenBytes(id))
      }
    }
    // As the reference: by name, in the finished text.
    let text = String(decoding: bytes, as: UTF8.self)
    guard text.utf8.contains(UInt8(ascii: "[")) else { return text }
    return String(decoding: ZhinaoTokenizer.spaceNames.apply(Array(text.utf8)), as: UTF8.self)
  }

  package func bytes(of id: Int, skippingSpecials: Bool) throws -> [UInt8]? {
    let special = id - rankCount
    guard special >= 0 && special < ZhinaoTokenizer.specialNames.count else {
      return Array(try tokenBytes(id))
    }
    if let count = ZhinaoTokenizer.spaces[special] { return Array(repeating: 32, count: count) }
    return skippingSpecials ? nil : Array(ZhinaoTokenizer.specialNames[special].utf8)
  }

  /// The tokens of the vocabulary, by rank.
  var rankedTokens: [[UInt8]] { (0..<rankCount).map { Array(ranks.table.bytes(of: $0)) } }

  /// The rank of a token that is not empty, or nil.
  func rank(of token: ArraySlice<UInt8>) -> Int? {
    token.withUnsafeBufferPointer { ranks.table.id(of: $0) }
  }

  private func tokenBytes(_ id: Int) throws -> UnsafeBufferPointer<UInt8> {
    guard id >= 0 && id < rankCount else {
      throw TokenizationError(.noSuchToken(id, count: tokenCount), path: path)
    }
    return ranks.table.bytes(of: id)
  }
}

/// A whole number in decimal digits, at most nine of them.
private func decimal(_ text: ArraySlice<UInt8>) -> Int? {
  guard !text.isEmpty, text.count <= 9 else { return nil }
  var value = 0
  for c in text {
    guard c >= 48, c <= 57 else { return nil }
    value = value * 10 + Int(c - 48)
  }
  return value
}
