import CKernels
import Compute
import Foundation
import Testing

@Suite struct ElementwiseTests {
  static let lengths = [1, 7, 16, 31, 64, 1000]

  static func table(_ isa: InstructionSet) throws -> zn_kernels {
    try #require(Kernels(for: isa)).table.pointee
  }

  @Test(arguments: InstructionSet.runnable) func exponentialIsWithinTwoUlps(isa: InstructionSet) throws {
    let table = try ElementwiseTests.table(isa)
    var inputs = (0..<20_000).map { -87 + Float($0) * (175.0 / 20_000) }
    inputs += [0, -0.0, -100, -.infinity, 1e-8, -1e-8]
    var outputs = inputs
    _ = table.exp_sum(&outputs, 0, Int64(inputs.count))
    for (x, y) in zip(inputs, outputs) {
      let exact = Foundation.exp(Double(x))
      if x < -87.33 {
        #expect(y == 0)
      } else {
        #expect(abs(Double(y) - exact) <= 2 * Double(Float(exact).ulp), "exp(\(x)) = \(y)")
      }
    }
    var nan: [Float] = [.nan]
    _ = table.exp_sum(&nan, 0, 1)
    #expect(nan[0].isNaN)
  }

  @Test(arguments: InstructionSet.runnable, lengths)
  func everyTableEqualsScalarBitForBit(isa: InstructionSet, n: Int) throws {
    let scalar = try ElementwiseTests.table(.scalar)
    let table = try ElementwiseTests.table(isa)
    let a = ProductTests.random(n, seed: 11)
    let b = ProductTests.random(n, seed: 12)
    let count = Int64(n)
    func both(_ operation: (zn_kernels) -> [Float]) -> Bool {
      operation(scalar).map(\.bitPattern) == operation(table).map(\.bitPattern)
    }
    #expect(
      both { t in
        var y = a
        t.rms_norm(&y, a, b, count, 1e-5)
        return y
      })
    #expect(
      both { t in
        var y = a
        t.add(&y, b, count)
        return y
      })
    #expect(
      both { t in
        var y = a
        t.silu_multiply(&y, a.map { $0 * 30 }, b, count)
        return y
      })
    #expect(
      both { t in
        var y = a
        let s = t.exp_sum(&y, 0.5, count)
        return y + [s]
      })
    #expect(both { t in [Float(t.sum_exp(a, 0.25, count)), t.maximum(a, count)] })
    #expect(
      both { t in
        var y = a
        t.scale(&y, 0.37, count)
        return y
      })
    if n % 2 == 0 {
      let half = n / 2
      #expect(
        both { t in
          var y = a
          t.rotate(&y, Array(b[..<half]), Array(b[half...]), count)
          return y
        })
    }
    for type in [ZN_F16, ZN_BF16] {
      let extremes: [Float] = [
        0, -0.0, 1e-8, 6e-8, 65504, 65519, 65520, 1e30, .infinity, -.infinity, 5.9e-8,
        Float(bitPattern: 0x20_0000),
      ]
      let values = a + extremes
      var first = [UInt16](repeating: 0, count: values.count)
      var second = first
      scalar.narrow(&first, values, type, Int64(values.count))
      table.narrow(&second, values, type, Int64(values.count))
      #expect(first == second)
      if type == ZN_F16 { #expect(first == values.map { Float16($0).bitPattern }) }
    }
  }

  @Test(arguments: InstructionSet.runnable) func halfPrecisionWidensLikeTheHardware(isa: InstructionSet)
    throws
  {
    let table = try ElementwiseTests.table(isa)
    let all = (0..<65_536).map { UInt16($0) }
    var wide = [Float](repeating: 0, count: all.count)
    table.widen(&wide, all, ZN_F16, Int64(all.count))
    let expected = all.map { Float(Float16(bitPattern: $0)) }
    #expect(zip(wide, expected).allSatisfy { $0.bitPattern == $1.bitPattern || ($0.isNaN && $1.isNaN) })
  }

  @Test(arguments: InstructionSet.runnable, [1, 31, 128])
  func gptqBlockEqualsScalarBitForBit(isa: InstructionSet, columns: Int) throws {
    let panels = 3
    let lanes = panels * columns * 16
    let parameters = ProductTests.random(panels * 4 * 16, seed: 23)
    func run(_ table: zn_kernels) -> ([[Float]], [UInt8], [Float], [Double]) {
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
      table.gptq_block(
        Int64(panels), Int64(columns), &w, Int64(columns * 16 + 32), &original, Int64(columns * 16), u,
        Int64(columns), scales, zeros, 4 * 16, groupOf, 15, &codes, &errors, &loss)
      return ([w, original], codes, errors, loss)
    }
    let expected = run(try ElementwiseTests.table(.scalar))
    let found = run(try ElementwiseTests.table(isa))
    #expect(expected.0 == found.0)
    #expect(expected.1 == found.1)
    #expect(expected.2 == found.2)
    #expect(expected.3 == found.3)
  }
}
