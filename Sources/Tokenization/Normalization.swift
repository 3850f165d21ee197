import Foundation

/// What happens to text before it is cut into pieces.
enum Normalization: Equatable, Sendable {
  case nfc
  case replace(ByteReplacement)
  /// A replacement at the start of the text only.
  case replaceAtStart(ByteReplacement)
  /// Put before every text that is not empty.
  case prepend([UInt8])
  /// Spaces at both ends are taken away.
  case trimSpaces
  /// Several spaces in a row become one.
  case mergeSpaces
}

extension [Normalization] {
  /// All of them, one after the other, to valid UTF-8.
  func apply(_ text: [UInt8]) -> [UInt8] {
    reduce(text) { text, step in
      switch step {
      case .replace(let replacement): return replacement.apply(text)
      case .replaceAtStart(let replacement):
        guard text.starts(with: replacement.pattern) else { return text }
        return replacement.content + text.dropFirst(replacement.pattern.count)
      case .prepend(let prefix): return text.isEmpty ? text : prefix + text
      case .trimSpaces:
        let start = text.firstIndex { $0 != 32 } ?? text.endIndex
        let end = text.lastIndex { $0 != 32 }.map { $0 + 1 } ?? start
        return [UInt8](text[start..<end])
      case .mergeSpaces:
        var result: [UInt8] = []
        result.reserveCapacity(text.count)
        for byte in text where byte != 32 || result.last != 32 { result.append(byte) }
        return result
      case .nfc where text.contains { $0 >= 0x80 }:
        return [UInt8](String(decoding: text, as: UTF8.self).precomposedStringWithCanonicalMapping.utf8)
      case .nfc: return text
      }
    }
  }
}
