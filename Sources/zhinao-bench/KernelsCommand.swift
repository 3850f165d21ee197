import ArgumentParser
import FileSupport
import Foundation
import GPTQ
import Numerics
import ToolSupport

struct KernelsCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "zhinao-bench kernels",
    abstract: "Products and factorizations beside the peak of this machine.",
    discussion: """
      EXAMPLE
        zhinao-bench kernels --json
      """)

  @Option(help: ArgumentHelp("Medians of this many runs.", valueName: "n")) var repetitions = 5
  @Option(help: ArgumentHelp("Order of the factorization (default: 4096).", valueName: "n")) var order = 4096
  @OptionGroup var compute: ComputeOptions
  @OptionGroup var output: OutputOptions

  func run() throws {
    compute.apply()
    let (m, k, n) = (2048, 4096, 11008)
    let x = random(m * k)
    let weights = AlignedBuffer<UInt16>(random(n * k).array.map { UInt16($0.bitPattern >> 16) })
    let matrix = WeightMatrix.rows(
      RowMatrix(elements: weights.pointer, dtype: .bf16, outFeatures: n, inFeatures: k, owner: weights))
    let y = AlignedBuffer<Float>(count: m * n)
    let wide = random(m * n)
    let h = AlignedBuffer<Float>(zeros: n * n)
    var peaks: [Double] = []
    var gemm: [Double] = []
    var gram: [Double] = []
    var factor: [Double] = []
    for _ in 0..<repetitions {
      peaks.append(Limits.peakFlops())
      gemm.append(
        Timing.seconds {
          LinearAlgebra.multiply(
            x: x.pointer, rows: m, xRowStride: k, by: matrix, into: y.pointer, yRowStride: n)
        })
      gram.append(
        Timing.seconds {
          LinearAlgebra.accumulateGram(h.pointer, order: n, x: wide.pointer, rows: m, rowStride: n)
        })
      let spd = positiveDefinite(order)
      factor.append(
        Timing.seconds {
          _ = Factorization.cholesky(ofUpperTriangle: spd, order: order)?.inverse(ofColumns: 0..<order)
        })
    }
    let peak = Timing.median(peaks)
    let work: [(String, Double, Double)] = [
      ("x · Wᵀ, \(m)×\(k)×\(n), bf16 weights", 2 * Double(m) * Double(k) * Double(n), Timing.median(gemm)),
      ("XᵀX, X \(m)×\(n), upper half", Double(m) * Double(n) * Double(n + 1), Timing.median(gram)),
      ("upper factor of H⁻¹, n = \(order)", 2 * pow(Double(order), 3) / 3, Timing.median(factor)),
    ]
    output.show(
      [
        "measured_gflops": .init(peak / 1e9), "threads": .init(WorkerPool.shared.threadCount),
        "isa": .string(Kernels.best.name),
        "rows": .array(
          work.map {
            [
              "name": .string($0.0), "seconds": .init($0.2), "gflops": .init($0.1 / $0.2 / 1e9),
              "ratio_to_peak": .init($0.1 / $0.2 / peak),
            ]
          }),
      ]
    ) {
      Format.table(
        [["work", "time", "GFLOP/s", "of the peak"]]
          + work.map {
            [
              $0.0, Format.number($0.2, digits: 3) + " s", Format.number($0.1 / $0.2 / 1e9, digits: 0),
              Format.number($0.1 / $0.2 / peak * 100, digits: 1) + " %",
            ]
          })
        + "\n\npeak \(Format.number(peak / 1e9, digits: 0)) GFLOP/s, \(WorkerPool.shared.threadCount) threads, \(Kernels.best.name)"
    }
  }

  private func random(_ count: Int) -> AlignedBuffer<Float> {
    let buffer = AlignedBuffer<Float>(count: count)
    var state: UInt32 = 12345
    for i in 0..<count {
      state = state &* 1_664_525 &+ 1_013_904_223
      buffer[i] = Float(Int32(bitPattern: state)) / Float(Int32.max)
    }
    return buffer
  }

  /// XᵀX of random X with more rows than columns, plus a little on the diagonal.
  private func positiveDefinite(_ n: Int) -> AlignedBuffer<Float> {
    let h = AlignedBuffer<Float>(zeros: n * n)
    let rows = n + n / 8
    let x = random(rows * n)
    LinearAlgebra.accumulateGram(h.pointer, order: n, x: x.pointer, rows: rows, rowStride: n)
    for i in 0..<n { h[i * n + i] += 0.01 * Float(rows) }
    return h
  }
}
