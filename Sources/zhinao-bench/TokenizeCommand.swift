import ArgumentParser
import Files
import Foundation
import Reports
import Tokenization
import ToolSupport

struct TokenizeCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "tokenize",
    abstract: "Measure the speed of encoding a text.",
    discussion: """
      Every run encodes the whole text from a string to an array of ids. Nothing is cached between runs, \
      but the vocabulary and the caches of the processor are warm.

      EXAMPLE
        zhinao-bench tokenize vocab/360.tiktoken corpus.txt
      """)

  @Argument(help: "A vocabulary (.tiktoken or tokenizer.json) or a model folder.") var vocabulary: String
  @Argument(help: "A text file.") var text: String
  @OptionGroup var repetitions: RepetitionOptions
  @OptionGroup(title: "Report") var report: BenchReportOptions
  @OptionGroup var output: OutputOptions

  func run() throws {
    let page = try report.claimed()
    var isFolder: ObjCBool = false
    _ = FileManager.default.fileExists(atPath: vocabulary, isDirectory: &isFolder)
    var tokenizer: (any Tokenizer)?
    let load = try Timing.seconds {
      tokenizer =
        isFolder.boolValue
        ? try TokenizerLoader.load(FolderFiles(vocabulary)) : try TokenizerLoader.load(file: vocabulary)
    }
    let content = String(decoding: try Gzip.contents(ofFile: text), as: UTF8.self)
    guard let tokenizer, !content.isEmpty else {
      throw FileError(.badContent, path: text, detail: "holds no text")
    }
    var tokens = 0
    let times = (0..<repetitions.count).map { _ in
      Timing.seconds { tokens = tokenizer.encode(content).count }
    }
    let seconds = Timing.median(times)
    let rate = Double(content.utf8.count) / seconds
    try page?.tokenization(
      self, rates: times.map { Double(content.utf8.count) / $0 }, bytes: content.utf8.count, tokens: tokens,
      load: load)
    try output.show([
      "bytes": .init(content.utf8.count), "tokens": .init(tokens), "seconds": .init(seconds),
      "bytes_per_second": .init(rate), "load_seconds": .init(load),
    ]) {
      "\(Format.bytes(content.utf8.count)), \(tokens) tokens: \(Format.bytes(Int(rate)))/s on one thread; vocabulary loaded in "
        + "\(Format.number(load * 1000, digits: 0)) ms"
    }
  }
}

extension BenchReport {
  /// - Parameter rates: bytes a second of each repetition.
  fileprivate func tokenization(
    _ command: TokenizeCommand, rates: [Double], bytes: Int, tokens: Int, load: Double
  ) throws {
    let megabytes = rates.map { $0 / 1e6 }
    try write(
      title: say("Speed of encoding a text", "文本编码速度"), subject: "\(command.vocabulary), \(command.text)",
      keyFigures: [
        KeyFigure(
          say("MB/s on one thread", "单线程 MB/s"), Format.number(Timing.median(megabytes), digits: 1),
          detail: spread(megabytes)),
        KeyFigure(say("Text", "文本"), Format.bytes(bytes), detail: say("\(tokens) tokens", "\(tokens) 个词元")),
        KeyFigure(say("Load", "加载"), Format.number(load * 1000, digits: 0) + " ms"),
      ],
      sections: [
        ReportSection(
          say("Single runs", "各次运行"),
          [
            .figure(
              ReportFigure(
                say("Speed of each run", "各次运行的速度"),
                alternative: say(
                  "\(rates.count) runs, \(spread(megabytes)) MB/s.",
                  "共 \(rates.count) 次，\(spread(megabytes)) MB/s。"),
                .bars(
                  BarChart(
                    axis: "MB/s",
                    bars: megabytes.enumerated().map {
                      .init(say("Run \($0 + 1)", "第 \($0 + 1) 次"), $1, text: Format.number($1, digits: 1))
                    }, reference: Timing.median(megabytes), referenceLabel: say("median", "中位数")))))
          ])
      ], repetitions: rates.count)
  }
}
