import Architecture
import ArgumentParser
import Compute
import Files
import Foundation
import JSON
import Models
import Reports
import Tensors
import ToolSupport
import Transformer

struct EncoderCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "encoder",
    abstract: "Texts and tokens a second of an encoder or a cross-encoder.",
    discussion: """
      Texts are random token ids of the lengths given, all of one length in a batch; speed does not depend on which \
      they are. A batch runs once, uncounted, before those that are counted; medians are printed, and beside them \
      the floating-point peak measured in the same run.

      EXAMPLES
        zhinao-bench encoder minilm/
        zhinao-bench encoder bge-int8.zhinao --arithmetic fast --tokens 128 --batches 1,32 --json
      """)

  @Argument(help: "An encoder: .zhinao file or folder.") var model: String
  @Option(help: ArgumentHelp("Tokens of a text, separated by commas.", valueName: "list"))
  var tokens = "32,128,512"
  @Option(help: ArgumentHelp("Texts of a batch, separated by commas.", valueName: "list"))
  var batches = "1,32"
  @OptionGroup var repetitions: RepetitionOptions
  @OptionGroup var products: ArithmeticOptions
  @OptionGroup var opening: OpeningOptions
  @OptionGroup var compute: ComputeOptions
  @OptionGroup(title: "Report") var report: BenchReportOptions
  @OptionGroup var output: OutputOptions

  private func numbers(_ option: String, _ text: String, _ range: ClosedRange<Int>) throws -> [Int] {
    let parts = text.utf8.split(separator: UInt8(ascii: ","), omittingEmptySubsequences: false)
    return try parts.map { part in
      guard let number = Int(String(decoding: part, as: UTF8.self)), range.contains(number) else {
        throw ValidationError(
          "\(option) is \"\(text)\"; expected numbers from \(range.lowerBound) to \(range.upperBound), "
            + "separated by commas.")
      }
      return number
    }
  }

  func validate() throws {
    _ = try numbers("--tokens", tokens, 1...1 << 20)
    _ = try numbers("--batches", batches, 1...1 << 16)
  }

  fileprivate struct Row {
    var tokens: Int, batch: Int
    var seconds: Double
    var operations: Double
    var textsPerSecond: Double { Double(batch) / seconds }
  }

  func run() throws {
    compute.apply()
    let page = try report.claimed()
    var opened: OpenedModel?
    var encoder: Encoder?
    let arithmetic = products.arithmetic ?? .fast
    let loadSeconds = try Timing.seconds {
      opened = try opening.open(model, accepting: .encoders)
      encoder = try opened?.encoder(arithmetic: arithmetic)
    }
    guard let opened, let encoder else { return }
    let c = encoder.configuration
    let lengths = try numbers("--tokens", tokens, 1...1 << 20)
    guard let longest = lengths.max(), longest <= c.positionCount else {
      throw ValidationError("\(model) has \(c.positionCount) positions; --tokens asks for more.")
    }
    var rows: [Row] = []
    let inBytes = opened.quantization != nil && arithmetic != .exact
    var peaks: [Double] = []
    for length in lengths {
      for batch in try numbers("--batches", batches, 1...1 << 16) {
        let texts: [Encoder.Input] = (0..<batch).map { text in
          (
            (0..<length).map { (1 + text * 7919 + $0 * 104_729) % c.vocabularySize },
            [Int](repeating: 0, count: length)
          )
        }
        _ = encoder.hiddenStates(texts)
        // A batch of one short text takes a millisecond: many count as one.
        let rounds = max(1, 512 / (length * batch))
        var seconds: [Double] = []
        for _ in 0..<repetitions.count {
          peaks.append(inBytes ? Limits.peakByteOperations() : Limits.peakFlops())
          seconds.append(
            Timing.seconds { for _ in 0..<rounds { _ = encoder.hiddenStates(texts) } } / Double(rounds))
        }
        rows.append(
          Row(
            tokens: length, batch: batch, seconds: Timing.median(seconds),
            operations: operations(c, tokens: length, batch: batch)))
      }
    }
    let peak = Timing.median(peaks)
    let unit = inBytes ? "GOP/s" : "GFLOP/s"
    let json: JSONValue = [
      "model": .string(model), "arithmetic": .string(arithmetic.rawValue), "load_seconds": .init(loadSeconds),
      "threads": .init(WorkerPool.shared.threadCount), "isa": .string(WorkerPool.shared.kernels.name),
      "measured_gops": .init(peak / 1e9), "peak_rss_bytes": .init(Limits.peakResidentBytes),
      "repetitions": .init(repetitions.count),
      "rows": .array(
        rows.map {
          [
            "tokens": .init($0.tokens), "batch": .init($0.batch), "seconds": .init($0.seconds),
            "texts_per_second": .init($0.textsPerSecond),
            "tokens_per_second": .init($0.textsPerSecond * Double($0.tokens)),
            "gops": .init($0.operations / $0.seconds / 1e9),
            "peak_ratio": .init($0.operations / $0.seconds / peak),
          ]
        }),
    ]
    try page?.encoder(self, rows: rows, peak: peak, unit: unit, load: loadSeconds)
    try output.show(json) {
      Format.table(
        [["tokens", "texts", "ms", "texts/s", "tokens/s", unit, "of the peak"]]
          + rows.map {
            [
              "\($0.tokens)", "\($0.batch)", Format.number($0.seconds * 1000, digits: 2),
              Format.number($0.textsPerSecond, digits: 1),
              Format.number($0.textsPerSecond * Double($0.tokens), digits: 0),
              Format.number($0.operations / $0.seconds / 1e9, digits: 0),
              Format.number(100 * $0.operations / $0.seconds / peak, digits: 0) + " %",
            ]
          })
        + "\n\n"
        + Format.table([
          ["peak of products on registers", Format.number(peak / 1e9, digits: 0) + " " + unit],
          ["load", Format.number(loadSeconds * 1000, digits: 1) + " ms"],
          ["peak resident memory", Format.bytes(Limits.peakResidentBytes)],
          ["threads, instructions", "\(WorkerPool.shared.threadCount), \(WorkerPool.shared.kernels.name)"],
        ])
    }
  }

  /// Multiplications and additions of the projections and of attention.
  private func operations(_ c: EncoderConfiguration, tokens: Int, batch: Int) -> Double {
    let hidden = Double(c.hiddenSize)
    let each = 4 * hidden * hidden + 2 * hidden * Double(c.intermediateSize) + 2 * Double(tokens) * hidden
    return 2 * Double(tokens * batch * c.layerCount) * each
  }
}

