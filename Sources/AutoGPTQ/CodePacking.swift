import Compute
import Tensors

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

  /// The codes of a matrix → words `[inFeatures * bits / 32][outFeatures]`, packed along the channels.
  package static func packRows(
    _ tensor: IntPanelTensor, into words: UnsafeMutablePointer<UInt32>, pool: WorkerPool = .shared
  ) {
    let layout = tensor.layout
    precondition(layout.inFeatures % 32 == 0)
    let target = DisjointWrites(words)
    let stored = (0..<layout.inFeatures).map(layout.place(ofInput:))
    var ofChannels = stored
    for (k, channel) in tensor.channels.enumerated() { ofChannels[channel] = stored[k] }
    let places = ofChannels
    defer { withExtendedLifetime(tensor) {} }
    pool.runRanges(layout.inFeatures / 32) { range in
      for block in range {
        let lines = target.pointer + block * layout.bits * layout.outFeatures
        for panel in 0..<layout.panelCount {
          let first = panel * panelWidth
          packBlock(
            tensor, panel: panel, places[block * 32..<block * 32 + 32], into: lines + first,
            outputs: min(panelWidth, layout.outFeatures - first))
        }
      }
    }
  }

  /// 32 channels of one panel → `bits` lines of words, `outFeatures` words apart.
  private static func packBlock(
    _ tensor: IntPanelTensor, panel: Int, _ places: ArraySlice<IntPanelLayout.Place>,
    into lines: UnsafeMutablePointer<UInt32>, outputs: Int
  ) {
    let bits = tensor.layout.bits
    var line = lines
    var word = SIMD16<UInt32>.zero
    var shift = 0
    for place in places {
      let codes = tensor.codes(panel: panel, at: place)
      word |= codes &<< SIMD16(repeating: UInt32(shift))
      shift += bits
      guard shift >= 32 else { continue }
      if outputs == panelWidth {
        UnsafeMutableRawPointer(line).storeBytes(of: word, as: SIMD16<UInt32>.self)
      } else {
        for r in 0..<outputs { line[r] = word[r] }
      }
      line += tensor.layout.outFeatures
      shift -= 32
      // What did not fit begins the next word.
      word = shift == 0 ? .zero : codes &>> SIMD16(repeating: UInt32(bits - shift))
    }
  }

  /// Words `[rows * bits / 32][columns]` → codes `[rows][columns]`. `rows` is a multiple of 32.
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
