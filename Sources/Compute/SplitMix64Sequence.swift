/// SplitMix64 (Steele, Lea and Flood 2014): a sequence that is the same on every machine and in every version.
@usableFromInline package struct SplitMix64Sequence {
  private var state: UInt64

  package init(seed: UInt64) { state = seed }

  /// The sequence after its first `count` numbers.
  package init(seed: UInt64, skipping count: Int) {
    state = seed &+ UInt64(truncatingIfNeeded: count) &* 0x9E37_79B9_7F4A_7C15
  }

  package mutating func next() -> UInt64 {
    defer { state &+= 0x9E37_79B9_7F4A_7C15 }
    return SplitMix64Sequence.mixed(state)
  }

  /// The number that follows the state `state`: for numbers that are found by their place instead of one after the other.
  @inlinable package static func mixed(_ state: UInt64) -> UInt64 {
    var z = state &+ 0x9E37_79B9_7F4A_7C15
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    return z ^ (z >> 31)
  }

  /// The next number in [0, 1), a multiple of 2⁻⁵³.
  package mutating func nextUnit() -> Double { Double(next() >> 11) * 0x1p-53 }

  /// A whole number from 0 to `bound` − 1. A count of items is so much smaller than 2⁶⁴ that none is likelier than another to any
  /// purpose.
  package mutating func index(below bound: Int) -> Int {
    Int(truncatingIfNeeded: next().multipliedFullWidth(by: UInt64(bound)).high)
  }
}
