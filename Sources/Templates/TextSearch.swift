/// Looking into strings.
extension Text {
  /// The offset in bytes of the character at an index from 0 to the number of characters.
  func byteOffset(ofScalar index: Int) -> Int {
    bytes.withUnsafeBufferPointer { buffer in
      var left = index
      for offset in buffer.indices where beginsScalar(buffer[offset]) {
        if left == 0 { return offset }
        left -= 1
      }
      return buffer.count
    }
  }

  /// The offsets in bytes of all characters.
  var scalarOffsets: [Int] { bytes.indices.filter { beginsScalar(bytes[$0]) } }

  /// -1, 0 or 1 in the order of code points, which is the order of UTF-8 bytes.
  func comparison(with other: Text) -> Int {
    for (left, right) in zip(bytes, other.bytes) where left != right { return left < right ? -1 : 1 }
    return byteCount == other.byteCount ? 0 : byteCount < other.byteCount ? -1 : 1
  }

  /// Calls `body` with each character, its bytes and its origin.
  func forEachScalar(_ body: (Unicode.Scalar, Range<Int>, Origin) throws -> Void) rethrows {
    try forEachRun(in: 0..<byteCount) { range, origin in
      var offset = range.lowerBound
      while offset < range.upperBound {
        let (scalar, length) = decodeScalar(bytes, at: offset)
        try body(scalar, offset..<(offset + length), origin)
        offset += length
      }
    }
  }
}

extension Interpreter {
  /// The offset of the first occurrence of `needle` in a range of `bytes`.
  func find(_ needle: [UInt8], in bytes: [UInt8], _ range: Range<Int>) throws -> Int? {
    try search(needle, in: bytes, range, backwards: false)
  }

  /// The offset of the last occurrence of `needle` in a range of `bytes`.
  func findLast(_ needle: [UInt8], in bytes: [UInt8], _ range: Range<Int>) throws -> Int? {
    try search(needle, in: bytes, range, backwards: true)
  }

  /// Compares at every offset, and counts the bytes compared: repetitive texts cost steps, not an eternity.
  private func search(
    _ needle: [UInt8], in bytes: [UInt8], _ range: Range<Int>, backwards: Bool
  ) throws -> Int? {
    guard needle.count <= range.count else { return nil }
    guard let first = needle.first else { return backwards ? range.upperBound : range.lowerBound }
    var compared = 0
    var offset = backwards ? range.upperBound - needle.count : range.lowerBound
    let last = backwards ? range.lowerBound : range.upperBound - needle.count
    while true {
      if bytes[offset] == first {
        var length = 1
        while length < needle.count, bytes[offset + length] == needle[length] { length += 1 }
        compared += length
        if length == needle.count {
          try look(at: compared + abs(offset - (backwards ? range.upperBound : range.lowerBound)))
          return offset
        }
        if compared > 1 << 16 {
          try look(at: compared)
          compared = 0
        }
      }
      if offset == last { break }
      offset += backwards ? -1 : 1
    }
    try look(at: compared + range.count)
    return nil
  }

  /// The offsets of the occurrences of `needle` that do not overlap, at most so many.
  func occurrences(of needle: [UInt8], in bytes: [UInt8], atMost limit: Int = .max) throws -> [Int] {
    var offsets: [Int] = []
    var start = 0
    while offsets.count < limit, let offset = try find(needle, in: bytes, start..<bytes.count) {
      offsets.append(offset)
      start = offset + needle.count
    }
    return offsets
  }
}
