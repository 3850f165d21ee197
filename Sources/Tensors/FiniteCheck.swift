import Compute

/// Finds NaN and infinity among stored floats.
package enum FiniteCheck {
  /// Index of the first element whose exponent is all ones; nil for integers.
  package static func firstNotFinite(
    _ bytes: UnsafeRawBufferPointer, dtype: DType, pool: WorkerPool = .shared
  ) -> Int? {
    guard let base = bytes.baseAddress else { return nil }
    switch dtype {
    case .bf16: return first(base, bytes.count / 2, UInt16(0x7F80), pool)
    case .f16: return first(base, bytes.count / 2, UInt16(0x7C00), pool)
    case .f32: return first(base, bytes.count / 4, UInt32(0x7F80_0000), pool)
    case .f64: return first(base, bytes.count / 8, UInt64(0x7FF0_0000_0000_0000), pool)
    default: return nil
    }
  }

  /// A value is not finite when the bits of `mask` are all set: when `~value & mask` is zero. Whether some lane of eight
  /// bytes is zero takes four operations on the whole word.
  private static func first<Word: FixedWidthInteger & Sendable & BitwiseCopyable>(
    _ base: UnsafeRawPointer, _ count: Int, _ mask: Word, _ pool: WorkerPool
  ) -> Int? {
    let size = MemoryLayout<Word>.size
    let share = 1 << 18
    let pieces = (count + share - 1) / share
    let found = AlignedBuffer<Int>(count: pieces)
    let source = SharedPointer(bytes: base)
    let lanes = stride(from: 0, to: 64, by: size * 8)
    let masks = lanes.reduce(UInt64(0)) { $0 | UInt64(mask) << UInt64($1) }
    let ones = lanes.reduce(UInt64(0)) { $0 | 1 << UInt64($1) }
    let tops = ones << UInt64(size * 8 - 1)
    pool.run(pieces) { piece in
      found[piece] = -1
      let end = min(count, (piece + 1) * share)
      for start in stride(from: piece * share, to: end, by: 1024) {
        let stop = min(end, start + 1024)
        let words = (stop - start) * size / 8
        let line = source.raw + start * size
        var hits: UInt64 = 0
        for i in 0..<words {
          let inverted = ~line.loadUnaligned(fromByteOffset: i &* 8, as: UInt64.self) & masks
          hits |= (inverted &- ones) & ~inverted & tops
        }
        guard hits != 0 || words * 8 < (stop - start) * size else { continue }
        for i in start..<stop
        where source.raw.loadUnaligned(fromByteOffset: i * size, as: Word.self) & mask == mask {
          found[piece] = i
          return
        }
      }
    }
    return found.buffer.first { $0 >= 0 }
  }
}
