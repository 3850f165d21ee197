import Compute
import Foundation
import Tensors
import Testing

@Suite struct FactorizationTests {
  /// XᵀX + 1, in the upper triangle; 7 below the diagonal.
  static func positiveDefinite(_ n: Int) -> AlignedBuffer<Float> {
    let rows = n + 20
    let x = ProductTests.random(rows * n, seed: UInt64(n))
    let h = AlignedBuffer<Float>(count: n * n)
    for i in 0..<n {
      for j in 0..<n {
        guard j >= i else {
          h[i * n + j] = 7
          continue
        }
        var sum = i == j ? 1.0 : 0.0
        for t in 0..<rows { sum += Double(x[t * n + i]) * Double(x[t * n + j]) }
        h[i * n + j] = Float(sum)
      }
    }
    return h
  }

  @Test(arguments: [1, 17, 128, 200, 300, 700])
  func factorTimesItsTransposeIsTheMatrix(n: Int) throws {
    let h = Self.positiveDefinite(n)
    let before = AlignedBuffer<Float>(h.array)
    let r = try #require(Factorization.cholesky(ofUpperTriangle: h, order: n))
    var worst = 0.0
    for i in 0..<n {
      for j in i..<n {
        var sum = 0.0
        for k in j..<n { sum += Double(r[i, k]) * Double(r[j, k]) }
        worst = max(worst, abs(sum - Double(before[i * n + j])) / Double(before[i * n + i]))
      }
      for j in 0..<i { #expect(h[i * n + j] == 7) }
    }
    #expect(worst < 1e-5)
  }

  @Test(arguments: [0..<700, 0..<128, 128..<256, 128..<700, 0..<512, 640..<700])
  func inverseOfAnyRunOfBlocks(columns: Range<Int>) throws {
    let n = 700
    let r = try #require(
      Factorization.cholesky(ofUpperTriangle: Self.positiveDefinite(n), order: n))
    let v = r.inverse(ofColumns: columns)
    #expect(v.order == columns.count)
    let first = columns.lowerBound
    var worst = 0.0
    for i in columns {
      for j in i..<columns.upperBound {
        var sum = 0.0
        for k in i...j { sum += Double(r[i, k]) * Double(v[k - first, j - first]) }
        worst = max(worst, abs(sum - (i == j ? 1 : 0)))
      }
    }
    #expect(worst < 1e-4)
    for j in 0..<columns.count { for i in j + 1..<max(j + 1, columns.count) { #expect(v[i, j] == 0) } }
  }

  @Test func threadsAndInstructionSetsDoNotChangeABit() throws {
    let n = 700
    func factors(_ isa: InstructionSet, threads: Int) throws -> (r: [Float], inverse: [Float]) {
      let pool = WorkerPool(threads: threads, kernels: try #require(Kernels(for: isa)))
      let h = Self.positiveDefinite(n)
      let r = try #require(Factorization.cholesky(ofUpperTriangle: h, order: n, pool: pool))
      return (h.array, r.inverse(ofColumns: 0..<n, pool: pool).rows().array)
    }
    let expected = try factors(.scalar, threads: 1)
    for isa in InstructionSet.runnable {
      for threads in 1...3 {
        let found = try factors(isa, threads: threads)
        #expect(found == expected, "\(isa), \(threads) threads")
      }
    }
  }

  @Test func whatIsNotPositiveDefiniteIsRefused() {
    let n = 200
    let h = Self.positiveDefinite(n)
    h[50 * n + 50] = -1
    #expect(Factorization.cholesky(ofUpperTriangle: h, order: n) == nil)
  }
}
