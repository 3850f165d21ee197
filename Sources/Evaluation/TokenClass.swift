import Files
import Tokenization

/// What kind of text a token stands for.
package enum TokenClass: String, CaseIterable, Sendable {
  /// Latin letters after white space, punctuation or text of another script.
  case latinWordStart = "latin_word_start"
  /// Latin letters that go on after a letter or a digit.
  case latinContinuation = "latin_continuation"
  case ideographs = "cjk_ideographs"
  case digits = "digits"
  case punctuation = "punctuation_and_symbols"
  case whitespace = "white_space"
  case special = "special"
  /// Bytes that are a character only together with those of other tokens.
  case partialCharacter = "part_of_a_character"
  /// Letters of other scripts, control characters, ids that no token has.
  case other = "other"
}

/// The classes of tokens and their texts for people to read.
package struct TokenTexts {
  private let tokenizer: any Tokenizer
  private let specials: Set<Int>
  private var kinds: [Int: Kind] = [:]

  package init(_ tokenizer: any Tokenizer) {
    self.tokenizer = tokenizer
    specials = Set(tokenizer.specialTokens.values)
  }

  /// - Parameter previous: the token before it, which says where a word begins; nil at the start of a text.
  package mutating func tokenClass(of id: Int, after previous: Int?) -> TokenClass {
    let kind = kind(of: id)
    guard kind.isLatinWithoutStart else { return kind.tokenClass }
    return previous.map { self.kind(of: $0).leavesWordOpen } ?? false ? .latinContinuation : .latinWordStart
  }

  private mutating func kind(of id: Int) -> Kind {
    if let known = kinds[id] { return known }
    let kind = specials.contains(id) ? Kind(.special) : bytes(of: id).map(Kind.init(of:)) ?? Kind(.other)
    kinds[id] = kind
    return kind
  }

  /// nil for an id that no token has.
  private func bytes(of id: Int) -> [UInt8]? {
    guard id >= 0 && id < tokenizer.tokenCount else { return nil }
    // An id below the number of tokens is never refused.
    return (try? tokenizer.bytes(of: id, skippingSpecials: false)) ?? nil
  }

  // MARK: Texts

  private static let longestToken = 40
  private static let longestContext = 72

  /// The token's text with visible control characters, cut after 40 characters; nil for an id that no token has.
  package func text(of id: Int) -> String? {
    guard let bytes = bytes(of: id) else { return nil }
    let pieces = VisibleText.pieces(bytes.prefix(8 * TokenTexts.longestToken))
    return pieces.count <= TokenTexts.longestToken
      ? pieces.joined() : pieces.prefix(TokenTexts.longestToken).joined() + "…"
  }

  /// The text of consecutive tokens with visible control characters; only the last 72 characters of a longer one.
  package func text(of ids: some Sequence<Int>) -> String {
    let bytes = ids.flatMap { self.bytes(of: $0) ?? Array("<id \($0)>".utf8) }
    let pieces = VisibleText.pieces(bytes.suffix(8 * TokenTexts.longestContext))
    return pieces.count <= TokenTexts.longestContext
      ? pieces.joined() : "…" + pieces.suffix(TokenTexts.longestContext).joined()
  }
}

/// What the bytes of one token alone say about its class.
private struct Kind {
  let tokenClass: TokenClass
  /// The token before decides whether a word begins.
  var isLatinWithoutStart = false
  /// Latin letters that follow belong to the same word.
  var leavesWordOpen = false

  init(_ tokenClass: TokenClass) { self.tokenClass = tokenClass }

  /// The first letter or digit decides; without any, punctuation, and without that white space.
  init(of bytes: [UInt8]) {
    var decided: TokenClass?
    var (sawPunctuation, sawApostrophe, sawSpace, sawOther) = (false, false, false, false)
    var (isLatin, isOpen) = (false, false)
    var parser = Unicode.UTF8.ForwardParser()
    var iterator = bytes.makeIterator()
    scanning: while true {
      switch parser.parseScalar(from: &iterator) {
      case .emptyInput: break scanning
      case .error:
        decided = decided ?? .partialCharacter
        // The second part of é does not end a word.
        isOpen = true
      case .valid(let encoded):
        let scalar = Unicode.UTF8.decode(encoded)
        let character = TextCharacter(scalar)
        isOpen = character == .latin || character == .digit || (isOpen && character == .mark)
        guard decided == nil else { continue }
        switch character {
        case .latin:
          decided = .latinWordStart
          isLatin = !sawSpace && !sawPunctuation
        case .ideograph: decided = .ideographs
        case .digit: decided = .digits
        case .otherLetter: decided = .other
        case .space: sawSpace = true
        case .punctuation: sawPunctuation = true
        // "'s" goes on with the word before it.
        case .apostrophe: sawApostrophe = true
        case .mark, .other: sawOther = true
        }
      }
    }
    let rest: TokenClass =
      sawPunctuation || sawApostrophe ? .punctuation : sawSpace && !sawOther ? .whitespace : .other
    tokenClass = decided ?? rest
    isLatinWithoutStart = isLatin
    leavesWordOpen = isOpen
  }
}

