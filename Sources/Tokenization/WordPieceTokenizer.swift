import Files
import JSON

/// The tokenizer of BERT and its family: words are cut at white space and punctuation, then into the longest pieces that the
/// vocabulary has.
///
/// Ids are those of the `tokenizers` library: BertNormalizer, BertPreTokenizer and WordPiece of `tokenizer.json`, or `vocab.txt`
/// with the rules of transformers' BertTokenizer. Truncation and padding that `tokenizer.json` may ask for are left to the caller.
package struct WordPieceTokenizer: PairTokenizer {
  package let path: String
  package let tokenCount: Int
  package let specialTokens: [ByteText: Int]
  package let discrepancies: [Discrepancy]
  package let unusedIDs: [Range<Int>]
  package let ordinaryTokenCount: Int
  package let specialSplitter: SpecialTokenSplitter
  /// How many ids a text may become, special ones included, as `model_max_length` of `tokenizer_config.json` has it; nil: it
  /// says nothing of use.
  package let maximumLength: Int?

  /// What each id stands for; nil: no token has the id.
  private let tokens: [[UInt8]?]
  /// Whether decoding may skip the id.
  private let isSpecial: [Bool]
  private let normalizer: BertNormalizer
  private let map: BertCharacterMap
  private let vocabulary: WordPieceVocabulary
  private let longestWord: Int
  private let rawSplitter: SpecialTokenSplitter
  private let normalizedSplitter: SpecialTokenSplitter
  private let plainSplitters: (raw: SpecialTokenSplitter, normalized: SpecialTokenSplitter)
  private let single: [WordPieceParts.TemplateItem]
  private let pair: [WordPieceParts.TemplateItem]
  private let decoder: WordPieceDecoder

  /// `tokenizer.json` alone, as it is.
  /// - Parameter path: the file's name in messages.
  package init(_ json: JSONValue, path: String) throws {
    try self.init(
      WordPieceParts(TokenizerLoader.Document(json: json, path: path), settings: .none))
  }

  /// A `vocab.txt` alone: an uncased BertTokenizer with the usual names of special tokens.
  package init(vocabulary bytes: [UInt8], path: String) throws {
    let settings = WordPieceSettings.usual
    let (json, discrepancies) = try WordPieceVocabularyFile.document(bytes, path: path, settings: settings)
    try self.init(
      WordPieceParts(
        TokenizerLoader.Document(json: json, path: path, discrepancies: discrepancies), settings: settings))
  }

  /// The document that a model's files make, with what the files beside it say.
  init(_ document: TokenizerLoader.Document, files: any ModelFiles) throws {
    try self.init(WordPieceParts(document, settings: WordPieceSettings(files)))
  }

  private init(_ parts: WordPieceParts) throws {
    path = parts.path
    discrepancies = parts.discrepancies
    maximumLength = parts.maximumLength
    normalizer = parts.normalizer
    map = .shared(for: parts.normalizer)
    longestWord = parts.longestWord
    (single, pair, decoder) = (parts.single, parts.pair, parts.decoder)
    let addedIDs = Set(parts.added.map(\.token.id))
    let ordinary = parts.vocabulary.lazy.map(\.id).filter { !addedIDs.contains($0) }
    ordinaryTokenCount = ordinary.max().map { $0 + 1 } ?? 0
    let count = (parts.vocabulary.map(\.id) + Array(addedIDs)).reduce(0) { max($0, $1 + 1) }
    var tokens = [[UInt8]?](repeating: nil, count: count)
    var isSpecial = [Bool](repeating: false, count: count)
    for (text, id) in parts.vocabulary { tokens[id] = Array(text.utf8) }
    var specials: [ByteText: Int] = [:]
    for entry in parts.added {
      tokens[entry.token.id] = entry.token.bytes
      isSpecial[entry.token.id] = entry.token.isSpecial
      if entry.token.isSpecial {
        specials[String(decoding: entry.token.bytes, as: UTF8.self)] = entry.token.id
      }
    }
    (tokenCount, self.tokens, self.isSpecial, specialTokens) = (count, tokens, isSpecial, specials)
    unusedIDs = WordPieceTokenizer.gaps(in: tokens)
    // No text becomes an empty token; the id can still be decoded.
    vocabulary = WordPieceVocabulary(
      parts.vocabulary.filter { !$0.text.isEmpty }.map { (Array($0.text.utf8), $0.id) },
      prefix: Array(parts.prefix.utf8), unknown: parts.unknown, longest: 4 * parts.longestWord)
    let normalizer = parts.normalizer
    func splitters(_ added: [TokenizerJSON.Added]) -> (SpecialTokenSplitter, SpecialTokenSplitter) {
      (
        SpecialTokenSplitter(added.filter { !$0.isNormalized }.map(\.token)),
        // These are looked for in normalized text, so they are normalized themselves.
        SpecialTokenSplitter(
          added.filter(\.isNormalized).map {
            var token = $0.token
            token.bytes = token.bytes.withUnsafeBufferPointer(normalizer.normalized)
            return token
          })
      )
    }
    (rawSplitter, normalizedSplitter) = splitters(parts.added)
    plainSplitters = splitters(parts.added.filter { !$0.token.isSpecial })
    specialSplitter = SpecialTokenSplitter(parts.added.map(\.token).filter(\.isSpecial))
  }

  private static func gaps(in tokens: [[UInt8]?]) -> [Range<Int>] {
    var gaps: [Range<Int>] = []
    for id in tokens.indices where tokens[id] == nil {
      if let last = gaps.last, last.upperBound == id {
        gaps[gaps.count - 1] = last.lowerBound..<id + 1
      } else {
        gaps.append(id..<id + 1)
      }
    }
    return gaps
  }

  // MARK: Text to ids

  package var affixes: (prefix: [Int], suffix: [Int]) {
    var affixes: (prefix: [Int], suffix: [Int]) = ([], [])
    var isBefore = true
    for item in single {
      guard case .special(let ids, _) = item else {
        isBefore = false
        continue
      }
      if isBefore { affixes.prefix += ids } else { affixes.suffix += ids }
    }
    return affixes
  }

  package func encode(_ text: String, specials: SpecialTokens, addingAffixes: Bool) -> [Int] {
    let ids = ids(text, specials)
    guard addingAffixes else { return ids }
    let affixes = affixes
    return affixes.prefix + ids + affixes.suffix
  }

  private func ids(_ text: String, _ specials: SpecialTokens) -> [Int] {
    let (raw, normalized) = specials == .recognized ? (rawSplitter, normalizedSplitter) : plainSplitters
    var text = text
    return text.withUTF8 { bytes in
      var encoder = WordPieceEncoder(
        map.view, vocabulary.view, longestWord: longestWord, textLength: bytes.count)
      raw.forEachSegment(of: bytes) { segment in
        switch segment {
        case .token(let id, _): encoder.append(id)
        case .text(let range):
          encodeSegment(UnsafeBufferPointer(rebasing: bytes[range]), normalized, &encoder)
        }
      }
      return encoder.ids.array
    }
  }

  private func encodeSegment(
    _ text: UnsafeBufferPointer<UInt8>, _ splitter: SpecialTokenSplitter, _ encoder: inout WordPieceEncoder
  ) {
    if splitter.isEmpty && encoder.encode(text) { return }
    normalizer.normalized(text).withUnsafeBufferPointer { bytes in
      splitter.forEachSegment(of: bytes) { segment in
        switch segment {
        case .token(let id, _): encoder.append(id)
        case .text(let range): encoder.encode(normalized: UnsafeBufferPointer(rebasing: bytes[range]))
        }
      }
    }
  }

  // MARK: Pairs

  package func addedTokenCount(isPair: Bool) -> Int {
    (isPair ? pair : single).reduce(0) { count, item in
      if case .special(let ids, _) = item { count + ids.count } else { count }
    }
  }

  package func encode(
    _ text: String, pair second: String?, maximumLength: Int?, truncation: Truncation, side: TruncationSide,
    specials: SpecialTokens
  ) throws -> EncodedText {
    let added = addedTokenCount(isPair: second != nil)
    var first = ids(text, specials)
    var other = second.map { ids($0, specials) } ?? []
    var isTruncated = false
    if let maximumLength {
      guard maximumLength >= added else {
        throw TokenizationError(.maximumTooSmall(maximumLength, added: added), path: path)
      }
      let room = maximumLength - added
      let counts = try keptCounts(first.count, second.map { _ in other.count }, room: room, truncation)
      isTruncated = counts.first < first.count || counts.second < other.count
      first.keep(counts.first, cutting: side)
      other.keep(counts.second, cutting: side)
    }
    var result: (ids: [Int], types: [Int]) = ([], [])
    result.ids.reserveCapacity(first.count + other.count + added)
    result.types.reserveCapacity(first.count + other.count + added)
    for item in second == nil ? single : pair {
      let (ids, type) =
        switch item {
        case .special(let ids, let type): (ids, type)
        case .text(let type): (first, type)
        case .pair(let type): (other, type)
        }
      result.ids += ids
      result.types += repeatElement(type, count: ids.count)
    }
    return EncodedText(ids: result.ids, typeIDs: result.types, isTruncated: isTruncated)
  }

  /// How many ids stay of each text when there is room for `room` together.
  ///
  /// As in the `tokenizers` library: with `longest_first` the longer text gives way until both are equally long, and then the one
  /// that was longer, or the second of two equal ones, keeps the odd id.
  private func keptCounts(
    _ first: Int, _ second: Int?, room: Int, _ truncation: Truncation
  ) throws -> (first: Int, second: Int) {
    guard first + (second ?? 0) > room else { return (first, second ?? 0) }
    switch (truncation, second) {
    case (.longestFirst, nil): return (room, 0)
    case (.longestFirst, let second?):
      var (shorter, longer) = (min(first, second), max(first, second))
      longer = shorter > room ? shorter : max(shorter, room - shorter)
      if shorter + longer > room {
        shorter = room / 2
        longer = shorter + room % 2
      }
      return first > second ? (longer, shorter) : (shorter, longer)
    case (.onlySecond, nil):
      throw TokenizationError(.noSecondText(ids: first, room: room), path: path)
    case (.onlySecond, _?):
      guard first < room else {
        throw TokenizationError(.noRoomForSecond(ids: first, room: room), path: path)
      }
      return (first, room - first)
    }
  }

  // MARK: Ids to text

  package func decode(_ ids: [Int], skippingSpecials: Bool) throws -> String {
    var text: [UInt8] = []
    var isFirst = true
    for id in ids {
      guard let token = try token(id, skippingSpecials: skippingSpecials) else { continue }
      text += decoder.bytes(of: token, isFirst: isFirst)
      isFirst = false
    }
    return String(decoding: text, as: UTF8.self)
  }

  package func bytes(of id: Int, skippingSpecials: Bool) throws -> [UInt8]? {
    try token(id, skippingSpecials: skippingSpecials).map { decoder.bytes(of: $0, isFirst: false) }
  }

  private func token(_ id: Int, skippingSpecials: Bool) throws -> [UInt8]? {
    guard tokens.indices.contains(id) else {
      throw TokenizationError(.noSuchToken(id, count: tokenCount), path: path)
    }
    return skippingSpecials && isSpecial[id] ? nil : tokens[id]
  }
}

extension [Int] {
  fileprivate mutating func keep(_ count: Int, cutting side: TruncationSide) {
    guard count < self.count else { return }
    if side == .right { removeLast(self.count - count) } else { removeFirst(self.count - count) }
  }
}