extension BenchReport {
  /// - Parameter peak: operations a second that the machine can do.
  fileprivate func encoder(
    _ command: EncoderCommand, rows: [EncoderCommand.Row], peak: Double, unit: String, load: Double
  ) throws {
    func name(_ row: EncoderCommand.Row) -> String {
      say("\(row.batch) × \(row.tokens) tokens", "\(row.batch) 段 × \(row.tokens) 词元")
    }
    let best = rows.max { $0.textsPerSecond < $1.textsPerSecond }
    let shares = rows.map { 100 * $0.operations / $0.seconds / peak }
    try write(
      title: say("Speed of \(PathParts(command.model).name)", "\(PathParts(command.model).name) 的速度"),
      subject: command.model,
      keyFigures: [
        KeyFigure(
          say("Most texts/s", "最快，段/秒"), best.map { Format.number($0.textsPerSecond, digits: 1) } ?? "–",
          detail: best.map(name) ?? ""),
        KeyFigure(say("Peak memory", "内存峰值"), Format.bytes(Limits.peakResidentBytes)),
        KeyFigure(say("Load", "加载"), Format.number(load * 1000, digits: 1) + " ms"),
      ],
      sections: [
        ReportSection(
          say("Throughput", "吞吐量"),
          [
            .figure(
              ReportFigure(
                say("Tokens per second", "每秒词元数"),
                alternative: rows.map {
                  "\(name($0)): \(Format.number($0.textsPerSecond * Double($0.tokens), digits: 0))"
                }.joined(separator: "; ") + ".",
                .bars(
                  BarChart(
                    axis: say("Tokens per second", "词元每秒"),
                    bars: rows.map {
                      let rate = $0.textsPerSecond * Double($0.tokens)
                      return .init(name($0), rate, text: Format.number(rate, digits: 0))
                    })))),
            .figure(
              ReportFigure(
                say("Share of the machine's peak", "占本机峰值的比例"),
                alternative: zip(rows, shares).map { "\(name($0)): \(Format.number($1, digits: 0)) %" }
                  .joined(
                    separator: "; ") + ".",
                .bars(
                  BarChart(
                    axis: "%",
                    bars: zip(rows, shares).map {
                      .init(name($0), $1, text: Format.number($1, digits: 0) + " %")
                    },
                    reference: 100,
                    referenceLabel: say("peak of products on registers", "寄存器上乘法的峰值"))),
                note: "\(Format.number(peak / 1e9, digits: 0)) \(unit)")),
            .table(
              ReportTable(
                columns: [
                  .number(say("Tokens", "词元")), .number(say("Texts", "段")), .number("ms"),
                  .number(say("Texts/s", "段/秒")), .number(say("Tokens/s", "词元/秒")), .number(unit),
                ],
                rows: rows.map {
                  [
                    "\($0.tokens)", "\($0.batch)", Format.number($0.seconds * 1000, digits: 2),
                    Format.number($0.textsPerSecond, digits: 1),
                    Format.number($0.textsPerSecond * Double($0.tokens), digits: 0),
                    Format.number($0.operations / $0.seconds / 1e9, digits: 0),
                  ]
                })),
          ])
      ], repetitions: command.repetitions.count)
  }
}
