import Foundation

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

  static func encoded(_ bytes: [UInt8]) -> [UInt8] { Array(Data(bytes).base64EncodedData()) }
}
