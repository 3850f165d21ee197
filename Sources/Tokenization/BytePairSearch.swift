extension UnsafeBufferPointer<UInt8> {
  /// The first place at or after `index` where `first` stands before `second`; `count` when there is none. Sixteen places
  /// at a time: what is searched for is rare.
  func firstIndex(of first: UInt8, before second: UInt8, from index: Int) -> Int {
    guard let base = baseAddress, count > 1 else { return count }
    let bytes = UnsafeRawPointer(base)
    let (a, b) = (SIMD16<UInt8>(repeating: first), SIMD16<UInt8>(repeating: second))
    var i = index
    while i + 17 <= count {
      let here = bytes.loadUnaligned(fromByteOffset: i, as: SIMD16<UInt8>.self)
      let next = bytes.loadUnaligned(fromByteOffset: i + 1, as: SIMD16<UInt8>.self)
      let found = (here .== a) .& (next .== b)
      // Ones in the byte of every place where both agree.
      let halves = unsafeBitCast(found, to: SIMD2<UInt64>.self)
      if halves.x | halves.y != 0 { break }
      i += 16
    }
    while i + 1 < count {
      if base[i] == first && base[i + 1] == second { return i }
      i += 1
    }
    return count
  }
}
