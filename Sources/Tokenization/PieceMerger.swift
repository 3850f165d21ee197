import Files

/// The model of a BPE tokenizer: a piece of text to ids.
struct PieceMerger: Sendable {
  private let vocabulary: ByteTable
  private let idOfVocabularyEntry: [Int32]
  private let merger: BytePairMerger<PairTable>
  private let alphabet: PreTokenizer.Alphabet
  private let ignoresMerges: Bool
  /// The token of each byte; −1: none.
  private let byteIDs: [Int32]
  /// −1: what has no token is left out.
  private let unknown: Int32
  private let fusesUnknown: Bool

  /// - Parameter addedIDs: ids of added tokens, whose texts need not be spelled in the alphabet.
  init(
    _ model: TokenizerJSON.Model, _ alphabet: PreTokenizer.Alphabet, addedIDs: Set<Int>, file: TokenizerJSON
  ) throws {
    self.alphabet = alphabet
    ignoresMerges = model.ignoresMerges
    if alphabet == .bytes && model.fallsBackToBytes {
      throw file.bad(.unsupported("model.byte_fallback beside ByteLevel is not supported"))
    }
    var table = ByteTable(
      capacity: model.vocabulary.count, byteCapacity: model.vocabulary.reduce(0) { $0 + $1.0.utf8.count })
    var entryIDs: [Int32] = []
    var idOfText: [ByteText: Int32] = [:]
    var taken: Set<Int> = []
    idOfText.reserveCapacity(model.vocabulary.count)
    for (text, id) in model.vocabulary {
      guard taken.insert(id).inserted else { throw file.bad(.idGivenTwice(id)) }
      idOfText[text] = Int32(id)
      let spelled = alphabet == .bytes ? ByteLevelAlphabet.decoded(text) : Array(text.utf8)
      // Entries outside the byte alphabet are added tokens kept in the vocabulary.
      guard let bytes = spelled else {
        guard addedIDs.contains(id) else { throw file.bad(.notBytes(id: id)) }
        continue
      }
      // No text becomes an empty token; the id can still be decoded.
      if bytes.isEmpty { continue }
      guard table.append(bytes) else { throw file.bad(.tokenRepeatedInVocabulary(id: id)) }
      entryIDs.append(Int32(id))
    }
    vocabulary = table
    idOfVocabularyEntry = entryIDs
    byteIDs = (0..<256).map { byte in
      switch alphabet {
      case .bytes: idOfText[String(Character(ByteLevelAlphabet.characters[byte]))] ?? -1
      case .characters: model.fallsBackToBytes ? idOfText[PieceMerger.name(ofByte: UInt8(byte))] ?? -1 : -1
      }
    }
    if let name = model.unknown, let id = idOfText[name] { unknown = id } else { unknown = -1 }
    fusesUnknown = model.fusesUnknown
    var pairs = PairTable(capacity: model.merges.count)
    for (rank, (left, right)) in model.merges.enumerated() {
      guard let a = idOfText[left], let b = idOfText[right], let c = idOfText[left + right] else {
        throw file.bad(.unknownMerge(rank, left: left, right: right))
      }
      pairs.insert(left: a, right: b, rank: Int32(rank), id: c)
    }
    merger = BytePairMerger(table: pairs)
  }

  /// `<0x0A>`
  static func name(ofByte byte: UInt8) -> String {
    let digits = String(byte, radix: 16, uppercase: true)
    return "<0x" + (digits.utf8.count == 1 ? "0" : "") + digits + ">"
  }

  /// Appends the ids of a piece.
  func merge(_ piece: UnsafeBufferPointer<UInt8>, into ids: inout [Int]) {
    if ignoresMerges, let id = id(of: piece) {
      ids.append(Int(id))
      return
    }
    var parts = Parts(unknown: unknown, fusesUnknown: fusesUnknown)
    parts.ids.reserveCapacity(piece.count)
    switch alphabet {
    case .bytes:
      for (i, byte) in piece.enumerated() { parts.append(byteIDs[Int(byte)], at: i) }
    case .characters:
      var start = 0
      while start < piece.count {
        var end = start + 1
        while end < piece.count && piece[end] & 0xC0 == 0x80 { end += 1 }
        let character = start..<end
        if let id = id(of: UnsafeBufferPointer(rebasing: piece[character])) {
          parts.append(id, at: start)
        } else if character.allSatisfy({ byteIDs[Int(piece[$0])] >= 0 }) {
          // Unknown characters before them wait: the reference puts them after the bytes.
          for i in character { parts.ids.append((byteIDs[Int(piece[i])], Int32(i))) }
        } else {
          parts.append(-1, at: start)
        }
        start = end
      }
    }
    parts.flush()
    merger.merge(parts.ids, text: piece, into: &ids)
  }

  private func id(of text: UnsafeBufferPointer<UInt8>) -> Int32? {
    vocabulary.id(of: text).map { idOfVocabularyEntry[$0] }
  }

  /// The smallest parts of a piece, each with the byte that it starts at.
  private struct Parts {
    let unknown: Int32
    let fusesUnknown: Bool
    var ids: [(id: Int32, start: Int32)] = []
    private var pendingStart: Int32?

    init(unknown: Int32, fusesUnknown: Bool) {
      (self.unknown, self.fusesUnknown) = (unknown, fusesUnknown)
    }

    /// - Parameter id: −1: it has no token.
    mutating func append(_ id: Int32, at start: Int) {
      if id >= 0 {
        flush()
        ids.append((id, Int32(start)))
      } else if unknown >= 0 {
        if !fusesUnknown { flush() }
        if pendingStart == nil { pendingStart = Int32(start) }
      }
    }

    mutating func flush() {
      guard let pending = pendingStart else { return }
      // Starts never fall, even if bytes have come before it.
      let start = max(pending, ids.last?.start ?? 0)
      ids.append((unknown, start))
      pendingStart = nil
    }
  }
}
