import Compute
import Tensors
import Testing

@Suite struct RefinementKernelTests {
  private let columns = 37

  private func codes(seed: UInt64) -> [UInt8] {
    ProductTests.random(columns * 16, seed: seed).map { UInt8(abs($0) * 15.9) }
  }

  @Test(arguments: InstructionSet.runnable)
  func residualsEqualTheirDefinition(isa: InstructionSet) throws {
    let kernels = try ElementwiseTests.kernels(isa)
    let (w, codes) = (ProductTests.random(columns * 16, seed: 1), codes(seed: 2))
    let (scales, zeros) = (ProductTests.random(16, seed: 3), (0..<16).map { Float($0 % 9) })
    var errors = [Float](repeating: -1, count: columns * 16)
    var centered = errors
    kernels.residuals(
      columns: columns, weights: w, codes: codes, scales: scales, zeros: zeros, errors: &errors)
    kernels.centerCodes(columns: columns, codes: codes, zeros: zeros, centered: &centered)
    for at in errors.indices {
      let code = Float(codes[at]) - zeros[at % 16]
      #expect(centered[at] == code)
      #expect(errors[at].bitPattern == w[at].addingProduct(-scales[at % 16], code).bitPattern)
    }
  }

  @Test(arguments: InstructionSet.runnable)
  func dotsOfLanesEqualTheirDefinition(isa: InstructionSet) throws {
    let (a, b) = (ProductTests.random(columns * 16, seed: 4), ProductTests.random(columns * 16, seed: 5))
    var sums = (0..<16).map { Double($0) / 3 }
    var expected = sums
    try ElementwiseTests.kernels(isa).dotLanes(columns: columns, a, b, sums: &sums)
    for at in a.indices { expected[at % 16] += Double(a[at]) * Double(b[at]) }
    #expect(sums == expected)
  }

  @Test(arguments: InstructionSet.runnable, [1, 3])
  func descentsEqualTheirDefinition(isa: InstructionSet, panels: Int) throws {
    let count = panels * columns * 16
    var gradients = ProductTests.random(count, seed: 6).map { $0 * 2 }
    var errors = ProductTests.random(count, seed: 7)
    var codes = (0..<panels).flatMap { self.codes(seed: UInt64(8 + $0)) }
    // Of both signs.
    let scales = ProductTests.random(panels * 2 * 16, seed: 9).map { $0 < 0 ? $0 - 0.1 : $0 + 0.1 }
    let h = ProductTests.random(columns * columns, seed: 10).enumerated().map {
      $0.offset % (columns + 1) == 0 ? 2 + abs($0.element) : $0.element * 0.3
    }
    let groupOf = (0..<columns).map { Int32($0 < 20 ? 0 : 1) }
    var (expectedGradients, expectedErrors, expectedCodes) = (gradients, errors, codes)
    var moves = 0
    for p in 0..<panels {
      for j in 0..<columns {
        for lane in 0..<16 {
          let at = (p * columns + j) * 16 + lane
          let scale = scales[(p * 2 + Int(groupOf[j])) * 16 + lane]
          let step = expectedGradients[at] / (h[j * columns + j] * scale)
          let before = Float(expectedCodes[at])
          let after = min(max((before + step).rounded(.toNearestOrEven), 0), 15)
          guard after != before else { continue }
          moves += 1
          let change = scale * (after - before)
          expectedCodes[at] = UInt8(after)
          expectedErrors[at] -= change
          for i in j + 1..<max(columns, j + 1) {
            let at = (p * columns + i) * 16 + lane
            expectedGradients[at].addProduct(-h[j * columns + i], change)
          }
        }
      }
    }
    try ElementwiseTests.kernels(isa).descendBlock(
      panels: panels, columns: columns, gradients: &gradients, errors: &errors, errorStride: columns * 16,
      h: h, hStride: columns, scales: scales, scaleStride: 32, groupOf: groupOf, maximumCode: 15,
      codes: &codes, codeStride: columns * 16)
    #expect(moves > count / 10)
    #expect(codes == expectedCodes)
    #expect(errors == expectedErrors)
  }

  /// Orders with and without whole blocks, and panels for several tasks.
  @Test(arguments: [1, 100, 300, 384])
  func dividingByAHessianSolvesItsEquations(order n: Int) throws {
    let panels = 5
    let a = ProductTests.random(n * n, seed: 11)
    let x = ProductTests.random(panels * 16 * n, seed: 12)
    var h = [Double](repeating: 0, count: n * n)
    for i in 0..<n {
      for j in 0..<n {
        for k in 0..<n { h[i * n + j] += Double(a[i * n + k]) * Double(a[j * n + k]) / Double(n) }
      }
      h[i * n + i] += 1
    }
    var results: [[Float]] = []
    for isa in InstructionSet.runnable {
      for threads in 1...3 {
        let pool = WorkerPool(threads: threads, kernels: try ElementwiseTests.kernels(isa))
        let values = AlignedBuffer(h.map { Float($0) })
        let factor = try #require(Factorization.cholesky(ofUpperTriangle: values, order: n, pool: pool))
        let found = AlignedBuffer(x)
        factor.divide(panels: panels, at: found.pointer, pool: pool)
        results.append(found.array)
      }
    }
    #expect(results.allSatisfy { $0 == results[0] })
    for panel in 0..<panels {
      for lane in [0, 7, 15] {
        func at(_ k: Int) -> Int { (panel * n + k) * 16 + lane }
        for j in 0..<n {
          let product = (0..<n).reduce(0.0) { $0 + Double(results[0][at($1)]) * h[$1 * n + j] }
          #expect(abs(product - Double(x[at(j)])) < 1e-4)
        }
      }
    }
  }
}
