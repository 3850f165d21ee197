/// GPT-2's printable stand-ins for bytes, in which `tokenizer.json` spells its vocabulary.
enum ByteLevelAlphabet {
  /// The character that stands for each byte.
  static let characters: [Unicode.Scalar] = {
    let kept = Array(33...126) + Array(161...172) + Array(174...255)
    var table = [Unicode.Scalar](repeating: " ", count: 256)
    for byte in kept { table[byte] = Unicode.Scalar(UInt8(byte)) }
    var next: UInt32 = 256
    for byte in 0..<256 where !kept.contains(byte) {
      table[byte] = Unicode.Scalar(next) ?? " "
      next += 1
    }
    return table
  }()

  private static let bytes: [UInt32: UInt8] = Dictionary(
    uniqueKeysWithValues: characters.enumerated().map { ($0.element.value, UInt8($0.offset)) })

  /// Bytes as a vocabulary entry spells them.
  static func encoded(_ bytes: [UInt8]) -> String {
    var text = String.UnicodeScalarView()
    for byte in bytes { text.append(characters[Int(byte)]) }
    return String(text)
  }

  /// The bytes a vocabulary entry stands for, or nil when it has other characters.
  static func decoded(_ text: String) -> [UInt8]? {
    var result: [UInt8] = []
    for scalar in text.unicodeScalars {
      guard let byte = bytes[scalar.value] else { return nil }
      result.append(byte)
    }
    return result
  }
}
