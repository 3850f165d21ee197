import Architecture
import Compute
import Foundation
import TestSupport
import Testing
import Transformer

@Suite struct EncoderAttentionTests {
  private static let lengths = [300, 1, 17, 131]

  private static func attention(
    heads: Int, headDim: Int, _ values: [Float], lengths: [Int], arithmetic: AttentionArithmetic,
    isa: InstructionSet, threads: Int
  ) throws -> [Float] {
    let configuration = EncoderConfiguration(
      hiddenSize: heads * headDim, intermediateSize: 64, layerCount: 1, attentionHeads: heads,
      vocabularySize: 100,
      positionCount: 512, textTypeCount: 2, layerNormEps: 1e-12, activation: .gelu, labelCount: nil)
    let steps = EncoderSteps(
      configuration: configuration,
      pool: WorkerPool(threads: threads, kernels: try #require(Kernels(for: isa))))
    let texts = lengths.indices.map { index in
      let first = lengths[..<index].reduce(0, +)
      return first..<first + lengths[index]
    }
    let out = AlignedBuffer<Float>(count: lengths.reduce(0, +) * heads * headDim)
    let qkv = AlignedBuffer(values)
    steps.attend(qkv.pointer, texts: texts, arithmetic: arithmetic, into: out.pointer)
    return out.array
  }

  /// softmax(q · Kᵀ / √headDim) · V in double precision.
  private static func plain(_ qkv: [Float], heads: Int, headDim: Int) -> [Double] {
    let (hidden, count) = (heads * headDim, lengths.reduce(0, +))
    var out = [Double](repeating: 0, count: count * hidden)
    func element(_ row: Int, _ part: Int, _ head: Int, _ k: Int) -> Double {
      Double(qkv[row * 3 * hidden + part * hidden + head * headDim + k])
    }
    var first = 0
    for length in lengths {
      let text = first..<first + length
      first += length
      for head in 0..<heads {
        for row in text {
          let scores = text.map { key in
            (0..<headDim).reduce(0) { $0 + element(row, 0, head, $1) * element(key, 1, head, $1) }
              / Double(headDim).squareRoot()
          }
          let most = scores.max()!
          let weights = scores.map { exp($0 - most) }
          let total = weights.reduce(0, +)
          for k in 0..<headDim {
            let sum = zip(text, weights).reduce(0) { $0 + $1.1 * element($1.0, 2, head, k) }
            out[row * hidden + head * headDim + k] = sum / total
          }
        }
      }
    }
    return out
  }

  /// Texts that fill blocks of keys and queries and that do not, and widths of heads that fill panels and that do not. Of `fast`
  /// arithmetic, the numbers that are multiplied have 8 bits: 2⁻⁹ each at most, of values up to 2.
  @Test(arguments: [(heads: 2, headDim: 64), (heads: 3, headDim: 20)])
  func attentionIsTheFormula(shape: (heads: Int, headDim: Int)) throws {
    var generator = SplitMix64(seed: 11)
    let width = 3 * shape.heads * shape.headDim
    let values = (0..<Self.lengths.reduce(0, +) * width).map { _ in
      Float.random(in: -2...2, using: &generator)
    }
    let expected = Self.plain(values, heads: shape.heads, headDim: shape.headDim)
    for (arithmetic, bound) in [(AttentionArithmetic.exact, 3e-6), (.fast, 2e-2)] {
      func attend(_ isa: InstructionSet, threads: Int, _ values: [Float], _ lengths: [Int]) throws -> [Float]
      {
        try Self.attention(
          heads: shape.heads, headDim: shape.headDim, values, lengths: lengths, arithmetic: arithmetic,
          isa: isa,
          threads: threads)
      }
      let first = try attend(.scalar, threads: 1, values, Self.lengths)
      for isa in InstructionSet.runnable {
        #expect(try attend(isa, threads: 3, values, Self.lengths) == first, "\(isa)")
      }
      let furthest = zip(first, expected).map { abs(Double($0) - $1) }.max()!
      #expect(furthest < bound, "\(arithmetic)")
      // Of the last text alone.
      let rows = Self.lengths.last!
      #expect(
        try attend(.scalar, threads: 2, Array(values.suffix(rows * width)), [rows])
          == Array(first.suffix(rows * width / 3)))
    }
  }
}
