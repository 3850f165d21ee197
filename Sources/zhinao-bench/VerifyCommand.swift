import ArgumentParser
import Compute
import Files
import Foundation
import PackedModel
import Reports
import ToolSupport

struct VerifyCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "verify",
    abstract: "Measure full verification of a .zhinao file beside zlib's crc32 on the same threads.",
    discussion: """
      zlib is measured on one megabyte per thread, which stays in the processor's cache, and the file is \
      measured as a whole, from the page cache. The runs alternate, and medians are printed.

      EXAMPLE
        zhinao-bench verify model.zhinao
      """)

  @Argument(help: "A .zhinao file.") var model: String
  @OptionGroup var repetitions: RepetitionOptions
  @OptionGroup var compute: ComputeOptions
  @OptionGroup(title: "Report") var report: BenchReportOptions
  @OptionGroup var output: OutputOptions

  func run() throws {
    compute.apply()
    let page = try report.claimed()
    let pool = WorkerPool.shared
    let opening = Date()
    let file = try PackedModelFile(path: model)
    let openSeconds = Date().timeIntervalSince(opening)
    guard file.problems().isEmpty else {
      throw FileError(.badContent, path: model, detail: "is damaged: see zhinao-verify integrity")
    }
    let piece = AlignedBuffer<UInt8>(zeros: 1 << 20)
    let sums = AlignedBuffer<UInt32>(zeros: pool.threadCount)
    let rounds = 400
    var zlib: [Double] = []
    var whole: [Double] = []
    for _ in 0..<repetitions.count {
      let seconds = Timing.seconds {
        pool.run(pool.threadCount) { thread in
          for _ in 0..<rounds { sums[thread] ^= Checksum.crc32(UnsafeRawBufferPointer(piece.buffer)) }
        }
      }
      zlib.append(Double(pool.threadCount * rounds * piece.count) / seconds)
      whole.append(Double(file.file.byteCount) / Timing.seconds { _ = file.problems() })
    }
    let (reference, rate) = (Timing.median(zlib), Timing.median(whole))
    try page?.verification(
      self, rate: rate, reference: reference, opening: openSeconds, bytes: file.file.byteCount)
    try output.show([
      "open_seconds": .init(openSeconds), "zlib_gb_per_second": .init(reference / 1e9),
      "verify_gb_per_second": .init(rate / 1e9), "ratio_to_zlib": .init(rate / reference),
      "threads": .init(pool.threadCount), "bytes": .init(file.file.byteCount),
    ]) {
      "full verification \(Format.number(rate / 1e9, digits: 2)) GB/s, zlib's crc32 on \(pool.threadCount) threads "
        + "\(Format.number(reference / 1e9, digits: 2)) GB/s: \(Format.number(rate / reference * 100, digits: 0)) %; "
        + "opened in \(Format.number(openSeconds * 1000, digits: 1)) ms"
    }
  }
}

extension BenchReport {
  /// - Parameters:
  ///   - rate, reference: bytes a second of the verification and of zlib's crc32.
  fileprivate func verification(
    _ command: VerifyCommand, rate: Double, reference: Double, opening: Double, bytes: Int
  ) throws {
    let (reached, zlib) = (Format.number(rate / 1e9, digits: 2), Format.number(reference / 1e9, digits: 2))
    try write(
      title: say("Speed of a full verification", "完整校验的速度"), subject: command.model,
      keyFigures: [
        KeyFigure(say("Full verification, GB/s", "完整校验，GB/s"), reached),
        KeyFigure(say("zlib's crc32, GB/s", "zlib 的 crc32，GB/s"), zlib),
        KeyFigure(say("Opened in", "打开用时"), Format.number(opening * 1000, digits: 1) + " ms"),
        KeyFigure(say("File", "文件"), Format.bytes(bytes)),
      ],
      sections: [
        ReportSection(
          say("Beside zlib", "与 zlib 的对比"),
          [
            .figure(
              ReportFigure(
                say("Bytes per second", "每秒字节数"),
                alternative: say(
                  "Full verification \(reached) GB/s, zlib's crc32 \(zlib) GB/s.",
                  "完整校验 \(reached) GB/s，zlib 的 crc32 \(zlib) GB/s。"),
                .bars(
                  BarChart(
                    axis: "GB/s",
                    bars: [
                      .init(say("Full verification", "完整校验"), rate / 1e9, text: reached),
                      .init(say("zlib's crc32", "zlib 的 crc32"), reference / 1e9, text: zlib),
                    ]))))
          ])
      ], repetitions: command.repetitions.count)
  }
}
