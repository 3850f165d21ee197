/// Turns ids into text as they come, never emitting part of a character: the bytes of an unfinished character are held
/// back until it is complete or cannot become one.
package struct StreamingDetokenizer: Sendable {
  private let tokenizer: any Tokenizer
  private let skippingSpecials: Bool
  private var pending: [UInt8] = []

  package init(_ tokenizer: any Tokenizer, skippingSpecials: Bool = true) {
    self.tokenizer = tokenizer
    self.skippingSpecials = skippingSpecials
  }

  /// The text that `id` completes; empty when it completes none.
  package mutating func push(_ id: Int) throws -> String {
    guard let bytes = try tokenizer.bytes(of: id, skippingSpecials: skippingSpecials) else { return "" }
    pending += bytes
    let ready = pending.count - StreamingDetokenizer.unfinishedTail(of: pending)
    defer { pending.removeFirst(ready) }
    return String(decoding: pending[..<ready], as: UTF8.self)
  }

  /// What was held back, now that nothing follows: replacement characters for what never became a character.
  package mutating func finish() -> String {
    defer { pending = [] }
    return String(decoding: pending, as: UTF8.self)
  }

  /// How many bytes at the end are the start of a character that more bytes could complete.
  package static func unfinishedTail(of bytes: [UInt8]) -> Int {
    let limit = min(3, bytes.count)
    for length in stride(from: 1, through: limit, by: 1) {
      let start = bytes.count - length
      let lead = bytes[start]
      if lead & 0xC0 == 0x80 { continue }
      let needed =
        lead >= 0xF0 && lead <= 0xF4
        ? 4 : lead >= 0xE0 && lead < 0xF0 ? 3 : lead >= 0xC2 && lead < 0xE0 ? 2 : 1
      guard needed > length else { return 0 }
      if length >= 2 {
        // The second byte has narrower bounds after some leads; outside them the character is already broken.
        let second = bytes[start + 1]
        let low: UInt8 = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80
        let high: UInt8 = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF
        guard second >= low && second <= high else { return 0 }
      }
      return length
    }
    return 0
  }
}
