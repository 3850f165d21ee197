import Compute
import Tensors
import TestSupport
import Testing

/// dx = dy · W with W in whatever form it is stored.
@Suite struct TransposedProductTests {
  private static func product(
    _ dy: [Float], _ weights: WeightMatrix, m: Int, rowStride: Int, pool: WorkerPool,
    arithmetic: FloatArithmetic = .fp32
  ) -> [Float] {
    let dx = AlignedBuffer<Float>(zeros: m * weights.inFeatures)
    dy.withUnsafeBufferPointer {
      LinearAlgebra.multiply(
        dy: $0.baseAddress!, rows: m, dyRowStride: rowStride, byTransposeOf: weights, into: dx.pointer,
        dxRowStride: weights.inFeatures, arithmetic: arithmetic, pool: pool)
    }
    return dx.array
  }

  /// The matrix in rows and in panels of each float type; its values are exact in each.
  private static func forms(_ values: [Float], n: Int, k: Int) -> [(String, WeightMatrix)] {
    let panels = ProductTests.panels(values, n: n, k: k)
    let inPanels = AlignedBuffer<Float>(count: (n + 15) / 16 * 16 * k)
    inPanels.pointer.update(
      from: panels.elements.assumingMemoryBound(to: Float.self), count: inPanels.count)
    let inRows = AlignedBuffer(values)
    return [DType.f32, .f16, .bf16].flatMap { type -> [(String, WeightMatrix)] in
      func narrowed(_ source: AlignedBuffer<Float>) -> AlignedBuffer<UInt8> {
        let result = AlignedBuffer<UInt8>(count: source.count * type.byteCount)
        Kernels.best.narrow(
          UnsafeMutableRawPointer(result.pointer), from: source.pointer, type: type.kernelType,
          count: source.count)
        return result
      }
      let (rows, panels) = (narrowed(inRows), narrowed(inPanels))
      return [
        (
          "rows \(type)",
          .rows(
            RowMatrix(elements: rows.pointer, dtype: type, outFeatures: n, inFeatures: k, owner: rows))
        ),
        (
          "panels \(type)",
          .panels(
            PanelMatrix(elements: panels.pointer, dtype: type, outFeatures: n, inFeatures: k, owner: panels))
        ),
      ]
    }
  }

  /// Few rows and many, widths that fill panels and that do not, one block of outputs and several; every element is one chain over
  /// the outputs in ascending order.
  @Test(
    arguments: [
      ProductTests.Shape(m: 3, n: 33, k: 50), .init(m: 40, n: 160, k: 96), .init(m: 500, n: 23, k: 40),
      .init(m: 9, n: 1100, k: 24), .init(m: 481, n: 700, k: 33),
    ], InstructionSet.runnable)
  func equalsTheChainBitForBit(shape: ProductTests.Shape, isa: InstructionSet) throws {
    let (m, n, k) = (shape.m, shape.n, shape.k)
    let stride = n + 3
    let dy = ProductTests.random(m * stride, seed: 1)
    // Eighths are exact in every type.
    let w = ProductTests.random(n * k, seed: 2).map { ($0 * 8).rounded() / 8 }
    var expected: [Float] = []
    for i in 0..<m {
      for j in 0..<k {
        var sum: Float = 0
        for t in 0..<n { sum.addProduct(dy[i * stride + t], w[t * k + j]) }
        expected.append(sum)
      }
    }
    for threads in [1, 3] {
      let pool = WorkerPool(threads: threads, kernels: try #require(Kernels(for: isa)))
      for (name, form) in TransposedProductTests.forms(w, n: n, k: k) {
        let found = TransposedProductTests.product(dy, form, m: m, rowStride: stride, pool: pool)
        #expect(found == expected, "\(name), \(threads) threads")
      }
    }
  }

  /// Codes multiply as the floats they stand for, in the order of the channels.
  @Test(arguments: [2, 3, 4, 8], InstructionSet.runnable)
  func codesEqualTheirFloats(bits: Int, isa: InstructionSet) throws {
    let pool = WorkerPool(threads: 2, kernels: try #require(Kernels(for: isa)))
    for (symmetric, permuted, m) in [(true, false, 5), (false, true, 40), (true, true, 490)] {
      let (n, k) = (104, 160)
      let matrix = randomMatrix(
        bits: bits, symmetric: symmetric, permuted: permuted, out: n, inputs: k, group: 32)
      let integers = WeightMatrix.intPanels(IntPanels.inMemory(matrix))
      let floats = integers.rowMajorFloats()
      let dy = ProductTests.random(m * n, seed: 4)
      for arithmetic in FloatArithmetic.allCases where !permuted || arithmetic == .fp32 {
        let found = TransposedProductTests.product(
          dy, integers, m: m, rowStride: n, pool: pool, arithmetic: arithmetic)
        let expected = TransposedProductTests.product(
          dy, ProductTests.rows(floats.array, n: n, k: k), m: m, rowStride: n, pool: pool,
          arithmetic: arithmetic)
        #expect(found == expected)
      }
    }
  }
}
