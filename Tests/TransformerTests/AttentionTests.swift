import Compute
import TestSupport
import Testing
import Transformer

@Suite struct AttentionTests {
  /// Attention alone: two prompts in one batch, whose queries and keys fill several blocks, then one token each; head widths that
  /// fill panels and that do not.
  @Test(
    arguments: KVCacheType.allCases,
    [(heads: 4, kvHeads: 2, headDim: 64), (heads: 6, kvHeads: 1, headDim: 20)])
  func everyInstructionSetGivesTheSameBits(
    type: KVCacheType, shape: (heads: Int, kvHeads: Int, headDim: Int)
  ) throws {
    let configuration = SyntheticModel(
      layout: .separate, heads: shape.heads, kvHeads: shape.kvHeads, headDim: shape.headDim
    ).configuration
    func attend(_ isa: InstructionSet, threads: Int) throws -> [UInt32] {
      let steps = LayerSteps(
        configuration: configuration, rotary: RotaryEmbedding(configuration.rotary),
        pool: WorkerPool(threads: threads, kernels: try #require(Kernels(for: isa))))
      let lengths = [530, 61]
      let caches = lengths.map {
        KVCache(configuration: configuration, capacity: $0 + 1, type: type)
      }
      var generator = SplitMix64(seed: 17)
      func run(rows: [Int], after positions: [Int]) -> [UInt32] {
        let total = rows.reduce(0, +)
        let qkv = AlignedBuffer<Float>(
          (0..<total * configuration.qkvWidth).map { _ in Float.random(in: -2...2, using: &generator) })
        let out = AlignedBuffer<Float>(count: total * configuration.attentionWidth)
        let slices = rows.indices.map {
          SequenceSlice(
            firstRow: rows[..<$0].reduce(0, +), rowCount: rows[$0], firstPosition: positions[$0],
            cache: caches[$0])
        }
        steps.attend(qkv.pointer, sequences: slices, layer: 0, into: out.pointer)
        return out.array.map(\.bitPattern)
      }
      return run(rows: lengths, after: [0, 0]) + run(rows: [1, 1], after: lengths)
    }
    let expected = try attend(.scalar, threads: 1)
    for isa in InstructionSet.runnable {
      #expect(try attend(isa, threads: 3) == expected, "\(isa)")
    }
  }
}
