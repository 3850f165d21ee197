import Compute
import Tensors
import TestSupport
import Testing

@Suite struct ProductTests {
  struct Shape: CustomTestStringConvertible, Sendable {
    var m: Int, n: Int, k: Int
    var testDescription: String { "\(m)x\(n)x\(k)" }
  }
  static let shapes = [
    Shape(m: 1, n: 16, k: 32), Shape(m: 1, n: 100, k: 96), Shape(m: 3, n: 33, k: 64),
    Shape(m: 13, n: 47, k: 288),
    Shape(m: 40, n: 160, k: 544), Shape(m: 12, n: 32, k: 256), Shape(m: 6, n: 5, k: 32),
  ]

  static func random(_ count: Int, seed: UInt64) -> [Float] {
    var generator = SplitMix64(seed: seed)
    return (0..<count).map { _ in Float.random(in: -1...1, using: &generator) }
  }

  static func rows(_ values: [Float], n: Int, k: Int) -> WeightMatrix {
    let buffer = AlignedBuffer(values)
    return .rows(
      RowMatrix(
        elements: UnsafeRawPointer(buffer.pointer), dtype: .f32, outFeatures: n, inFeatures: k, owner: buffer)
    )
  }

  static func panels(_ values: [Float], n: Int, k: Int) -> PanelMatrix {
    let count = (n + 15) / 16
    let buffer = AlignedBuffer<Float>(zeros: count * 16 * k)
    for row in 0..<n { for j in 0..<k { buffer[(row / 16 * k + j) * 16 + row % 16] = values[row * k + j] } }
    return PanelMatrix(
      elements: UnsafeRawPointer(buffer.pointer), dtype: .f32, outFeatures: n, inFeatures: k, owner: buffer)
  }

