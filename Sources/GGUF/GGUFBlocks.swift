import Compute
import Tensors

/// Blocks of GGUF tensors as floats (`Formats/gguf.md`, "Blocks"). Every product and sum is rounded to fp32 on its own, in
/// the order of the reference (the `gguf` package's numpy code), so that the bits are the same.
package enum GGUFBlocks {
  /// Dequantizes `count` weights, whole blocks, from `source`, which need not be aligned.
  package static func dequantize(
    _ source: UnsafeRawPointer, type: GGUFTensorType, count: Int, into result: UnsafeMutablePointer<Float>,
    kernels: Kernels
  ) {
    if let dtype = type.dtype {
      kernels.widen(result, from: source, type: dtype.kernelType, count: count)
      return
    }
    for block in 0..<count / type.blockSize {
      let from = source + block * type.blockByteCount
      let to = result + block * type.blockSize
      switch type {
      case .q4_0: nibbles(from + 2, scale: half(from), zero: 8, into: to)
      case .q4_1: nibbles(from + 4, scale: half(from), minimum: half(from + 2), into: to)
      case .q5_0: fives(from + 2, scale: half(from), zero: 16, into: to)
      case .q5_1: fives(from + 4, scale: half(from), minimum: half(from + 2), into: to)
      case .q8_0: bytes(from + 2, scale: half(from), into: to)
      case .q4_K: q4K(from, into: to)
      case .q5_K: q5K(from, into: to)
      case .q6_K: q6K(from, into: to)
      case .f32, .f16, .bf16: preconditionFailure("floats have no blocks")
      }
    }
  }

  @inline(__always)
  private static func half(_ source: UnsafeRawPointer) -> Float {
    HalfPrecision.widened(UInt16(littleEndian: source.loadUnaligned(as: UInt16.self)))
  }

  @inline(__always)
  private static func byte(_ source: UnsafeRawPointer, _ index: Int) -> UInt8 {
    source.load(fromByteOffset: index, as: UInt8.self)
  }

  // MARK: Blocks of 32. The low four bits of byte i are weight i, the high four weight i + 16.

  /// scale · (q − zero)
  private static func nibbles(
    _ q: UnsafeRawPointer, scale: Float, zero: Int32, into to: UnsafeMutablePointer<Float>
  ) {
    for i in 0..<16 {
      to[i] = scale * Float(Int32(byte(q, i) & 15) - zero)
      to[i + 16] = scale * Float(Int32(byte(q, i) >> 4) - zero)
    }
  }

  /// scale · q + minimum
  private static func nibbles(
    _ q: UnsafeRawPointer, scale: Float, minimum: Float, into to: UnsafeMutablePointer<Float>
  ) {
    for i in 0..<16 {
      to[i] = scale * Float(byte(q, i) & 15) + minimum
      to[i + 16] = scale * Float(byte(q, i) >> 4) + minimum
    }
  }

  /// Four bytes of fifth bits, weight i in bit i, then as ``nibbles``.
  @inline(__always)
  private static func fiveBits(_ q: UnsafeRawPointer, _ i: Int) -> Int32 {
    let high = UInt32(littleEndian: q.loadUnaligned(as: UInt32.self))
    let low = i < 16 ? byte(q, 4 + i) & 15 : byte(q, 4 + i - 16) >> 4
    return Int32(low) | Int32(high >> UInt32(i) & 1) << 4
  }

  private static func fives(
    _ q: UnsafeRawPointer, scale: Float, zero: Int32, into to: UnsafeMutablePointer<Float>
  ) {
    for i in 0..<32 { to[i] = scale * Float(fiveBits(q, i) - zero) }
  }

  private static func fives(
    _ q: UnsafeRawPointer, scale: Float, minimum: Float, into to: UnsafeMutablePointer<Float>
  ) {
    for i in 0..<32 { to[i] = scale * Float(fiveBits(q, i)) + minimum }
  }

  private static func bytes(_ q: UnsafeRawPointer, scale: Float, into to: UnsafeMutablePointer<Float>) {
    for i in 0..<32 { to[i] = Float(Int8(bitPattern: byte(q, i))) * scale }
  }

  // MARK: Blocks of 256

  /// Scale and minimum, six bits each, of part `j` of eight, from twelve bytes: parts 0 to 3 have theirs in the low six bits
  /// of bytes j and j + 4, the others in four bits of byte j + 4 and the two top bits of bytes j − 4 and j.
  @inline(__always)
  private static func sixBits(_ s: UnsafeRawPointer, _ j: Int) -> (scale: Float, minimum: Float) {
    guard j >= 4 else { return (Float(byte(s, j) & 63), Float(byte(s, j + 4) & 63)) }
    let scale = byte(s, j + 4) & 15 | byte(s, j - 4) >> 2 & 0x30
    let minimum = byte(s, j + 4) >> 4 | byte(s, j) >> 2 & 0x30
    return (Float(scale), Float(minimum))
  }

  /// Eight parts of 32; parts 2 i and 2 i + 1 are the low and high nibbles of the same 32 bytes.
  private static func q4K(_ from: UnsafeRawPointer, into to: UnsafeMutablePointer<Float>) {
    let (d, dmin) = (half(from), half(from + 2))
    for j in 0..<8 {
      let (scale, minimum) = sixBits(from + 4, j)
      let (a, b) = (d * scale, dmin * minimum)
      let q = from + 16 + j / 2 * 32
      for i in 0..<32 {
        let code = j % 2 == 0 ? byte(q, i) & 15 : byte(q, i) >> 4
        to[j * 32 + i] = a * Float(code) - b
      }
    }
  }

  /// As ``q4K``, with a fifth bit: of part j in bit j of 32 bytes.
  private static func q5K(_ from: UnsafeRawPointer, into to: UnsafeMutablePointer<Float>) {
    let (d, dmin) = (half(from), half(from + 2))
    for j in 0..<8 {
      let (scale, minimum) = sixBits(from + 4, j)
      let (a, b) = (d * scale, dmin * minimum)
      let q = from + 48 + j / 2 * 32
      for i in 0..<32 {
        let low = j % 2 == 0 ? byte(q, i) & 15 : byte(q, i) >> 4
        let code = low | (byte(from + 16, i) >> UInt8(j) & 1) << 4
        to[j * 32 + i] = a * Float(code) - b
      }
    }
  }

  /// Sixteen parts of 16 with a signed scale each. Of every 128 weights, 64 bytes hold four low bits (weights 0 to 63 in the
  /// low nibbles), 32 bytes two high bits, weights 32 apart in ascending bits.
  private static func q6K(_ from: UnsafeRawPointer, into to: UnsafeMutablePointer<Float>) {
    let d = half(from + 208)
    for i in 0..<256 {
      let (group, place) = (i / 128, i % 128)
      let four = byte(from, group * 64 + place % 64) >> UInt8(place / 64 * 4) & 15
      let two = byte(from + 128, group * 32 + place % 32) >> UInt8(place / 32 * 2) & 3
      let scale = d * Float(Int8(bitPattern: byte(from + 192, i / 16)))
      to[i] = scale * Float(Int32(four | two << 4) - 32)
    }
  }
}
