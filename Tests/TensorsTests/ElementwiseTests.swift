import Compute
import Foundation
import Testing

@Suite struct ElementwiseTests {
  static let lengths = [1, 7, 16, 31, 64, 1000]

  static func kernels(_ isa: InstructionSet) throws -> Kernels {
    try #require(Kernels(for: isa))
  }

  @Test(arguments: InstructionSet.runnable) func exponentialIsWithinTwoUlps(isa: InstructionSet) throws {
    let kernels = try ElementwiseTests.kernels(isa)
    var inputs = (0..<20_000).map { -87 + Float($0) * (175.0 / 20_000) }
    inputs += [0, -0.0, -100, -.infinity, 1e-8, -1e-8]
    var outputs = inputs
    _ = kernels.expSum(&outputs, shift: 0, count: inputs.count)
    for (x, y) in zip(inputs, outputs) {
      let exact = Foundation.exp(Double(x))
      if x < -87.33 {
        #expect(y == 0)
      } else {
        #expect(abs(Double(y) - exact) <= 2 * Double(Float(exact).ulp), "exp(\(x)) = \(y)")
      }
    }
    var nan: [Float] = [.nan]
    _ = kernels.expSum(&nan, shift: 0, count: 1)
    #expect(nan[0].isNaN)
  }

  @Test(arguments: InstructionSet.runnable, lengths)
  func everyTableEqualsScalarBitForBit(isa: InstructionSet, n: Int) throws {
    let scalar = try ElementwiseTests.kernels(.scalar)
    let kernels = try ElementwiseTests.kernels(isa)
    let a = ProductTests.random(n, seed: 11)
    let b = ProductTests.random(n, seed: 12)
    func both(_ operation: (Kernels) -> [Float]) -> Bool {
      operation(scalar).map(\.bitPattern) == operation(kernels).map(\.bitPattern)
    }
    #expect(
      both { t in
        var y = a
        t.rmsNorm(&y, x: a, weight: b, count: n, epsilon: 1e-5)
        return y
      })
    #expect(
      both { t in
        var y = a
        t.add(&y, b, count: n)
        return y
      })
    #expect(
      both { t in
        var y = a
        t.siluMultiply(&y, gate: a.map { $0 * 30 }, up: b, count: n)
        return y
      })
    #expect(
      both { t in
        var y = a
        let s = t.expSum(&y, shift: 0.5, count: n)
        return y + [s]
      })
    #expect(both { t in [Float(t.sumExp(a, shift: 0.25, count: n)), t.maximum(a, count: n)] })
    #expect(
      both { t in
        var y = a
        t.scale(&y, by: 0.37, count: n)
        return y
      })
    if n % 2 == 0 {
      let half = n / 2
      #expect(
        both { t in
          var y = a
          t.rotate(&y, cosines: Array(b[..<half]), sines: Array(b[half...]), rotaryDim: n)
          return y
        })
    }
    for type in [KernelType.f16, .bf16] {
      let extremes: [Float] = [
        0, -0.0, 1e-8, 6e-8, 65504, 65519, 65520, 1e30, .infinity, -.infinity, 5.9e-8,
        Float(bitPattern: 0x20_0000),
      ]
      let values = a + extremes
      var first = [UInt16](repeating: 0, count: values.count)
      var second = first
      scalar.narrow(&first, from: values, type: type, count: values.count)
      kernels.narrow(&second, from: values, type: type, count: values.count)
      #expect(first == second)
      if type == .f16 { #expect(first == values.map { Float16($0).bitPattern }) }
    }
  }

  @Test(arguments: InstructionSet.runnable) func halfPrecisionWidensLikeTheHardware(isa: InstructionSet)
    throws
  {
    let kernels = try ElementwiseTests.kernels(isa)
    let all = (0..<65_536).map { UInt16($0) }
    var wide = [Float](repeating: 0, count: all.count)
    kernels.widen(&wide, from: all, type: .f16, count: all.count)
    let expected = all.map { Float(Float16(bitPattern: $0)) }
    #expect(zip(wide, expected).allSatisfy { $0.bitPattern == $1.bitPattern || ($0.isNaN && $1.isNaN) })
  }

  @Test(arguments: InstructionSet.runnable, [1, 31, 128])
  func gptqBlockEqualsScalarBitForBit(isa: InstructionSet, columns: Int) throws {
    let panels = 3
    let lanes = panels * columns * 16
    let parameters = ProductTests.random(panels * 4 * 16, seed: 23)
    func run(_ kernels: Kernels) -> ([[Float]], [UInt8], [Float], [Double]) {
      // Two more columns between the panels.
      var w = ProductTests.random(lanes + panels * 32, seed: 21)
      var u = ProductTests.random(columns * columns, seed: 22).map { $0 * 0.1 }
      for i in 0..<columns { u[i * columns + i] = 0.5 + abs(u[i * columns + i]) }
      let scales = parameters.map { 0.1 + abs($0) * 0.1 }
      let zeros = parameters.indices.map { Float($0 % 5 + 6) }
      let groupOf = (0..<columns).map { Int32($0 % 4) }
      var codes = [UInt8](repeating: 0, count: lanes)
      var errors = [Float](repeating: 0, count: lanes)
      var loss = [Double](repeating: 0, count: panels * 16)
      var original = ProductTests.random(lanes, seed: 24)
      kernels.gptqBlock(
        panels: panels, columns: columns, weights: &w, weightStride: columns * 16 + 32, original: &original,
        originalStride: columns * 16, u: u, uStride: columns, scales: scales, zeros: zeros,
        parameterStride: 4 * 16, groupOf: groupOf, maximumCode: 15, codes: &codes, errors: &errors,
        losses: &loss)
      return ([w, original], codes, errors, loss)
    }
    let expected = run(try ElementwiseTests.kernels(.scalar))
    let found = run(try ElementwiseTests.kernels(isa))
    #expect(expected.0 == found.0)
    #expect(expected.1 == found.1)
    #expect(expected.2 == found.2)
    #expect(expected.3 == found.3)
  }

  @Test(arguments: InstructionSet.runnable, [1, 3, 9])
  func roundingLossesEqualTheirDefinition(isa: InstructionSet, candidates: Int) throws {
    let columns = 37
    let w = ProductTests.random(columns * 16, seed: 31)
    let importance = ProductTests.random(columns, seed: 32).map { abs($0) }
    // Of both signs.
    let scales = ProductTests.random(candidates * 16, seed: 33).map { $0 < 0 ? $0 - 0.05 : $0 + 0.05 }
    let low = (0..<candidates * 16).map { Float(-8 + $0 % 3) }
    let high = low.map { $0 + 15 }
    var losses = [Float](repeating: -1, count: candidates * 16)
    try ElementwiseTests.kernels(isa).roundingLosses(
      columns: columns, weights: w, importance: importance, candidates: candidates, scales: scales, low: low,
      high: high, losses: &losses)
    for at in losses.indices {
      var sum: Float = 0
      let inverse = 1 / scales[at]
      for i in 0..<columns {
        let weight = w[i * 16 + at % 16]
        let code = min(max((weight * inverse).rounded(.toNearestOrEven), low[at]), high[at])
        let error = weight.addingProduct(-scales[at], code)
        sum.addProduct(error * importance[i], error)
      }
      #expect(losses[at].bitPattern == sum.bitPattern)
    }
  }
}