  static func product(
    _ x: [Float], _ weights: WeightMatrix, m: Int, threads: Int = 2, isa: InstructionSet? = nil,
    arithmetic: FloatArithmetic = .fp32
  ) throws -> [Float] {
    let y = AlignedBuffer<Float>(zeros: m * weights.outFeatures)
    let kernels = try isa.map { try #require(Kernels(for: $0)) } ?? WorkerPool.shared.kernels
    x.withUnsafeBufferPointer {
      LinearAlgebra.multiply(
        x: $0.baseAddress!, rows: m, xRowStride: weights.inFeatures, by: weights, into: y.pointer,
        yRowStride: weights.outFeatures, arithmetic: arithmetic,
        pool: WorkerPool(threads: threads, kernels: kernels))
    }
    return y.array
  }

  /// Every output is one chain of fused multiply-adds in ascending k.
  @Test(arguments: shapes, InstructionSet.runnable)
  func equalsTheChainBitForBit(shape: Shape, isa: InstructionSet) throws {
    let x = ProductTests.random(shape.m * shape.k, seed: 1)
    let w = ProductTests.random(shape.n * shape.k, seed: 2)
    var expected: [Float] = []
    for i in 0..<shape.m {
      for n in 0..<shape.n {
        var sum: Float = 0
        for k in 0..<shape.k { sum.addProduct(x[i * shape.k + k], w[n * shape.k + k]) }
        expected.append(sum)
      }
    }
    for threads in 1...3 {
      let fromRows = try ProductTests.product(
        x, ProductTests.rows(w, n: shape.n, k: shape.k), m: shape.m, threads: threads, isa: isa)
      let fromPanels = try ProductTests.product(
        x, .panels(ProductTests.panels(w, n: shape.n, k: shape.k)), m: shape.m, threads: threads, isa: isa)
      #expect(fromRows == expected)
      #expect(fromPanels == expected)
    }
  }

  /// Many rows are blocked in other ways than a few (``equalsTheChainBitForBit(shape:isa:)``), to the same bits: weights built
  /// once for all threads, or task by task, in one block of inputs or in several, with rows cut among tasks.
  @Test(
    arguments: [Shape(m: 501, n: 41, k: 704), Shape(m: 480, n: 200, k: 96), Shape(m: 1003, n: 16, k: 640)],
    InstructionSet.runnable)
  func manyRowsEqualAFew(shape: Shape, isa: InstructionSet) throws {
    let (m, n, k) = (shape.m, shape.n, shape.k)
    let x = ProductTests.random(m * k, seed: 5)
    let w = ProductTests.random(n * k, seed: 6)
    let integers = ProductTests.integerMatrix(bits: 4, n: n, k: k, group: 32).0
    let weights: [WeightMatrix] = [
      ProductTests.rows(w, n: n, k: k), .panels(ProductTests.panels(w, n: n, k: k)), .intPanels(integers),
    ]
    for weights in weights {
      var expected: [Float] = []
      for first in stride(from: 0, to: m, by: 48) {
        let some = min(48, m - first)
        expected += try ProductTests.product(Array(x[first * k..<(first + some) * k]), weights, m: some)
      }
      for threads in 1...3 {
        #expect(try ProductTests.product(x, weights, m: m, threads: threads, isa: isa) == expected)
      }
    }
  }

  /// More summed indices than one block, rows that fill no tile, and panels of which only the first inputs count.
  @Test(
    arguments: [Shape(m: 1, n: 16, k: 5), Shape(m: 36, n: 32, k: 72), Shape(m: 128, n: 80, k: 1100)],
    InstructionSet.runnable)
  func leftSidesPackedForAllThreadsGiveTheSameBits(shape: Shape, isa: InstructionSet) throws {
    let (m, n, k, inputs) = (shape.m, shape.n, shape.k, shape.k + 7)
    let kernels = try #require(Kernels(for: isa))
    // A as the transpose of what lies in memory.
    let a = AlignedBuffer<Float>(ProductTests.random(m * k, seed: 7))
    let w = ProductTests.random(n * inputs, seed: 8)
    let b = ProductTests.panels(w, n: n, k: inputs)
    var expected: [Float] = ProductTests.random(m * n, seed: 9)
    let c = AlignedBuffer<Float>(count: m * n)
    for i in 0..<m { for j in 0..<n { c[j / 16 * m * 16 + i * 16 + j % 16] = expected[i * n + j] } }
    for i in 0..<m {
      for j in 0..<n { for t in 0..<k { expected[i * n + j].addProduct(-a[t * m + i], w[j * inputs + t]) } }
    }
    let left = PackedLeftSide(
      rows: m, k: k, a: a.pointer, rowStride: 1, kStride: m,
      pool: WorkerPool(threads: 2, kernels: kernels))
    left.multiply(
      panels: n / 16, by: b.elements.assumingMemoryBound(to: Float.self), bPanelStride: inputs * 16,
      into: c.pointer, cPanelStride: m * 16, mode: .subtract)
    #expect(
      (0..<m * n).map { c[$0 % n / 16 * m * 16 + $0 / n * 16 + $0 % n % 16] } == expected)
  }

  /// Both sides rounded to bf16, odd inputs' products first in each pair, subnormals zero: on every table what VDPBF16PS
  /// computes.
  @Test(
    arguments: [
      Shape(m: 1, n: 20, k: 64), Shape(m: 7, n: 97, k: 37), Shape(m: 260, n: 36, k: 96),
      Shape(m: 19, n: 130, k: 900),
    ], InstructionSet.runnable)
  func roundedProductsEqualTheirDefinition(shape: Shape, isa: InstructionSet) throws {
    let (m, n, k) = (shape.m, shape.n, shape.k)
    // Every seventh column of outputs is small enough for subnormal operands and sums.
    let x = ProductTests.random(m * k, seed: 7).map { $0 * 1e-3 }
    var w = ProductTests.random(n * k, seed: 8)
    for row in stride(from: 0, to: n, by: 7) {
      for j in 0..<k { w[row * k + j] *= j % 3 == 0 ? 0x1p-130 : 1e-35 }
    }
    func rounded(_ x: Float) -> Float { flushed(roundedToBrainFloat(x)) }
    func flushed(_ x: Float) -> Float {
      x.magnitude < .leastNormalMagnitude ? (x.sign == .minus ? -0.0 : 0) : x
    }
    let (left, right) = (x.map(rounded), w.map(rounded))
    var expected: [Float] = []
    for i in 0..<m {
      for column in 0..<n {
        var sum: Float = 0
        for pair in stride(from: 0, to: k, by: 2) {
          for j in [pair + 1, pair] where j < k {
            sum = flushed(sum.addingProduct(left[i * k + j], right[column * k + j]))
          }
        }
        expected.append(sum)
      }
    }
    for threads in 1...3 {
      for weights in [
        ProductTests.rows(w, n: n, k: k), .panels(ProductTests.panels(w, n: n, k: k)),
      ] {
        let found = try ProductTests.product(x, weights, m: m, threads: threads, isa: isa, arithmetic: .bf16)
        #expect(found == expected)
      }
    }
  }

