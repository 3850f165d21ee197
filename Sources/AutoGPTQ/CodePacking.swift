import Compute

/// Packing of 2-, 3-, 4- and 8-bit codes into 32-bit words as AutoGPTQ does: 32 consecutive codes are a little-endian
/// bit stream of `32 * bits` bits, cut into `bits` words (`Formats/autogptq-int4.md`).
package enum CodePacking {
  /// 32 codes → `bits` words, for any width; the definition the faster loops are tested against.
  package static func words(_ codes: [UInt8], bits: Int) -> [UInt32] {
    var words = [UInt32](repeating: 0, count: bits * ((codes.count + 31) / 32))
    for (index, code) in codes.enumerated() {
      for bit in 0..<bits where code >> bit & 1 == 1 {
        let position = index * bits + bit
        words[position / 32] |= 1 << UInt32(position % 32)
      }
    }
    return words
  }

  /// Codes `[rows][columns]` → words `[rows * bits / 32][columns]`, packed along the rows. `rows` is a multiple of 32.
  package static func packRows(
    _ codes: UnsafePointer<UInt8>, rows: Int, columns: Int, bits: Int,
    into words: UnsafeMutablePointer<UInt32>,
    pool: WorkerPool = .shared
  ) {
    precondition(rows % 32 == 0)
    let source = SharedPointer(codes)
    let target = DisjointWrites(words)
    pool.runRanges(rows / 32) { range in
      for block in range {
        let from = source.pointer + block * 32 * columns
        let to = target.pointer + block * bits * columns
        (UnsafeMutableRawPointer(to)).initializeMemory(
          as: UInt8.self, repeating: 0, count: bits * columns * 4)
        for row in 0..<32 {
          let line = from + row * columns
          let position = row * bits
          let low = to + position / 32 * columns
          let shift = UInt32(position % 32)
          for n in 0..<columns { low[n] |= UInt32(line[n]) << shift }
          let fitting = 32 - Int(shift)
          if fitting < bits {
            let high = low + columns
            for n in 0..<columns { high[n] |= UInt32(line[n]) >> UInt32(fitting) }
          }
        }
      }
    }
  }

  /// The inverse of ``packRows(_:rows:columns:bits:into:pool:)``.
  package static func unpackRows(
    _ words: UnsafePointer<UInt32>, rows: Int, columns: Int, bits: Int,
    into codes: UnsafeMutablePointer<UInt8>,
    pool: WorkerPool = .shared
  ) {
    precondition(rows % 32 == 0)
    let source = SharedPointer(words)
    let target = DisjointWrites(codes)
    let mask = UInt32((1 << bits) - 1)
    pool.runRanges(rows / 32) { range in
      for block in range {
        let from = source.pointer + block * bits * columns
        let to = target.pointer + block * 32 * columns
        for row in 0..<32 {
          let line = to + row * columns
          let position = row * bits
          let low = from + position / 32 * columns
          let shift = UInt32(position % 32)
          let fitting = 32 - Int(shift)
          if fitting >= bits {
            for n in 0..<columns { line[n] = UInt8(truncatingIfNeeded: low[n] >> shift & mask) }
          } else {
            let high = low + columns
            for n in 0..<columns {
              line[n] = UInt8(truncatingIfNeeded: (low[n] >> shift | high[n] << UInt32(fitting)) & mask)
            }
          }
        }
      }
    }
  }

  /// Zero points `[groups][columns]` → `[groups][columns * bits / 32]` words, packed along the columns, each field
  /// masked (AutoGPTQ's own packer lets a −1 run over its neighbours).
  package static func packZeros(_ zeros: [UInt8], columns: Int, bits: Int, format: ZeroPointFormat)
    -> [UInt32]
  {
    let perRow = columns * bits / 32
    let groups = columns == 0 ? 0 : zeros.count / columns
    let mask = (1 << bits) - 1
    let bias = format == .v1 ? 1 : 0
    var words = [UInt32](repeating: 0, count: groups * perRow)
    for group in 0..<groups {
      for n in 0..<columns {
        let field = UInt32((Int(zeros[group * columns + n]) - bias) & mask)
        let position = n * bits
        let word = group * perRow + position / 32
        let shift = position % 32
        words[word] |= field << UInt32(shift)
        if shift + bits > 32 { words[word + 1] |= field >> UInt32(32 - shift) }
      }
    }
    return words
  }

  /// The stored fields `[groups][columns]` of packed zero points, as they are.
  package static func zeroFields(_ words: [UInt32], columns: Int, bits: Int) -> [UInt8] {
    let perRow = columns * bits / 32
    let groups = perRow == 0 ? 0 : words.count / perRow
    let mask = UInt32((1 << bits) - 1)
    var fields = [UInt8](repeating: 0, count: groups * columns)
    for group in 0..<groups {
      for n in 0..<columns {
        let position = n * bits
        let word = group * perRow + position / 32
        let shift = position % 32
        var field = words[word] >> UInt32(shift)
        if shift + bits > 32 { field |= words[word + 1] << UInt32(32 - shift) }
        fields[group * columns + n] = UInt8(field & mask)
      }
    }
    return fields
  }
}
