import Compute
import Foundation
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
    for arithmetic in [AttentionArithmetic.exact, .fast] {
      try everyInstructionSetGivesTheSameBits(type: type, shape: shape, arithmetic: arithmetic)
    }
  }

  private func everyInstructionSetGivesTheSameBits(
    type: KVCacheType, shape: (heads: Int, kvHeads: Int, headDim: Int), arithmetic: AttentionArithmetic
  ) throws {
    let configuration = SyntheticModel(
      layout: .separate, heads: shape.heads, kvHeads: shape.kvHeads, headDim: shape.headDim
    ).configuration
    func attend(_ isa: InstructionSet, threads: Int) throws -> [UInt32] {
      let steps = LayerSteps(
        configuration: configuration, rotary: RotaryEmbedding(configuration.rotary),
        pool: WorkerPool(threads: threads, kernels: try #require(Kernels(for: isa))), arithmetic: arithmetic)
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

  /// Against probabilities written plainly; heads that share keys, and more queries and keys than fit a block.
  @Test func attentionReceivedIsTheSumOfItsColumn() throws {
    let c = SyntheticModel(layout: .separate, heads: 4, kvHeads: 2, headDim: 16).configuration
    let lengths = [601, 40]
    let total = lengths.reduce(0, +)
    var generator = SplitMix64(seed: 5)
    let values = (0..<total * c.qkvWidth).map { _ in Float.random(in: -2...2, using: &generator) }
    func received(_ isa: InstructionSet, threads: Int) throws -> (sums: [Float], rotated: [Float]) {
      let steps = LayerSteps(
        configuration: c, rotary: RotaryEmbedding(c.rotary),
        pool: WorkerPool(threads: threads, kernels: try #require(Kernels(for: isa))))
      let qkv = AlignedBuffer<Float>(values)
      let slices = lengths.indices.map {
        SequenceSlice(
          firstRow: lengths[..<$0].reduce(0, +), rowCount: lengths[$0], firstPosition: 0,
          cache: KVCache(configuration: c, capacity: lengths[$0], retaining: false))
      }
      return (steps.attentionReceived(qkv.pointer, sequences: slices, layer: 0), qkv.array)
    }
    let (sums, rotated) = try received(.scalar, threads: 1)
    for isa in InstructionSet.runnable {
      #expect(try received(isa, threads: 3).sums == sums, "\(isa)")
    }
    var expected = [Double](repeating: 0, count: total)
    for (sequence, length) in lengths.enumerated() {
      let first = lengths[..<sequence].reduce(0, +)
      for head in 0..<c.attentionHeads {
        for row in 0..<length {
          let query = (first + row) * c.qkvWidth + c.queryOffset(head)
          let scores = (0...row).map { key in
            let at = (first + key) * c.qkvWidth + c.keyOffset(head / c.queriesPerKV)
            let product = (0..<c.headDim).reduce(0.0) {
              $0 + Double(rotated[query + $1]) * Double(rotated[at + $1])
            }
            return product / Double(c.headDim).squareRoot()
          }
          let most = scores.max() ?? 0
          let weights = scores.map { exp($0 - most) }
          let sum = weights.reduce(0, +)
          for key in 0...row { expected[first + key] += weights[key] / sum }
        }
      }
    }
    for row in 0..<total { #expect(abs(Double(sums[row]) - expected[row]) < 1e-4 * (1 + expected[row])) }
    // Every query of every head pays one in all.
    #expect(abs(Double(sums.reduce(0, +)) - Double(total * c.attentionHeads)) < 0.05)
  }
}
