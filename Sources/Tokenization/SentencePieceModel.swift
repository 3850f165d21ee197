import Files

/// What a SentencePiece file (`tokenizer.model`, a protocol buffer) says.
struct SentencePieceModel: Sendable {
  struct Piece: Sendable {
    var text = ""
    var score: Float = 0
    var kind = Kind.normal
  }
  /// Numbers of the format.
  enum Kind: Int, Sendable {
    case normal = 1
    case unknown, control, userDefined, unused, byte
  }
  var pieces: [Piece] = []
  /// 1 Unigram, 2 BPE, 3 words, 4 characters.
  private var type = 1
  var fallsBackToBytes = false
  var unknown = (id: 0, text: "<unk>")
  var begin = (id: 1, text: "<s>")
  var end = (id: 2, text: "</s>")
  var charactersMap: [UInt8] = []
  var putsSpaceBefore = true
  var removesExtraSpaces = true
  var marksSpaces = true

  /// - Throws: for a file that is damaged, or that is not a BPE model.
  init(_ bytes: [UInt8], path: String) throws {
    if let other = SentencePieceModel.otherContent(bytes) {
      throw TokenizationError(.unsupported(other), path: path)
    }
    do throws(ProtocolBuffer.Damage) {
      try read(bytes[...])
    } catch { throw TokenizationError(.notSentencePiece(byte: error.byte), path: path) }
    guard !pieces.isEmpty else { throw TokenizationError(.noTokens, path: path) }
    guard type == 2 else {
      let name = [1: "Unigram", 3: "word", 4: "character"][type] ?? "\(type)"
      throw TokenizationError(
        .unsupported("is a SentencePiece \(name) model; only BPE is supported"), path: path)
    }
  }

  /// What stands under the name of a SentencePiece file instead, or nil.
  private static func otherContent(_ bytes: [UInt8]) -> String? {
    if let foreign = bytes.withUnsafeBytes({ ForeignContent($0) }) { return foreign.description }
    let parts = (bytes.split(separator: 10, maxSplits: 1).first ?? []).split(separator: 32)
    if parts.count == 2, Base64.decoded(parts[0]) != nil, parts[1].allSatisfy({ (48...57).contains($0) }) {
      return "is a tiktoken vocabulary, which does not say how text is cut; bring the model's tokenizer.json"
    }
    return nil
  }

  private mutating func read(_ bytes: ArraySlice<UInt8>) throws(ProtocolBuffer.Damage) {
    try ProtocolBuffer.forEachField(of: bytes) { (field, value) throws(ProtocolBuffer.Damage) in
      guard case .bytes(let message) = value else { return }
      switch field {
      case 1: pieces.append(try piece(message))
      case 2: try readTraining(message)
      case 3: try readNormalization(message)
      default: break
      }
    }
  }

  private func piece(_ bytes: ArraySlice<UInt8>) throws(ProtocolBuffer.Damage) -> Piece {
    var piece = Piece()
    try ProtocolBuffer.forEachField(of: bytes) { (field, value) throws(ProtocolBuffer.Damage) in
      switch (field, value) {
      case (1, .bytes(let text)):
        guard let text = String(validating: text, as: UTF8.self) else {
          throw ProtocolBuffer.Damage(byte: text.startIndex)
        }
        piece.text = text
      case (2, .word(let bits)): piece.score = Float(bitPattern: bits)
      case (3, .integer(let number)): piece.kind = Kind(rawValue: number) ?? .unused
      default: break
      }
    }
    return piece
  }

  private mutating func readTraining(_ bytes: ArraySlice<UInt8>) throws(ProtocolBuffer.Damage) {
    try ProtocolBuffer.forEachField(of: bytes) { (field, value) throws(ProtocolBuffer.Damage) in
      switch (field, value) {
      case (3, .integer(let number)): type = number
      case (35, .integer(let flag)): fallsBackToBytes = flag != 0
      case (40, .integer(let id)): unknown.id = id
      case (41, .integer(let id)): begin.id = id
      case (42, .integer(let id)): end.id = id
      case (45, .bytes(let text)): unknown.text = String(decoding: text, as: UTF8.self)
      case (46, .bytes(let text)): begin.text = String(decoding: text, as: UTF8.self)
      case (47, .bytes(let text)): end.text = String(decoding: text, as: UTF8.self)
      default: break
      }
    }
  }

  private mutating func readNormalization(_ bytes: ArraySlice<UInt8>) throws(ProtocolBuffer.Damage) {
    try ProtocolBuffer.forEachField(of: bytes) { (field, value) throws(ProtocolBuffer.Damage) in
      switch (field, value) {
      case (2, .bytes(let map)): charactersMap = Array(map)
      case (3, .integer(let flag)): putsSpaceBefore = flag != 0
      case (4, .integer(let flag)): removesExtraSpaces = flag != 0
      case (5, .integer(let flag)): marksSpaces = flag != 0
      default: break
      }
    }
  }
}

/// The fields of a protocol buffer's message.
enum ProtocolBuffer {
  enum Value {
    case integer(Int)
    case bytes(ArraySlice<UInt8>)
    case word(UInt32)
    case doubleWord
  }
  /// Where the bytes stop to be a message.
  struct Damage: Error {
    var byte: Int
  }

  /// Calls `body` with the fields in order; groups, which nobody writes any more, are damage.
  static func forEachField(
    of message: ArraySlice<UInt8>, _ body: (Int, Value) throws(Damage) -> Void
  ) throws(Damage) {
    var rest = message
    func number() throws(Damage) -> UInt64 {
      var value: UInt64 = 0
      for shift in stride(from: UInt64(0), to: 70, by: 7) {
        guard let byte = rest.popFirst() else { throw Damage(byte: rest.startIndex) }
        if shift < 64 { value |= UInt64(byte & 0x7F) << shift }
        if byte < 0x80 { return value }
      }
      throw Damage(byte: rest.startIndex)
    }
    func take(_ count: UInt64) throws(Damage) -> ArraySlice<UInt8> {
      guard count <= UInt64(rest.count) else { throw Damage(byte: rest.startIndex) }
      defer { rest = rest.dropFirst(Int(count)) }
      return rest.prefix(Int(count))
    }
    while !rest.isEmpty {
      let tag = try number()
      let field = Int(truncatingIfNeeded: tag >> 3)
      guard field > 0 else { throw Damage(byte: rest.startIndex) }
      switch tag & 7 {
      case 0: try body(field, .integer(Int(truncatingIfNeeded: try number())))
      case 1:
        _ = try take(8)
        try body(field, .doubleWord)
      case 2: try body(field, .bytes(try take(try number())))
      case 5:
        let word = try take(4).reversed().reduce(UInt32(0)) { $0 << 8 | UInt32($1) }
        try body(field, .word(word))
      default: throw Damage(byte: rest.startIndex)
      }
    }
  }
}
