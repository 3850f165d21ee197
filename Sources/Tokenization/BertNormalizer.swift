/// The normalizer of BERT's tokenizers, step by step as it is defined. ``BertCharacterMap`` does the same with a table.
struct BertNormalizer: Hashable, Sendable {
  /// Control characters go, white space becomes spaces.
  var cleansText = true
  /// Spaces around each ideograph.
  var spacesIdeographs = true
  /// Decomposes characters and takes away the marks; nil: as ``lowercases``.
  var stripsAccents: Bool?
  var lowercases = true

  var removesMarks: Bool { stripsAccents ?? lowercases }

  func normalized(_ text: [UInt32]) -> [UInt32] {
    let characters = BertCharacters.shared
    var text = text
    if cleansText {
      text = text.filter { !characters.traits($0).contains(.removed) }.map {
        characters.traits($0).contains(.space) ? 32 : $0
      }
    }
    if spacesIdeographs {
      text = text.flatMap { characters.traits($0).contains(.ideograph) ? [32, $0, 32] : [$0] }
    }
    if removesMarks {
      text = BertNormalizer.inCanonicalOrder(text.flatMap(characters.decomposition)).filter {
        !characters.traits($0).contains(.nonspacing)
      }
    }
    return lowercases ? text.flatMap(characters.lowercase) : text
  }

  /// Sorts every run of combining characters by their classes; those of one class keep their order.
  private static func inCanonicalOrder(_ text: [UInt32]) -> [UInt32] {
    let characters = BertCharacters.shared
    var result = text
    var start = 0
    while start < text.count {
      var end = start
      while end < text.count && characters.combiningClass(text[end]) != 0 { end += 1 }
      if end - start > 1 {
        let order = (start..<end).map { (combiningClass: characters.combiningClass(text[$0]), place: $0) }
          .sorted { ($0.combiningClass, $0.place) < ($1.combiningClass, $1.place) }
        for (place, entry) in zip(start..<end, order) { result[place] = text[entry.place] }
      }
      start = end + 1
    }
    return result
  }

  func normalized(_ text: UnsafeBufferPointer<UInt8>) -> [UInt8] {
    let scalars = String(decoding: text, as: UTF8.self).unicodeScalars.map(\.value)
    var bytes: [UInt8] = []
    bytes.reserveCapacity(text.count)
    for value in normalized(scalars) { bytes.append(scalar: value) }
    return bytes
  }
}

extension [UInt8] {
  /// Appends a character in UTF-8.
  mutating func append(scalar value: UInt32) {
    switch value {
    case ..<0x80: append(UInt8(value))
    case ..<0x800: append(contentsOf: [UInt8(0xC0 | value >> 6), UInt8(0x80 | value & 0x3F)])
    case ..<0x10000:
      append(contentsOf: [
        UInt8(0xE0 | value >> 12), UInt8(0x80 | value >> 6 & 0x3F), UInt8(0x80 | value & 0x3F),
      ])
    default:
      append(contentsOf: [
        UInt8(0xF0 | value >> 18), UInt8(0x80 | value >> 12 & 0x3F), UInt8(0x80 | value >> 6 & 0x3F),
        UInt8(0x80 | value & 0x3F),
      ])
    }
  }
}
