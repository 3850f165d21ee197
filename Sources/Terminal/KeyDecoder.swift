/// Bytes of a terminal → keys, whatever the pieces they arrive in. Sequences it does not know are swallowed whole.
package struct KeyDecoder: Sendable {
  private var pending: [UInt8] = []
  /// Bytes of a bracketed paste so far; nil outside of one.
  private var paste: [UInt8]?

  /// Longest control sequence waited for; what is longer is not one.
  private static let longestSequence = 32
  private static let escape: UInt8 = 0x1B
  private static let endOfPaste = Array("\u{1B}[201~".utf8)

  package init() {}

  /// Part of a character or of a sequence has arrived: more should follow at once.
  package var isWaiting: Bool { !pending.isEmpty && paste == nil }

  package mutating func feed(_ bytes: [UInt8]) -> [Key] {
    // A paste whose end never arrives must not swallow the keyboard: Ctrl-C by itself gives up on it.
    if paste != nil && bytes == [3] { paste = nil }
    pending += bytes
    var keys: [Key] = []
    var position = 0
    while position < pending.count {
      if paste != nil {
        guard let (key, next) = takePaste(from: position) else {
          position = pending.count
          break
        }
        KeyDecoder.append(key, to: &keys)
        position = next
        continue
      }
      guard let (key, length) = decode(pending[position...]) else { break }
      if let key { KeyDecoder.append(key, to: &keys) }
      position += length
    }
    pending.removeFirst(position)
    return keys
  }

  /// Nothing followed: what is pending was a lone Esc or a broken sequence, and goes.
  package mutating func giveUp() { if isWaiting { pending = [] } }

  /// Characters typed or arriving together are one key, so that they are drawn once.
  private static func append(_ key: Key, to keys: inout [Key]) {
    if case .text(let more) = key, case .text(let text)? = keys.last {
      keys[keys.count - 1] = .text(text + more)
    } else {
      keys.append(key)
    }
  }

  /// Moves bytes into the paste up to its end mark.
  /// - Returns: the paste and where reading goes on; nil when the end has not arrived.
  private mutating func takePaste(from position: Int) -> (Key, Int)? {
    let end = KeyDecoder.endOfPaste
    let before = paste?.count ?? 0
    paste?.append(contentsOf: pending[position...])
    guard let all = paste else { return nil }
    // The mark may have begun in an earlier piece.
    var start = max(0, before - end.count + 1)
    while start + end.count <= all.count {
      if all[start] == end[0] && all[start..<start + end.count].elementsEqual(end) {
        paste = nil
        let text = String(decoding: all[..<start], as: UTF8.self)
        return (.paste(PrintableText.pasted(text)), position + start + end.count - before)
      }
      start += 1
    }
    return nil
  }

  /// The first key of `bytes`.
  /// - Returns: the key, nil when the bytes mean nothing here, and how many bytes they are; nil when more are needed.
  private mutating func decode(_ bytes: ArraySlice<UInt8>) -> (Key?, Int)? {
    let first = bytes[bytes.startIndex]
    switch first {
    case 0x0D, 0x0A: return (.enter, 1)
    case 0x08, 0x7F: return (.backspace, 1)
    case KeyDecoder.escape: return decodeEscape(Array(bytes.prefix(KeyDecoder.longestSequence)))
    case 0..<0x20: return (.control(Character(Unicode.Scalar(first | 0x40)).lowercased), 1)
    case 0x20..<0x7F: return (.text(String(Unicode.Scalar(first))), 1)
    default: return KeyDecoder.decodeUTF8(bytes)
    }
  }

  private static func decodeUTF8(_ bytes: ArraySlice<UInt8>) -> (Key?, Int)? {
    let first = bytes[bytes.startIndex]
    let length = first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : first >= 0xC2 ? 2 : 1
    let found = bytes.prefix(length)
    // A byte that cannot be part of a character is dropped alone.
    guard length > 1, first < 0xF5, found.dropFirst().allSatisfy({ $0 & 0xC0 == 0x80 }) else {
      return (nil, 1)
    }
    guard found.count == length else { return nil }
    guard let text = String(validating: found, as: UTF8.self),
      text.unicodeScalars.allSatisfy({ $0.properties.generalCategory != .control })
    else { return (nil, length) }
    return (.text(text), length)
  }

  private mutating func decodeEscape(_ bytes: [UInt8]) -> (Key?, Int)? {
    guard bytes.count >= 2 else { return nil }
    switch bytes[1] {
    case KeyDecoder.escape: return (nil, 1)
    case UInt8(ascii: "["): return decodeControlSequence(bytes)
    case UInt8(ascii: "O"):
      guard bytes.count >= 3 else { return nil }
      return (KeyDecoder.cursorKey(final: bytes[2], hasModifier: false), 3)
    case 0x0D, 0x0A: return (.newline, 2)
    case 0x08, 0x7F: return (.altBackspace, 2)
    case 0x20..<0x7F: return (.alt(Character(Unicode.Scalar(bytes[1]))), 2)
    default: return (nil, 1)
    }
  }

  /// `ESC [ parameters intermediates final` (ECMA-48, 5.4).
  private mutating func decodeControlSequence(_ bytes: [UInt8]) -> (Key?, Int)? {
    var end = 2
    // The Linux console's function keys: ESC [ [ letter.
    if bytes.count > 2 && bytes[2] == UInt8(ascii: "[") { return bytes.count > 3 ? (nil, 4) : nil }
    while end < bytes.count, (0x20..<0x40).contains(bytes[end]) { end += 1 }
    guard end < bytes.count else { return bytes.count < KeyDecoder.longestSequence ? nil : (nil, 2) }
    let length = end + 1
    guard (0x40..<0x7F).contains(bytes[end]) else { return (nil, end) }
    let parameters = String(decoding: bytes[2..<end], as: UTF8.self).split(
      separator: ";", omittingEmptySubsequences: false
    ).map { Int($0) ?? 0 }
    let hasModifier = parameters.count > 1 && parameters[1] > 1
    switch bytes[end] {
    case UInt8(ascii: "~"):
      if parameters.first == 200 {
        paste = []
        return (nil, length)
      }
      return (KeyDecoder.numberedKey(parameters.first ?? 0), length)
    // Terminals that report modifiers: Shift-Enter and Alt-Enter.
    case UInt8(ascii: "u"): return (parameters.first == 13 ? .newline : nil, length)
    case let final: return (KeyDecoder.cursorKey(final: final, hasModifier: hasModifier), length)
    }
  }

  private static func numberedKey(_ number: Int) -> Key? {
    switch number {
    case 1, 7: .home
    case 3: .delete
    case 4, 8: .end
    default: nil
    }
  }

  private static func cursorKey(final: UInt8, hasModifier: Bool) -> Key? {
    switch final {
    case UInt8(ascii: "A"): .up
    case UInt8(ascii: "B"): .down
    case UInt8(ascii: "C"): hasModifier ? .wordRight : .right
    case UInt8(ascii: "D"): hasModifier ? .wordLeft : .left
    case UInt8(ascii: "H"): .home
    case UInt8(ascii: "F"): .end
    // The keypad's Enter.
    case UInt8(ascii: "M"): .enter
    default: nil
    }
  }
}

extension Character {
  fileprivate var lowercased: Character { Character(lowercased()) }
}