  @Test(arguments: InstructionSet.runnable) func sixteenBitWeightsAreWidenedExactly(isa: InstructionSet)
    throws
  {
    let n = 37
    let k = 80
    let m = 14
    let x = ProductTests.random(m * k, seed: 3)
    let exact = ProductTests.random(n * k, seed: 4)
    let kernels = try #require(Kernels(for: isa))
    for (dtype, type) in [(DType.bf16, KernelType.bf16), (.f16, .f16)] {
      let narrow = AlignedBuffer<UInt16>(count: n * k)
      let wide = AlignedBuffer<Float>(count: n * k)
      kernels.narrow(narrow.pointer, from: exact, type: type, count: n * k)
      kernels.widen(wide.pointer, from: narrow.pointer, type: type, count: n * k)
      let reference = exact.map { dtype == .f16 ? Float(Float16($0)) : roundedToBrainFloat($0) }
      #expect(wide.array == reference)
      let matrix = RowMatrix(
        elements: UnsafeRawPointer(narrow.pointer), dtype: dtype, outFeatures: n, inFeatures: k, owner: narrow
      )
      let expected = try ProductTests.product(x, ProductTests.rows(reference, n: n, k: k), m: m)
      #expect(try ProductTests.product(x, .rows(matrix), m: m, isa: isa) == expected)
    }
  }

