import Compute
import Tensors

/// GPTQ's integer codes as GGUF blocks and back, and floats as Q8_0 (`Formats/gguf.md`, "Codes").
///
/// A block of 32 inputs takes the scale of the group it lies in, so any group size that is a multiple of 32 is carried; a
/// larger group's scale is repeated.
package enum GGUFCodes {
  /// The types that can hold asymmetric codes: `q4_1` rounds `scale · zero` to half precision once per block, `q5_0` is exact.
  package static let asymmetricTypes: [GGUFTensorType] = [.q4_1, .q5_0]

  /// The type that a matrix's codes go into, or what makes that impossible.
  package enum Carrier: Equatable, Sendable {
    case type(GGUFTensorType)
    case obstacle(String)
  }

  /// - Parameter asymmetric: one of ``asymmetricTypes``.
  package static func carrier(
    bits: Int, groupSize: Int, inFeatures: Int, isSymmetric: Bool, isMonotone: Bool,
    asymmetric: GGUFTensorType
  ) -> Carrier {
    if !isMonotone {
      return .obstacle(
        "has its channels in act-order, which GGUF cannot express; quantize with --static-groups (as good, and every engine reads it) or pass --dequantize"
      )
    }
    if inFeatures % 32 != 0 || groupSize % 32 != 0 {
      return .obstacle("has \(inFeatures) inputs in groups of \(groupSize); GGUF takes multiples of 32")
    }
    switch (bits, isSymmetric) {
    case (2...4, true): return .type(.q4_0)
    case (2...4, false): return .type(asymmetric)
    case (8, true): return .type(.q8_0)
    default:
      return .obstacle("has \(bits)-bit asymmetric codes, for which GGUF has no type; pass --dequantize")
    }
  }

  /// Rows of a quantized matrix as blocks of `type`, `rows.count * type.byteCount(of: inFeatures)` bytes.
  ///
  /// `rows[i]` is the output of the matrix that becomes row i. Codes and scales must fit the type, as ``carrier`` says.
  package static func blocks(
    _ m: QuantizedMatrix, rows: [Int], type: GGUFTensorType, pool: WorkerPool = .shared
  ) -> AlignedBuffer<UInt8> {
    let rowBytes = type.byteCount(of: m.inFeatures)
    let result = AlignedBuffer<UInt8>(count: rows.count * rowBytes)
    let tile = 16
    pool.runRanges((rows.count + tile - 1) / tile) { range in
      // Codes are input-major: sixteen rows at a time make whole cache lines of them useful.
      var codes = [UInt8](repeating: 0, count: tile * m.inFeatures)
      for t in range {
        let members = rows[(t * tile)..<min(rows.count, (t + 1) * tile)]
        for k in 0..<m.inFeatures {
          for (r, row) in members.enumerated() {
            codes[r * m.inFeatures + k] = m.codes[k * m.outFeatures + row]
          }
        }
        for (r, row) in members.enumerated() {
          let to = UnsafeMutableRawPointer(result.pointer + (t * tile + r) * rowBytes)
          for block in 0..<m.inFeatures / 32 {
            let at = block * 32 / m.groupSize * m.outFeatures + row
            codes.withUnsafeBufferPointer {
              put(
                UnsafeBufferPointer(
                  rebasing: $0[(r * m.inFeatures + block * 32)..<(r * m.inFeatures + block * 32 + 32)]),
                scale: m.scales[at], zero: m.zeros[at], type, to + block * type.blockByteCount)
            }
          }
        }
      }
    }
    return result
  }

  private static func put(
    _ codes: UnsafeBufferPointer<UInt8>, scale: UInt16, zero: UInt8, _ type: GGUFTensorType,
    _ to: UnsafeMutableRawPointer
  ) {
    to.storeBytes(of: scale.littleEndian, as: UInt16.self)
    func nibble(_ i: Int, _ offset: Int) -> UInt8 { UInt8(Int(codes[i]) - Int(zero) + offset) }
    switch type {
    case .q4_0:
      // q − 8 is code − zero.
      for i in 0..<16 {
        to.storeBytes(of: nibble(i, 8) | nibble(i + 16, 8) << 4, toByteOffset: 2 + i, as: UInt8.self)
      }
    case .q4_1:
      let minimum = HalfPrecision.bits(of: -HalfPrecision.widened(scale) * Float(zero))
      to.storeBytes(of: minimum.littleEndian, toByteOffset: 2, as: UInt16.self)
      for i in 0..<16 {
        to.storeBytes(of: codes[i] | codes[i + 16] << 4, toByteOffset: 4 + i, as: UInt8.self)
      }
    case .q5_0:
      // q − 16 is code − zero, from −15 to 15.
      var high: UInt32 = 0
      for i in 0..<32 { high |= UInt32(nibble(i, 16) >> 4) << UInt32(i) }
      to.storeBytes(of: high.littleEndian, toByteOffset: 2, as: UInt32.self)
      for i in 0..<16 {
        to.storeBytes(
          of: nibble(i, 16) & 15 | (nibble(i + 16, 16) & 15) << 4, toByteOffset: 6 + i, as: UInt8.self)
      }
    case .q8_0:
      for i in 0..<32 {
        to.storeBytes(of: Int8(Int(codes[i]) - Int(zero)), toByteOffset: 2 + i, as: Int8.self)
      }
    default: preconditionFailure("no codes go into \(type.name)")
    }
  }

  // MARK: Floats as Q8_0

  /// `count` floats, whole blocks of 32, as Q8_0: scale = largest magnitude / 127 in fp32, codes = round(x · (1 / scale))
  /// half away from zero, then the scale rounded to half precision. The bits of the reference implementation.
  /// - Returns: nil when a block's scale does not fit half precision.
  package static func quantizedQ8(
    _ source: UnsafePointer<Float>, count: Int, into target: UnsafeMutableRawPointer
  ) -> Bool {
    for block in 0..<count / 32 {
      let x = source + block * 32
      let to = target + block * 34
      var largest: Float = 0
      for i in 0..<32 { largest = max(largest, abs(x[i])) }
      let scale = largest / 127
      let bits = HalfPrecision.bits(of: scale)
      guard bits & 0x7C00 != 0x7C00 else { return false }
      to.storeBytes(of: bits.littleEndian, as: UInt16.self)
      let inverse = scale == 0 ? 0 : 1 / scale
      for i in 0..<32 {
        let code = (x[i] * inverse).rounded(.toNearestOrAwayFromZero)
        to.storeBytes(of: Int8(max(-128, min(127, code))), toByteOffset: 2 + i, as: Int8.self)
      }
    }
    return true
  }
}