/// What a character is for a ``TokenClass``.
private enum TextCharacter {
  case latin, ideograph, otherLetter, digit, mark, punctuation, apostrophe, space, other

  init(_ scalar: Unicode.Scalar) {
    if scalar == "'" || scalar == "\u{2019}" {
      self = .apostrophe
      return
    }
    if TextCharacter.isIdeograph(scalar) {
      self = .ideograph
      return
    }
    switch scalar.properties.generalCategory {
    case .uppercaseLetter, .lowercaseLetter, .titlecaseLetter, .modifierLetter, .otherLetter:
      self = TextCharacter.isLatin(scalar) ? .latin : .otherLetter
    case .decimalNumber, .letterNumber, .otherNumber: self = .digit
    case .nonspacingMark, .spacingMark, .enclosingMark: self = .mark
    case .connectorPunctuation, .dashPunctuation, .openPunctuation, .closePunctuation, .initialPunctuation,
      .finalPunctuation, .otherPunctuation, .mathSymbol, .currencySymbol, .modifierSymbol, .otherSymbol:
      self = .punctuation
    default: self = scalar.properties.isWhitespace ? .space : .other
    }
  }

  private static func isIdeograph(_ scalar: Unicode.Scalar) -> Bool {
    // Those of the compatibility block, and 々 〆 〇.
    scalar.properties.isUnifiedIdeograph || 0xF900...0xFAFF ~= scalar.value
      || 0x2F800...0x2FA1F ~= scalar.value || 0x3005...0x3007 ~= scalar.value
  }

  /// Blocks of Latin letters, with those of full width.
  private static let latinBlocks: [ClosedRange<UInt32>] = [
    0x41...0x5A, 0x61...0x7A, 0xAA...0xAA, 0xBA...0xBA, 0xC0...0x2AF, 0x1E00...0x1EFF, 0x2C60...0x2C7F,
    0xA720...0xA7FF, 0xAB30...0xAB6F, 0xFB00...0xFB06, 0xFF21...0xFF3A, 0xFF41...0xFF5A,
  ]

  private static func isLatin(_ scalar: Unicode.Scalar) -> Bool {
    latinBlocks.contains { $0.contains(scalar.value) }
  }
}

/// Bytes of tokens as text in which everything can be seen and nothing gives commands to a terminal.
enum VisibleText {
  /// One piece for each character: ␊ for a line feed and alike, `<U+202E>` for what has no picture, `<E4>` for a byte that is not UTF-8.
  static func pieces(_ bytes: some Sequence<UInt8>) -> [String] {
    var pieces: [String] = []
    var parser = Unicode.UTF8.ForwardParser()
    let bytes = Array(bytes)
    var iterator = bytes.makeIterator()
    var place = 0
    while true {
      switch parser.parseScalar(from: &iterator) {
      case .emptyInput: return pieces
      case .error(let length):
        pieces += bytes[place..<place + length].map { "<\(hexadecimal(UInt32($0), digits: 2))>" }
        place += length
      case .valid(let encoded):
        pieces.append(text(of: Unicode.UTF8.decode(encoded)))
        place += encoded.count
      }
    }
  }

  private static func text(of scalar: Unicode.Scalar) -> String {
    switch scalar.value {
    case 0..<0x20: return Unicode.Scalar(0x2400 + scalar.value).map { String($0) } ?? ""
    case 0x7F: return "\u{2421}"
    // They join the parts of emoji and letters.
    case 0x200C, 0x200D: return String(scalar)
    default: break
    }
    switch scalar.properties.generalCategory {
    case .control, .format, .lineSeparator, .paragraphSeparator, .privateUse, .unassigned, .surrogate:
      return "<U+\(hexadecimal(scalar.value, digits: 4))>"
    default: return String(scalar)
    }
  }

  private static func hexadecimal(_ value: UInt32, digits: Int) -> String {
    let text = String(value, radix: 16, uppercase: true)
    return String(repeating: "0", count: max(0, digits - text.utf8.count)) + text
  }
}
