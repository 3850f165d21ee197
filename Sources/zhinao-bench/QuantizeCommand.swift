import ArgumentParser
import Compute
import Files
import Foundation
import Quantization
import Reports
import Tensors
import ToolSupport
import Transformer

struct QuantizeCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "quantize",
    abstract: "Measure GPTQ of single Linear layers: Hessian, factor, column loop.",
    discussion: """
      EXAMPLE
        zhinao-bench quantize --tokens 16384
      """)

  @Option(parsing: .unconditional, help: ArgumentHelp("Number of calibration tokens.", valueName: "n"))
  var tokens = 16384
  @Option(
    help: ArgumentHelp(
      "Inputs x outputs; KxN+N for layers that share inputs, like gate and up. The default is a 7B model's layers.",
      valueName: "KxN"))
  var shape: [String] = ["4096x4096", "4096x11008", "4096x11008+11008", "11008x4096"]
  @OptionGroup var compute: ComputeOptions
  @OptionGroup(title: "Report") var report: BenchReportOptions
  @OptionGroup var output: OutputOptions

  func validate() throws {
    try OptionRange.check("--tokens", tokens, 1...1 << 20)
    for text in shape {
      let (inputs, outputs) = try QuantizeCommand.sizes(text)
      // The Hessian, its factor and the factor's inverse, and the weights twice.
      let floats = 3 * inputs * inputs + (2 * (outputs.max() ?? 0) + 2048) * inputs
      try MemoryCheck.require(4 * floats, for: "--shape \(text)")
    }
  }

  /// K and the Ns of `KxN+N`.
  private static func sizes(_ text: String) throws -> (inputs: Int, outputs: [Int]) {
    let sides = text.bytes.split(separator: "x")
    let inputs = Int(sides[0]) ?? 0
    let outputs = sides.count == 2 ? sides[1].bytes.split(separator: "+").map { Int($0) ?? 0 } : []
    guard !outputs.isEmpty, ([inputs] + outputs).allSatisfy({ $0 > 0 && $0 % 32 == 0 && $0 <= 65536 }) else {
      throw ValidationError("--shape \(text): expected KxN or KxN+N, multiples of 32 up to 65536.")
    }
    return (inputs, outputs)
  }

  func run() throws {
    compute.apply()
    let page = try report.claimed()
    var rows: [(shape: String, hessian: Double, factor: Double, loop: Double)] = []
    for text in shape {
      let (inputs, outputs) = try QuantizeCommand.sizes(text)
      rows.append(try measure(text, inputs, outputs))
    }
    try page?.quantization(rows, tokens: tokens)
    try output.show(
      .array(
        rows.map {
          [
            "shape": .string($0.shape), "hessian_seconds": .init($0.hessian),
            "factor_seconds": .init($0.factor),
            "loop_seconds": .init($0.loop), "seconds": .init($0.hessian + $0.factor + $0.loop),
          ]
        })
    ) {
      Format.table(
        [["inputs x outputs", "Hessian", "factor", "column loop", "in all"]]
          + rows.map { row in
            [row.shape]
              + [row.hessian, row.factor, row.loop, row.hessian + row.factor + row.loop].map {
                Format.number($0, digits: 2) + " s"
              }
          })
    }
  }

  /// One Hessian and one factor for all matrices of `outputs` rows.
  private func measure(_ name: String, _ k: Int, _ outputs: [Int]) throws -> (String, Double, Double, Double)
  {
    let step = min(tokens, 2048)
    let x = AlignedBuffer<Float>(count: step * k)
    let w = AlignedBuffer<Float>(count: (outputs.max() ?? 0) * k)
    var state: UInt32 = 1
    for buffer in [x, w] {
      for i in 0..<buffer.count {
        state = state &* 1_664_525 &+ 1_013_904_223
        buffer[i] = Float(Int32(bitPattern: state)) / Float(Int32.max)
      }
    }
    let recipe = QuantizationRecipe()
    let hessian = Hessian(order: k)
    let first = Timing.seconds {
      for _ in stride(from: 0, to: tokens, by: step) { hessian.add(x.pointer, rows: step, pool: .shared) }
    }
    var prepared: PreparedHessian?
    let second = try Timing.seconds {
      prepared = try PreparedHessian(hessian, sequences: max(1, tokens / 512), recipe: recipe, name: name)
    }
    let third = try Timing.seconds {
      let solver = Solver(recipe: recipe)
      for n in outputs {
        let matrix = WeightMatrix.rows(
          RowMatrix(elements: w.pointer, dtype: .f32, outFeatures: n, inFeatures: k, owner: w))
        _ = try solver.solve(matrix, hessian: prepared, module: name)
      }
    }
    return (name, first, second, third)
  }
}

extension BenchReport {
  fileprivate func quantization(
    _ rows: [(shape: String, hessian: Double, factor: Double, loop: Double)], tokens: Int
  ) throws {
    func total(_ row: (shape: String, hessian: Double, factor: Double, loop: Double)) -> Double {
      row.hessian + row.factor + row.loop
    }
    try write(
      title: say("GPTQ of single Linear layers", "单个线性层的 GPTQ"),
      subject: say("\(tokens) calibration tokens", "\(tokens) 个校准词元"),
      sections: [
        ReportSection(
          say("Time", "用时"),
          [
            .figure(
              ReportFigure(
                say("Time by shape", "各形状的用时"),
                alternative: rows.map { "\($0.shape): \(Format.number(total($0), digits: 2)) s" }.joined(
                  separator: "; ") + ".",
                .bars(
                  BarChart(
                    axis: say("Seconds", "秒"),
                    bars: rows.map {
                      .init($0.shape, total($0), text: Format.number(total($0), digits: 2) + " s")
                    }
                  )))),
            .table(
              ReportTable(
                columns: [
                  .text(say("Inputs × outputs", "输入 × 输出")), .number(say("Hessian, s", "Hessian，秒")),
                  .number(say("Factor, s", "分解，秒")), .number(say("Column loop, s", "逐列循环，秒")),
                  .number(say("In all, s", "合计，秒")),
                ],
                rows: rows.map { row in
                  [row.shape]
                    + [row.hessian, row.factor, row.loop, total(row)].map { Format.number($0, digits: 2) }
                })),
          ])
      ], repetitions: nil)
  }
}
