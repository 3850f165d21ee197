import ArgumentParser
import Compute
import Files
import Foundation
import PackedModel
import ToolSupport

struct VerifyCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "verify",
    abstract: "Full verification of a .zhinao file beside zlib's own crc32 on the same threads.",
    discussion: """
      zlib's rate is measured on one megabyte per thread, which stays in cache; the file's on all of it, from the page \
      cache. Medians, alternating.

      EXAMPLE
        zhinao-bench verify model.zhinao
      """)

  @Argument(help: "A .zhinao file.") var model: String
  @OptionGroup var repetitions: RepetitionOptions
  @OptionGroup var compute: ComputeOptions
  @OptionGroup var output: OutputOptions

  func run() throws {
    compute.apply()
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