  func roundedToBrainFloat(_ x: Float) -> Float {
    let bits = x.bitPattern
    return Float(bitPattern: (bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF_0000)
  }

  /// A matrix of codes, random or all the largest, and the same weights as floats.
  static func integerMatrix(bits: Int, n: Int, k: Int, group: Int, largestCodes: Bool = false) -> (
    IntPanelMatrix, [Float]
  ) {
    var generator = SplitMix64(seed: UInt64(bits))
    let panelCount = (n + 15) / 16
    let groups = (k + group - 1) / group
    let codes = AlignedBuffer<UInt8>(zeros: panelCount * k * bits * 2)
    let scales = AlignedBuffer<UInt16>(zeros: panelCount * groups * 16)
    let zeros = AlignedBuffer<UInt8>(zeros: panelCount * groups * 16)
    var weights = [Float](repeating: 0, count: n * k)
    let inputsPerBlock = 32 / bits
    for row in 0..<n {
      let panel = row / 16
      let lane = row % 16
      for g in 0..<groups {
        scales[(panel * groups + g) * 16 + lane] =
          Float16.random(in: 0.01...0.2, using: &generator).bitPattern
        zeros[(panel * groups + g) * 16 + lane] = UInt8.random(
          in: 0...UInt8(1 << bits - 1), using: &generator)
      }
      for j in 0..<k {
        let largest = UInt8(1 << bits - 1)
        let code = largestCodes ? largest : UInt8.random(in: 0...largest, using: &generator)
        let block = j / inputsPerBlock
        let inside = j % inputsPerBlock
        let byte = (panel * k / inputsPerBlock + block) * 64 + lane * 4 + inside % 4
        codes[byte] |= code << UInt8(inside / 4 * bits)
        let index = (panel * groups + j / group) * 16 + lane
        weights[row * k + j] =
          (Float(code) - Float(zeros[index])) * Float(Float16(bitPattern: scales[index]))
      }
    }
    let owner = Owners(objects: [codes, scales, zeros])
    let matrix = IntPanelMatrix(
      bits: bits, codes: codes.pointer, scales: scales.pointer, zeros: zeros.pointer, groupSize: group,
      outFeatures: n, inFeatures: k, permutation: nil, owner: owner)
    return (matrix, weights)
  }

  final class Owners: Sendable {
    let objects: [any AnyObject & Sendable]
    init(objects: [any AnyObject & Sendable]) { self.objects = objects }
  }

  /// Codes in panels multiply as the dequantized floats do, to the bit, for one row and for many.
  @Test(arguments: [2, 4, 8], InstructionSet.runnable)
  func integerPanelsEqualTheirDequantizedWeights(bits: Int, isa: InstructionSet) throws {
    let n = 40
    // 1568: several blocks of summed inputs, which begin inside groups.
    for k in [160, 1568] {
      let (matrix, weights) = ProductTests.integerMatrix(bits: bits, n: n, k: k, group: 64)
      for m in [1, 3, 20] {
        let x = ProductTests.random(m * k, seed: 5)
        let expected = try ProductTests.product(x, ProductTests.rows(weights, n: n, k: k), m: m, isa: .scalar)
        #expect(try ProductTests.product(x, .intPanels(matrix), m: m, isa: isa) == expected)
      }
    }
  }

  /// Blocks of the summed index: few, about as long, no longer than the kernels want, and beginning where codes of any width do.
  @Test(arguments: InstructionSet.runnable) func blocksOfTheSummedIndexAreEven(isa: InstructionSet) throws {
    let kernels = try #require(Kernels(for: isa))
    let most = kernels.blockDepth
    for k in [1, 576, 640] { #expect(LinearAlgebra.depth(of: k, kernels: kernels) == k) }
    for k in [769, 1536, 2048, 4096, 5504, 11008] {
      let depth = LinearAlgebra.depth(of: k, kernels: kernels)
      let blocks = (k + depth - 1) / depth
      #expect(depth <= most && depth % 16 == 0)
      #expect(blocks == (k + most - 1) / most)
      #expect(blocks * depth - k < 16 * blocks, "the last block is as long as the others")
    }
  }

  /// `fast`: the same bits on every table, thread count and number of rows, and within the rounding of the activations:
  /// |error| <= Σ |w| · max|x| / 254 over each block, plus the rounding of fp32. Outliers are not rounded when they are kept
  /// out, and do not count for the maximum then.
  @Test(arguments: [2, 4, 8], InstructionSet.runnable)
  func byteProductsAgreeEverywhereAndWithinTheirRounding(bits: Int, isa: InstructionSet) throws {
    for keepsOutliers in [true, false] {
      try byteProducts(bits: bits, isa: isa, keepsOutliers: keepsOutliers)
    }
  }

  private func byteProducts(bits: Int, isa: InstructionSet, keepsOutliers: Bool) throws {
    for (n, k, group) in [(40, 160, 64), (40, 448, 64), (100, 256, 32), (33, 576, 128), (16, 288, 288)] {
      let (matrix, weights) = ProductTests.integerMatrix(bits: bits, n: n, k: k, group: group)
      let block = keepsOutliers && k % 64 == 0 && group % 64 == 0 ? 64 : 32
      let m = 40
      var x = ProductTests.random(m * k, seed: 7)
      for i in stride(from: 0, to: m, by: 3) {
        x[i * k + 9] = 40
        if i % 2 == 0 { x[i * k + 30] = -35 }
      }
      func run(_ rows: Range<Int>, _ kernels: Kernels, threads: Int) -> [Float] {
        let y = AlignedBuffer<Float>(zeros: rows.count * n)
        let pool = WorkerPool(threads: threads, kernels: kernels)
        x.withUnsafeBufferPointer {
          Int8Activations.with(
            $0.baseAddress! + rows.lowerBound * k, rows: rows.count, rowStride: k, inFeatures: k,
            groupSize: group, permutation: nil, keepsOutliers: keepsOutliers, pool: pool
          ) {
            LinearAlgebra.multiply(
              $0, [Int8Product(matrix, into: y.pointer, yRowStride: n)], pool: pool)
          }
        }
        return y.array
      }
      let kernels = try #require(Kernels(for: isa))
      let expected = run(0..<m, try #require(Kernels(for: .scalar)), threads: 1)
      #expect(run(0..<m, kernels, threads: 2) == expected)
      #expect((0..<m).flatMap { run($0..<$0 + 1, kernels, threads: 2) } == expected)
      // Few rows are multiplied in another way than many.
      for count in [2, 3, 4, 5, 7, 8, 9, 11, 12, 13, 17, 24, 36, 37] {
        #expect(run(1..<1 + count, kernels, threads: 2) == Array(expected[n..<(1 + count) * n]))
      }
      for i in 0..<m {
        for row in 0..<n {
          var exact = 0.0
          var bound = 1e-5
          for start in stride(from: 0, to: k, by: block) {
            let range = start..<min(k, start + block)
            let most = range.map { abs(Double(x[i * k + $0])) }.filter { !keepsOutliers || $0 < 34 }.max()!
            for j in range {
              exact += Double(x[i * k + j]) * Double(weights[row * k + j])
              bound += abs(Double(weights[row * k + j])) * most / 254
            }
          }
          #expect(abs(exact - Double(expected[i * n + row])) <= bound * 1.001)
        }
      }
    }
  }

  /// The largest codes by the largest rounded activations: sums of 16 bits within a kernel must hold them.
  @Test(arguments: [2, 4, 8], InstructionSet.runnable)
  func largestByteProductsFit(bits: Int, isa: InstructionSet) throws {
    let (n, k, m) = (40, 256, 20)
    let (matrix, weights) = ProductTests.integerMatrix(bits: bits, n: n, k: k, group: 128, largestCodes: true)
    for sign: Float in [1, -1] {
      let x = [Float](repeating: sign, count: m * k)
      for rows in [1, 3, m] {
        let y = AlignedBuffer<Float>(zeros: rows * n)
        let pool = WorkerPool(threads: 2, kernels: try #require(Kernels(for: isa)))
        Int8Activations.with(
          x, rows: rows, rowStride: k, inFeatures: k, groupSize: 128, permutation: nil, keepsOutliers: true,
          pool: pool
        ) {
          LinearAlgebra.multiply(
            $0, [Int8Product(matrix, into: y.pointer, yRowStride: n)], pool: pool)
        }
        for row in 0..<n {
          let exact = (0..<k).reduce(0.0) { $0 + Double(sign * weights[row * k + $1]) }
          // Every activation is 127 · (1 / 127): what is left is the rounding of fp32, on sums near 1.5 · 2²³.
          let most = Double((0..<k).map { abs(weights[row * k + $0]) }.max()!) * Double(k)
          for i in 0..<rows { #expect(abs(exact - Double(y[i * n + row])) <= 1e-3 * most + 1e-3) }
        }
      }
    }
  }

  @Test(arguments: InstructionSet.runnable) func gramIsTheSameOnEveryTableAndThreadCount(isa: InstructionSet)
    throws
  {
    let n = 75
    let rows = 300
    let x = ProductTests.random(rows * n, seed: 6)
    var expected = [Float](repeating: 0, count: n * n)
    for i in 0..<n {
      for j in i..<n {
        var sum: Float = 0
        for t in 0..<rows { sum.addProduct(x[t * n + i], x[t * n + j]) }
        expected[i * n + j] = sum
        expected[j * n + i] = sum
      }
    }
    for threads in 1...3 {
      let h = AlignedBuffer<Float>(zeros: n * n)
      x.withUnsafeBufferPointer {
        LinearAlgebra.accumulateGram(
          h.pointer, order: n, x: $0.baseAddress!, rows: rows, rowStride: n,
          pool: WorkerPool(threads: threads, kernels: Kernels(for: isa)!))
      }
      LinearAlgebra.mirrorUpperTriangle(h.pointer, order: n)
      #expect(h.array == expected)
    }
  }

  @Test(arguments: InstructionSet.runnable) func rowsMayHaveWeights(isa: InstructionSet) throws {
    let (n, rows) = (41, 700)
    let x = ProductTests.random(rows * n, seed: 8)
    // Powers of two change no digit: the same as rows times their square roots, or one row several times.
    let weights = (0..<rows).map { [0, 0.25, 1, 4][$0 % 4] as Float }
    let scaled = (0..<rows * n).map { x[$0] * weights[$0 / n].squareRoot() }
    let pool = WorkerPool(threads: 2, kernels: Kernels(for: isa)!)
    func gram(_ x: [Float], _ weights: [Float]?) -> [Float] {
      let h = AlignedBuffer<Float>(zeros: n * n)
      LinearAlgebra.accumulateGram(
        h.pointer, order: n, x: x, rows: rows, rowStride: n, weights: weights, pool: pool)
      LinearAlgebra.mirrorUpperTriangle(h.pointer, order: n)
      return h.array
    }
    #expect(gram(x, weights) == gram(scaled, nil))
    #expect(gram(x, [Float](repeating: 1, count: rows)) == gram(x, nil))
  }
}
