import ArgumentParser
import Compute
import Foundation
import Reports
import Tensors
import ToolSupport

struct KernelsCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "kernels",
    abstract: "Measure products and factorizations beside the peak of this machine.",
    discussion: """
      EXAMPLE
        zhinao-bench kernels --json
      """)

  @OptionGroup var repetitions: RepetitionOptions
  @Option(
    parsing: .unconditional, help: ArgumentHelp("Order of the matrix that is factored.", valueName: "n"))
  var order = 4096
  @OptionGroup var compute: ComputeOptions
  @OptionGroup(title: "Report") var report: BenchReportOptions
  @OptionGroup var output: OutputOptions

  func validate() throws {
    try OptionRange.check("--order", order, 16...16384)
  }

  func run() throws {
    compute.apply()
    let page = try report.claimed()
    let (m, k, n) = (2048, 4096, 11008)
    let x = random(m * k)
    let weights = AlignedBuffer<UInt16>(random(n * k).array.map { UInt16($0.bitPattern >> 16) })
    let matrix = WeightMatrix.rows(
      RowMatrix(elements: weights.pointer, dtype: .bf16, outFeatures: n, inFeatures: k, owner: weights))
    let y = AlignedBuffer<Float>(count: m * n)
    let wide = random(m * n)
    let h = AlignedBuffer<Float>(zeros: n * n)
    var works = [
      BracketedWork(
        "x · Wᵀ, \(m)×\(k)×\(n), bf16 weights", operations: 2 * Double(m) * Double(k) * Double(n)),
      BracketedWork("XᵀX, X \(m)×\(n), upper half", operations: Double(m) * Double(n) * Double(n + 1)),
      BracketedWork("upper factor of H⁻¹, n = \(order)", operations: 2 * pow(Double(order), 3) / 3),
    ]
    var bursts: [Double] = []
    for _ in 0..<repetitions.count {
      bursts.append(Limits.peakFlops())
      works[0].measure {
        LinearAlgebra.multiply(
          x: x.pointer, rows: m, xRowStride: k, by: matrix, into: y.pointer, yRowStride: n)
      }
      works[1].measure {
        LinearAlgebra.accumulateGram(h.pointer, order: n, x: wide.pointer, rows: m, rowStride: n)
      }
      let spd = positiveDefinite(order)
      works[2].measure {
        _ = Factorization.cholesky(ofUpperTriangle: spd, order: order)?.inverse(ofColumns: 0..<order)
      }
    }
    let peak = Timing.median(works.flatMap(\.peaks))
    let burst = Timing.median(bursts)
    try page?.kernels(works, peak: peak, repetitions: repetitions.count)
    try output.show(
      [
        "measured_gflops": .init(peak / 1e9), "burst_gflops": .init(burst / 1e9),
        "threads": .init(WorkerPool.shared.threadCount), "isa": .string(WorkerPool.shared.kernels.name),
        "rows": .array(
          works.map {
            [
              "name": .string($0.name), "seconds": .init($0.seconds), "gflops": .init($0.rate / 1e9),
              "ratio_to_peak": .init($0.ratioToPeak), "ratio_to_burst": .init($0.rate / burst),
            ]
          }),
      ]
    ) {
      Format.table(
        [["work", "time", "GFLOP/s", "of the peak"]]
          + works.map {
            [
              $0.name, Format.number($0.seconds, digits: 3) + " s", Format.number($0.rate / 1e9, digits: 0),
              Format.number($0.ratioToPeak * 100, digits: 1) + " %",
            ]
          })
        + "\n\npeak \(Format.number(peak / 1e9, digits: 0)) GFLOP/s before and after each, \(Format.number(burst / 1e9, digits: 0)) "
        + "in the best milliseconds, \(WorkerPool.shared.threadCount) threads, \(WorkerPool.shared.kernels.name)"
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

/// Times of one piece of work, each between two measurements of what the cores can do.
private struct BracketedWork {
  let name: String
  let operations: Double
  private var times: [Double] = []
  private(set) var peaks: [Double] = []

  init(_ name: String, operations: Double) { (self.name, self.operations) = (name, operations) }

  mutating func measure(_ body: () -> Void) {
    let before = Limits.sustainedFlops()
    times.append(Timing.seconds(body))
    peaks.append((before + Limits.sustainedFlops()) / 2)
  }

  var seconds: Double { Timing.median(times) }
  var rate: Double { operations / seconds }
  /// The median of each time's share of the peak around it.
  var ratioToPeak: Double { Timing.median(zip(times, peaks).map { operations / $0 / $1 }) }
}

extension BenchReport {
  fileprivate func kernels(_ works: [BracketedWork], peak: Double, repetitions: Int) throws {
    let rates = works.map { Format.number($0.rate / 1e9, digits: 0) }
    try write(
      title: say("Products and factorizations", "矩阵乘法与分解"), subject: "",
      sections: [
        ReportSection(
          say("Beside the peak of this machine", "与本机峰值的对比"),
          [
            .figure(
              ReportFigure(
                say("Floating-point operations per second", "每秒浮点运算次数"),
                alternative: zip(works, rates).map { "\($0.name): \($1) GFLOP/s" }.joined(separator: "; ")
                  + ".",
                .bars(
                  BarChart(
                    axis: "GFLOP/s", bars: works.map { .init($0.name, $0.rate / 1e9) }, reference: peak / 1e9,
                    referenceLabel: say("peak before and after each", "各项前后测得的峰值"))))),
            .table(
              ReportTable(
                columns: [
                  .text(say("Work", "任务")), .number(say("Time, s", "用时，秒")), .number("GFLOP/s"),
                  .number(say("Of the peak, %", "占峰值，%")),
                ],
                rows: zip(works, rates).map {
                  [
                    $0.name, Format.number($0.seconds, digits: 3), $1,
                    Format.number($0.ratioToPeak * 100, digits: 1),
                  ]
                })),
          ])
      ], repetitions: repetitions)
  }
}
