import Files
import Foundation
import JSON

/// A byte-level BPE tokenizer as `tokenizer.json` describes it: GPT-2, Llama 3 and Qwen2 families.
package struct BytePairTokenizer: Tokenizer {
  package let path: String
  package let tokenCount: Int
  package let specialTokens: [ByteText: Int]
  package internal(set) var discrepancies: [Discrepancy] = []

  private let vocabulary: ByteTable
  /// Bytes each id stands for; nil: no token has the id.
  private let tokens: [[UInt8]?]
  /// Whether decoding may skip the id.
  private let isSpecial: [Bool]
  private let merger: BytePairMerger<PairTable>
  private let idOfVocabularyEntry: [Int32]
  private let byteIDs: [Int32]
  private let ignoresMerges: Bool
  private let steps: [SplitPattern]
  private let addsPrefixSpace: Bool
  private let normalizations: [TokenizerJSON.Normalization]
  /// What happens to decoded text.
  private let replacements: [ByteReplacement]
  /// Added tokens that the decoder replaces.
  private let replacedAdded: [Int: [UInt8]]
  private let rawSplitter: SpecialTokenSplitter
  private let normalizedSplitter: SpecialTokenSplitter
  private let plainSplitters: (raw: SpecialTokenSplitter, normalized: SpecialTokenSplitter)
  private let prefix: [Int]
  private let suffix: [Int]

  /// - Parameter path: the file's name in messages.
  package init(_ json: JSONValue, path: String) throws {
    let file = TokenizerJSON(json: json, path: path)
    self.path = path
    let model = try file.bytePairModel()
    ignoresMerges = model.ignoresMerges
    let added = try file.addedTokens()

    var count = 0
    for (_, id) in model.vocabulary { count = max(count, id + 1) }
    for token in added { count = max(count, token.token.id + 1) }
    var tokens = [[UInt8]?](repeating: nil, count: count)
    var isSpecial = [Bool](repeating: false, count: count)
    var table = ByteTable(
      capacity: model.vocabulary.count, byteCapacity: model.vocabulary.reduce(0) { $0 + $1.0.utf8.count })
    var entryIDs: [Int32] = []
    var idOfText: [ByteText: Int32] = [:]
    idOfText.reserveCapacity(model.vocabulary.count)
    let addedIDs = Set(added.map(\.token.id))
    for (text, id) in model.vocabulary {
      guard tokens[id] == nil else { throw file.bad(.idGivenTwice(id)) }
      idOfText[text] = Int32(id)
      // Entries outside the byte alphabet are added tokens kept in the vocabulary.
      guard let bytes = ByteLevelAlphabet.decoded(text) else {
        guard addedIDs.contains(id) else {
          throw file.bad(.notBytes(id: id))
        }
        tokens[id] = Array(text.utf8)
        continue
      }
      tokens[id] = bytes
      // No text becomes an empty token; the id can still be decoded.
      if bytes.isEmpty { continue }
      if table.append(bytes) {
        entryIDs.append(Int32(id))
      } else {
        throw file.bad(.tokenRepeatedInVocabulary(id: id))
      }
    }
    var specials: [ByteText: Int] = [:]
    for entry in added {
      tokens[entry.token.id] = entry.token.bytes
      isSpecial[entry.token.id] = entry.token.isSpecial
      if entry.token.isSpecial {
        specials[String(decoding: entry.token.bytes, as: UTF8.self)] = entry.token.id
      }
    }
    self.tokens = tokens
    self.isSpecial = isSpecial
    tokenCount = count
    specialTokens = specials
    vocabulary = table
    idOfVocabularyEntry = entryIDs

    // A byte without a token can stand in the text all the same: it has no id and is dropped, as the reference does.
    byteIDs = ByteLevelAlphabet.characters.map { idOfText[String(Character($0))] ?? -1 }
    var pairs = PairTable(capacity: model.merges.count)
    for (rank, (left, right)) in model.merges.enumerated() {
      guard let a = idOfText[left], let b = idOfText[right], let c = idOfText[left + right] else {
        throw file.bad(.unknownMerge(rank, left: left, right: right))
      }
      pairs.insert(left: a, right: b, rank: Int32(rank), id: c)
    }
    merger = BytePairMerger(table: pairs)

    (steps, addsPrefixSpace) = try file.preTokenizer()
    let normalizations = try file.normalizer()
    self.normalizations = normalizations
    let replacements = try file.decoder()
    self.replacements = replacements
    replacedAdded = Dictionary(
      added.map { ($0.token.id, replacements.apply($0.token.bytes)) }.filter { tokens[$0.0] != $0.1 },
      uniquingKeysWith: { a, _ in a })
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
    (prefix, suffix) = try file.affixes(tokenCount: count)
  }

  // MARK: Text to ids

  package func encode(_ text: String, specials: SpecialTokens, addingAffixes: Bool) -> [Int] {
    var ids = addingAffixes ? prefix : []
    let (raw, normalized) = specials == .recognized ? (rawSplitter, normalizedSplitter) : plainSplitters
    Array(text.utf8).withUnsafeBufferPointer { bytes in
      raw.forEachSegment(of: bytes) { segment in
        switch segment {
        case .token(let id): ids.append(id)
        case .text(let range):
          encodeSegment(
            UnsafeBufferPointer(rebasing: bytes[range]), normalized, isFirst: range.lowerBound == 0, &ids)
        }
      }
    }
    if addingAffixes { ids += suffix }
    return ids
  }

  private func encodeSegment(
    _ text: UnsafeBufferPointer<UInt8>, _ splitter: SpecialTokenSplitter, isFirst: Bool, _ ids: inout [Int]
  ) {
    func encodeAll(_ bytes: UnsafeBufferPointer<UInt8>) {
      splitter.forEachSegment(of: bytes) { segment in
        switch segment {
        case .token(let id): ids.append(id)
        case .text(let range):
          let piece = UnsafeBufferPointer(rebasing: bytes[range])
          if addsPrefixSpace && piece.first != 32 {
            ([32] + Array(piece)).withUnsafeBufferPointer { split($0, steps[...], &ids) }
          } else {
            split(piece, steps[...], &ids)
          }
        }
      }
    }
    if normalizations.isEmpty { return encodeAll(text) }
    normalizations.apply(Array(text)).withUnsafeBufferPointer(encodeAll)
  }

  /// Applies the pre-tokenizer's steps one inside the other.
  private func split(
    _ text: UnsafeBufferPointer<UInt8>, _ steps: ArraySlice<SplitPattern>, _ ids: inout [Int]
  ) {
    guard let step = steps.first else { return merge(text, &ids) }
    step.forEachPiece(of: text) { range in
      split(UnsafeBufferPointer(rebasing: text[range]), steps.dropFirst(), &ids)
    }
  }

  private func merge(_ piece: UnsafeBufferPointer<UInt8>, _ ids: inout [Int]) {
    if ignoresMerges, let entry = vocabulary.id(of: piece) {
      ids.append(Int(idOfVocabularyEntry[entry]))
      return
    }
    var parts: [(id: Int32, start: Int32)] = []
    parts.reserveCapacity(piece.count)
    for (i, byte) in piece.enumerated() where byteIDs[Int(byte)] >= 0 {
      parts.append((byteIDs[Int(byte)], Int32(i)))
    }
    merger.merge(parts, text: piece, into: &ids)
  }

  // MARK: Ids to text

  package func decode(_ ids: [Int], skippingSpecials: Bool) throws -> String {
    var result: [UInt8] = []
    for id in ids {
      if let bytes = try storedBytes(of: id, skippingSpecials: skippingSpecials) { result += bytes }
    }
    let text = String(decoding: result, as: UTF8.self)
    return replacements.isEmpty ? text : String(decoding: replacements.apply(Array(text.utf8)), as: UTF8.self)
  }

  /// An added token that decoding replaces (Zhinao's `[space4]`) is replaced here; the same characters put together from
  /// other tokens are not.
  package func bytes(of id: Int, skippingSpecials: Bool) throws -> [UInt8]? {
    guard let bytes = try storedBytes(of: id, skippingSpecials: skippingSpecials) else { return nil }
    return replacedAdded[id] ?? bytes
  }

  private func storedBytes(of id: Int, skippingSpecials: Bool) throws -> [UInt8]? {
    guard id >= 0, id < tokens.count, let bytes = tokens[id] else {
      throw TokenizationError(.noSuchToken(id, count: tokenCount), path: path)
    }
    return skippingSpecials && isSpecial[id] ? nil : bytes
  }
}

extension [TokenizerJSON.Normalization] {
  /// All of them, one after the other, to valid UTF-8.
  func apply(_ text: [UInt8]) -> [UInt8] {
    reduce(text) { text, step in
      switch step {
      case .replace(let replacement): replacement.apply(text)
      case .nfc where text.contains { $0 >= 0x80 }:
        [UInt8](String(decoding: text, as: UTF8.self).precomposedStringWithCanonicalMapping.utf8)
      case .nfc: text
      }
    }
  }
}
