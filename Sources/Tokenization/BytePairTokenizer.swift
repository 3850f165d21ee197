import Files
import JSON

/// A BPE tokenizer as `tokenizer.json` describes it: over bytes (GPT-2, Llama 3 and Qwen2 families), or over characters with
/// bytes for those without a token (SentencePiece: Llama 2 and its family).
package struct BytePairTokenizer: Tokenizer {
  package let path: String
  package let tokenCount: Int
  package let specialTokens: [ByteText: Int]
  package internal(set) var discrepancies: [Discrepancy] = []
  package let unusedIDs: [Range<Int>]
  package let ordinaryTokenCount: Int
  package let marksTextStart: Bool

  /// What each id stands for, in the decoder's terms; nil: no token has the id.
  private let tokens: [[UInt8]?]
  /// Whether decoding may skip the id.
  private let isSpecial: [Bool]
  private let merger: PieceMerger
  private let preTokenizer: PreTokenizer
  private let normalizations: [Normalization]
  private let decoder: TokenDecoder
  /// Added tokens that the decoder replaces.
  private let replacedAdded: [Int: [UInt8]]
  private let rawSplitter: SpecialTokenSplitter
  private let normalizedSplitter: SpecialTokenSplitter
  private let plainSplitters: (raw: SpecialTokenSplitter, normalized: SpecialTokenSplitter)
  package let specialSplitter: SpecialTokenSplitter
  package let affixes: (prefix: [Int], suffix: [Int])

  /// - Parameter path: the file's name in messages.
  package init(_ json: JSONValue, path: String) throws {
    let file = TokenizerJSON(json: json, path: path)
    self.path = path
    let model = try file.bytePairModel()
    let added = try file.addedTokens()
    let preTokenizer = try file.preTokenizer()
    self.preTokenizer = preTokenizer
    let normalizations = try file.normalizer()
    self.normalizations = normalizations
    let decoder = try file.decoder(preTokenizer.alphabet)
    self.decoder = decoder
    let addedIDs = Set(added.map(\.token.id))
    merger = try PieceMerger(model, preTokenizer.alphabet, addedIDs: addedIDs, file: file)

    let ordinary = model.vocabulary.lazy.map(\.1).filter { !addedIDs.contains($0) }.max().map { $0 + 1 } ?? 0
    let count =
      max(
        model.vocabulary.lazy.map(\.1).max() ?? -1, addedIDs.max() ?? -1) + 1
    var tokens = [[UInt8]?](repeating: nil, count: count)
    var isSpecial = [Bool](repeating: false, count: count)
    func spelled(_ text: String) -> [UInt8] {
      preTokenizer.alphabet == .bytes
        ? ByteLevelAlphabet.decoded(text) ?? Array(text.utf8) : Array(text.utf8)
    }
    for (text, id) in model.vocabulary { tokens[id] = spelled(text) }
    var specials: [ByteText: Int] = [:]
    for entry in added {
      let text = String(decoding: entry.token.bytes, as: UTF8.self)
      // A token that is looked for in normalized text is normalized itself, and decoded as that.
      tokens[entry.token.id] = spelled(
        entry.isNormalized ? String(decoding: normalizations.apply(entry.token.bytes), as: UTF8.self) : text)
      isSpecial[entry.token.id] = entry.token.isSpecial
      if entry.token.isSpecial { specials[text] = entry.token.id }
    }
    self.tokens = tokens
    self.isSpecial = isSpecial
    tokenCount = count
    ordinaryTokenCount = ordinary
    unusedIDs = BytePairTokenizer.gaps(in: tokens)
    specialTokens = specials
    if case .bytes(let replacements) = decoder {
      replacedAdded = Dictionary(
        added.map { ($0.token.id, replacements.apply(tokens[$0.token.id] ?? [])) }
          .filter { tokens[$0.0] != $0.1 }, uniquingKeysWith: { a, _ in a })
    } else {
      replacedAdded = [:]
    }
    func splitters(_ tokens: [TokenizerJSON.Added]) -> (SpecialTokenSplitter, SpecialTokenSplitter) {
      (
        SpecialTokenSplitter(tokens.filter { !$0.isNormalized }.map(\.token)),
        // These are looked for in normalized text, so they are normalized themselves.
        SpecialTokenSplitter(
          tokens.filter(\.isNormalized).map {
            var token = $0.token
            token.bytes = normalizations.apply(token.bytes)
            return token
          })
      )
    }
    (rawSplitter, normalizedSplitter) = splitters(added)
    plainSplitters = splitters(added.filter { !$0.token.isSpecial })
    specialSplitter = SpecialTokenSplitter(added.map(\.token).filter(\.isSpecial))
    affixes = try file.affixes(tokenCount: count)
    marksTextStart =
      normalizations.contains { if case .prepend = $0 { true } else { false } }
      || preTokenizer.steps.contains {
        if case .metaspace(let metaspace) = $0 { metaspace.prepending != .never } else { false }
      }
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

  package func encode(_ text: String, specials: SpecialTokens, addingAffixes: Bool) -> [Int] {
    let ids = encode(text, specials, isStart: true)
    return addingAffixes ? affixes.prefix + ids + affixes.suffix : ids
  }

  package func encodeContinuation(_ text: String, specials: SpecialTokens) -> [Int] {
    encode(text, specials, isStart: false)
  }

  private func encode(_ text: String, _ specials: SpecialTokens, isStart: Bool) -> [Int] {
    var ids: [Int] = []
    let (raw, normalized) = specials == .recognized ? (rawSplitter, normalizedSplitter) : plainSplitters
    Array(text.utf8).withUnsafeBufferPointer { bytes in
      raw.forEachSegment(of: bytes) { segment in
        switch segment {
        case .token(let id, _): ids.append(id)
        case .text(let range):
          encodeSegment(
            UnsafeBufferPointer(rebasing: bytes[range]), normalized,
            isStart: isStart && range.lowerBound == 0, &ids)
        }
      }
    }
    return ids
  }

  private func encodeSegment(
    _ text: UnsafeBufferPointer<UInt8>, _ splitter: SpecialTokenSplitter, isStart: Bool, _ ids: inout [Int]
  ) {
    func encodeAll(_ bytes: UnsafeBufferPointer<UInt8>) {
      splitter.forEachSegment(of: bytes) { segment in
        switch segment {
        case .token(let id, _): ids.append(id)
        case .text(let range):
          preTokenizer.forEachPiece(
            of: UnsafeBufferPointer(rebasing: bytes[range]), isStart: isStart && range.lowerBound == 0
          ) { merger.merge($0, into: &ids) }
        }
      }
    }
    if normalizations.isEmpty { return encodeAll(text) }
    normalizations.apply(Array(text)).withUnsafeBufferPointer(encodeAll)
  }

  // MARK: Ids to text

  package func decode(_ ids: [Int], skippingSpecials: Bool) throws -> String {
    decoder.text(try ids.compactMap { try stored($0, skippingSpecials: skippingSpecials) })
  }

  /// An added token that decoding replaces (Zhinao's `[space4]`) is replaced here; the same characters put together from
  /// other tokens are not.
  package func bytes(of id: Int, skippingSpecials: Bool) throws -> [UInt8]? {
    guard let bytes = try stored(id, skippingSpecials: skippingSpecials) else { return nil }
    return replacedAdded[id] ?? decoder.bytes(of: bytes)
  }

  private func stored(_ id: Int, skippingSpecials: Bool) throws -> [UInt8]? {
    guard tokens.indices.contains(id) else {
      throw TokenizationError(.noSuchToken(id, count: tokenCount), path: path)
    }
    return skippingSpecials && isSpecial[id] ? nil : tokens[id]
  }
}
