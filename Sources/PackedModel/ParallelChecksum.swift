import Compute
import Files

/// CRC-32 with several threads: pieces are shared among threads and joined.
package enum ParallelChecksum {
  /// - Parameters:
  ///   - bytes: as many as one likes.
  ///   - crc: of what came before.
  package static func crc32(
    _ bytes: UnsafeRawBufferPointer, continuing crc: UInt32 = 0, pool: WorkerPool = .shared
  ) -> UInt32 {
    let share = 1 << 20
    guard bytes.count > share, let base = bytes.baseAddress else {
      return one(bytes, continuing: crc, pool.kernels)
    }
    let source = SharedPointer(bytes: base)
    let count = bytes.count
    let pieces = (count + share - 1) / share
    let results = AlignedBuffer<UInt32>(count: pieces)
    pool.run(pieces) { piece in
      let start = piece * share
      results[piece] = one(
        UnsafeRawBufferPointer(start: source.raw + start, count: min(share, count - start)),
        pool.kernels
      )
    }
    var total = crc
    for piece in 0..<pieces {
      total = Checksum.combined(
        total, results[piece], secondByteCount: min(share, bytes.count - piece * share))
    }
    return total
  }

  /// With the instruction set's own function, or zlib's where it has none.
  private static func one(_ bytes: UnsafeRawBufferPointer, continuing crc: UInt32 = 0, _ kernels: Kernels)
    -> UInt32
  {
    kernels.crc32(bytes, continuing: crc) ?? Checksum.crc32(bytes, continuing: crc)
  }
}
