import FileSupport
import Foundation

/// The tokenizer of the 360Zhinao 7B and 1.8B models: a tiktoken vocabulary, eleven special tokens after it, and two
/// replacements before encoding (`Docs/tokenizers.md`).
package struct ZhinaoTokenizer: Tokenizer {
  /// In the order of their ids, which follow the vocabulary's.
  package static let specialNames = [
    "<pad>", "<unk>", "<mask>", "<eod>", "<eop>", "[space2]", "[space3]", "[space4]", "[space8]",
    "<|im_start|>",
    "<|im_end|>",
  ]
  /// Spaces that a token stands for, by its place among the special tokens.
  private static let spaces = [5: 2, 6: 3, 7: 4, 8: 8]

  /// The vocabulary file, for messages.
  package let path: String
  package let rankCount: Int
  package let tokenCount: Int
  package let specialTokens: [String: Int]
  private let merger: BytePairMerger<RankTable>
  private let splitter: SpecialTokenSplitter
  private let pattern = SplitPattern.cl100k(digits: 1)

  private struct RankTable: MergeTable {
    let ranks: ByteTable
    /// Id of each single byte.
    let bytes: [Int32]

    @inline(__always)
    func merge(left: Int32, right: Int32, text: UnsafeBufferPointer<UInt8>, range: Range<Int>) -> (
      rank: Int32, id: Int32
    )? {
      guard let id = ranks.id(of: UnsafeBufferPointer(rebasing: text[range])) else { return nil }
      return (Int32(id), Int32(id))
    }
  }

  /// - Parameters:
  ///   - vocabulary: lines of `base64(token) SPACE rank`; empty lines are ignored. Ranks are 0, 1, 2 … in any order.
  ///   - path: the file's name in messages.
  package init(vocabulary: [UInt8], path: String) throws {
    self.path = path
    func bad(_ detail: String) -> TokenizationError { TokenizationError(path: path, detail: detail) }
    var tokens: [[UInt8]?] = []
    var line = 0
    for text in vocabulary.split(separator: 10, omittingEmptySubsequences: false) {
      line += 1
      let text = text.last == 13 ? text.dropLast() : text
      if text.isEmpty { continue }
      guard let space = text.firstIndex(of: 32), let rank = decimal(text[(space + 1)...]),
        let token = Base64.decoded(text[..<space]), !token.isEmpty
      else { throw bad("line \(line): expected base64(token), a space, and a rank") }
      guard rank < 1 << 24 else { throw bad("line \(line): rank \(rank) is out of range") }
      if rank >= tokens.count { tokens += Array(repeating: nil, count: rank + 1 - tokens.count) }
      guard tokens[rank] == nil else { throw bad("line \(line): rank \(rank) is given twice") }
      tokens[rank] = token
    }
    guard !tokens.isEmpty else { throw bad("holds no tokens") }
    var ranks = ByteTable(capacity: tokens.count)
    for (rank, token) in tokens.enumerated() {
      guard let token else { throw bad("rank \(rank) is missing; ranks must be 0 to \(tokens.count - 1)") }
      guard ranks.append(token) else { throw bad("rank \(rank) repeats the token of a lower rank") }
    }
    let single: [Int32] = try (0..<256).map { byte in
      let id = withUnsafeBytes(of: UInt8(byte)) { ranks.id(of: $0.bindMemory(to: UInt8.self)) }
      guard let id else { throw bad("has no token for the single byte \(byte); every byte needs one") }
      return Int32(id)
    }
    let count = tokens.count
    rankCount = count
    tokenCount = count + ZhinaoTokenizer.specialNames.count
    specialTokens = Dictionary(
      uniqueKeysWithValues: ZhinaoTokenizer.specialNames.enumerated().map { ($0.element, count + $0.offset) })
    merger = BytePairMerger(table: RankTable(ranks: ranks, bytes: single))
    splitter = SpecialTokenSplitter(
      ZhinaoTokenizer.specialNames.enumerated().map {
        AddedToken(id: count + $0.offset, bytes: Array($0.element.utf8))
      })
  }

  // MARK: Text to ids

  package func encode(_ text: String, specials: SpecialTokens, addingAffixes: Bool) -> [Int] {
    var ids: [Int] = []
    let replaced = replacingLineBreaks(Array(text.utf8))
    switch specials {
    case .recognized:
      let text = replacingSpaces(replaced)
      text.withUnsafeBufferPointer { bytes in
        splitter.forEachSegment(of: bytes) { segment in
          switch segment {
          case .token(let id): ids.append(id)
          case .text(let range): encodeOrdinary(UnsafeBufferPointer(rebasing: bytes[range]), into: &ids)
          }
        }
      }
    case .plain:
      // Only runs of spaces become tokens; names of tokens in the text stay text.
      replaced.withUnsafeBufferPointer { bytes in
        var start = 0
        forEachSpaceToken(in: bytes) { range, special in
          if range.lowerBound > start {
            encodeOrdinary(UnsafeBufferPointer(rebasing: bytes[start..<range.lowerBound]), into: &ids)
          }
          ids.append(rankCount + special)
          start = range.upperBound
        }
        if start < bytes.count { encodeOrdinary(UnsafeBufferPointer(rebasing: bytes[start...]), into: &ids) }
      }
    }
    return ids
  }

  private func encodeOrdinary(_ text: UnsafeBufferPointer<UInt8>, into ids: inout [Int]) {
    var parts: [(id: Int32, start: Int32)] = []
    pattern.forEachPiece(of: text) { range in
      let piece = UnsafeBufferPointer(rebasing: text[range])
      if let id = merger.table.ranks.id(of: piece) {
        ids.append(id)
        return
      }
      parts.removeAll(keepingCapacity: true)
      for (i, byte) in piece.enumerated() { parts.append((merger.table.bytes[Int(byte)], Int32(i))) }
      merger.merge(parts, text: piece, into: &ids)
    }
  }

  /// `[br]`, then `<br>`, become a newline.
  private func replacingLineBreaks(_ text: [UInt8]) -> [UInt8] {
    guard text.contains(UInt8(ascii: "[")) || text.contains(UInt8(ascii: "<")) else { return text }
    func replacing(_ mark: [UInt8], in text: [UInt8]) -> [UInt8] {
      var result: [UInt8] = []
      result.reserveCapacity(text.count)
      var i = 0
      while i < text.count {
        if text[i] == mark[0], i + 4 <= text.count, text[i + 1] == mark[1], text[i + 2] == mark[2],
          text[i + 3] == mark[3]
        {
          result.append(10)
          i += 4
        } else {
          result.append(text[i])
          i += 1
        }
      }
      return result
    }
    return replacing(Array("<br>".utf8), in: replacing(Array("[br]".utf8), in: text))
  }

  /// Replacing runs of 8, then 4, 3 and 2 spaces by tokens comes to this: of a run, as many eights as fit, then what
  /// is left as 4, 3 or 2, then perhaps one ordinary space.
  private func forEachSpaceToken(
    in text: UnsafeBufferPointer<UInt8>, _ body: (Range<Int>, _ special: Int) -> Void
  ) {
    var i = 0
    while i < text.count {
      guard text[i] == 32 else {
        i += 1
        continue
      }
      var end = i + 1
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

  private func replacingSpaces(_ text: [UInt8]) -> [UInt8] {
    // The longest growth: two spaces become the eight bytes of `[space2]`.
    [UInt8](unsafeUninitializedCapacity: text.count * 4) { output, count in
      guard let out = output.baseAddress else { return }
      text.withUnsafeBufferPointer { bytes in
        var i = 0
        while i < bytes.count {
          let byte = bytes[i]
          guard byte == 32, i + 1 < bytes.count, bytes[i + 1] == 32 else {
            out[count] = byte
            count += 1
            i += 1
            continue
          }
          var end = i + 2
          while end < bytes.count && bytes[end] == 32 { end += 1 }
          forEachSpaceToken(in: UnsafeBufferPointer(rebasing: bytes[i..<end])) { range, special in
            for byte in ZhinaoTokenizer.specialNames[special].utf8 {
              out[count] = byte
              count += 1
            }
            i += range.count
          }
          if i < end {
            out[count] = 32
            count += 1
            i = end
          }
        }
      }
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
    var text = String(decoding: bytes, as: UTF8.self)
    guard text.utf8.contains(UInt8(ascii: "[")) else { return text }
    for (special, count) in ZhinaoTokenizer.spaces.sorted(by: { $0.key < $1.key }) {
      text = text.replacingOccurrences(
        of: ZhinaoTokenizer.specialNames[special], with: String(repeating: " ", count: count))
    }
    return text
  }

  package func bytes(of id: Int, skippingSpecials: Bool) throws -> [UInt8]? {
    let special = id - rankCount
    guard special >= 0 && special < ZhinaoTokenizer.specialNames.count else {
      return Array(try tokenBytes(id))
    }
    if let count = ZhinaoTokenizer.spaces[special] { return Array(repeating: 32, count: count) }
    return skippingSpecials ? nil : Array(ZhinaoTokenizer.specialNames[special].utf8)
  }

  private func tokenBytes(_ id: Int) throws -> ArraySlice<UInt8> {
    guard id >= 0 && id < rankCount else {
      throw TokenizationError(path: path, detail: "has no token \(id); ids run from 0 to \(tokenCount - 1)")
    }
    return merger.table.ranks.bytes(of: id)
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

/// Base64 as `Data` decodes it, without the detour through strings: vocabularies have a hundred thousand lines.
enum Base64 {
  private static let values: [UInt8] = {
    var table = [UInt8](repeating: 255, count: 256)
    for (i, c) in "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".utf8.enumerated() {
      table[Int(c)] = UInt8(i)
    }
    return table
  }()

  static func decoded(_ text: ArraySlice<UInt8>) -> [UInt8]? {
    guard text.count % 4 == 0 else { return nil }
    var result: [UInt8] = []
    result.reserveCapacity(text.count / 4 * 3)
    var i = text.startIndex
    while i < text.endIndex {
      let isLast = i + 4 == text.endIndex
      let padding = isLast ? (text[i + 3] == 61 ? (text[i + 2] == 61 ? 2 : 1) : 0) : 0
      var word: UInt32 = 0
      for j in 0..<4 {
        let value = j >= 4 - padding ? 0 : values[Int(text[i + j])]
        guard value != 255 else { return nil }
        word = word << 6 | UInt32(value)
      }
      result.append(UInt8(truncatingIfNeeded: word >> 16))
      if padding < 2 { result.append(UInt8(truncatingIfNeeded: word >> 8)) }
      if padding < 1 { result.append(UInt8(truncatingIfNeeded: word)) }
      i += 4
    }
    return result
  }
}
