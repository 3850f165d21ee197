import Compute
import Tensors
import TestSupport
import Testing

@Suite struct IntPanelTests {
  @Test(arguments: [2, 3, 4, 8], [(true, false), (false, false), (false, true), (true, true)])
  func packingIsLossless(bits: Int, kind: (symmetric: Bool, permuted: Bool)) {
    // Outputs that do not fill the last panel; a last group that is short.
    for (out, inputs, group) in [(48, 128, 32), (40, 160, 64), (16, 96, 96)] {
      let m = randomMatrix(
        bits: bits, symmetric: kind.symmetric, permuted: kind.permuted, out: out, inputs: inputs, group: group
      )
      let packed = IntPanelTensor(packing: m)
      #expect(packed.layout == IntPanelLayout(m))
      #expect(packed.unpacked() == m)
    }
  }

  @Test func theDocumentedByteHoldsTheDocumentedCode() {
    let m = randomMatrix(bits: 4, symmetric: true, permuted: false, out: 32, inputs: 64, group: 32)
    let packed = IntPanelTensor(packing: m)
    // Output 21, input 13: panel 1, block 13 / 8 = 1, input 5 of the block: field 1, byte (21 - 16) * 4 + 1.
    let offset: Int = 64 * 8 + 64 + 5 * 4 + 1
    let byte = withExtendedLifetime(packed) { packed.bytes[offset] }
    #expect(byte >> 4 == m.codes[13 * 32 + 21])
  }

  @Test func productsUseTheValuesThatTheCodesStandFor() {
    for (bits, symmetric, permuted) in [
      (4, true, false), (4, false, true), (3, true, true), (8, false, false),
    ] {
      let m = randomMatrix(
        bits: bits, symmetric: symmetric, permuted: permuted, out: 40, inputs: 96, group: 32)
      let floats = WeightMatrix.intPanels(IntPanels.inMemory(m)).rowMajorFloats()
      for n in 0..<40 {
        for k in 0..<96 {
          let g = Int(m.groupIndex[k]) * 40 + n
          let expected =
            HalfPrecision.value(of: m.scales[g]) * Float(Int(m.codes[k * 40 + n]) - Int(m.zeros[g]))
          #expect(floats[n * 96 + k] == expected)
        }
      }
    }
  }
}

@Suite struct FloatPanelTests {
  @Test(arguments: [DType.bf16, .f32], [(48, 64), (37, 33), (1, 300)])
  func orderAndBackKeepEveryBit(dtype: DType, shape: (out: Int, in: Int)) {
    var generator = SplitMix64(seed: 2)
    let bytes = shape.out * shape.in * dtype.byteCount
    let rows = AlignedBuffer<UInt8>((0..<bytes).map { _ in UInt8.random(in: 0...255, using: &generator) })
    let panels = AlignedBuffer<UInt8>(
      count: PanelMatrix.byteCount(outFeatures: shape.out, inFeatures: shape.in, dtype: dtype))
    FloatPanels.pack(rows.pointer, dtype: dtype, out: shape.out, in: shape.in, into: panels.pointer)
    let back = AlignedBuffer<UInt8>(count: bytes)
    FloatPanels.unpack(panels.pointer, dtype: dtype, out: shape.out, in: shape.in, into: back.pointer)
    #expect(back.array == rows.array)
  }
}
