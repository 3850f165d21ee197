import Compute

/// IEEE half precision for single values; arrays go through the kernels' `widen` and `narrow`.
package enum HalfPrecision {
  /// The nearest half, ties to even; overflow gives infinity.
  package static func bits(of value: Float) -> UInt16 {
    var bits: UInt16 = 0
    withUnsafePointer(to: value) { Kernels.scalar.narrow(&bits, from: $0, type: .f16, count: 1) }
    return bits
  }

  package static func value(of bits: UInt16) -> Float {
    var value: Float = 0
    withUnsafePointer(to: bits) { Kernels.scalar.widen(&value, from: $0, type: .f16, count: 1) }
    return value
  }

  /// As ``value(of:)``, without the way through the kernels: for the scale of every block of a matrix.
  @inline(__always)
  package static func widened(_ bits: UInt16) -> Float {
    let sign = UInt32(bits & 0x8000) << 16
    let magnitude = UInt32(bits & 0x7FFF) << 13
    if bits & 0x7C00 == 0x7C00 { return Float(bitPattern: sign | 0x7F80_0000 | magnitude) }
    // Read as a float the exponent is 112 too small; the product is exact, for subnormal halves too.
    return Float(bitPattern: sign | (Float(bitPattern: magnitude) * 0x1p112).bitPattern)
  }
}
