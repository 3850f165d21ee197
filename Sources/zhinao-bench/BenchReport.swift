import ArgumentParser
import Compute
import Reports
import ToolSupport

/// `--report-html`, for commands that print measurements.
struct BenchReportOptions: ParsableArguments {
  @OptionGroup var report: ReportOptions
  @Flag(help: "Replace an existing report.")
  var overwrite = false

  func validate() throws {
    guard report.isAsked || !overwrite else {
      throw ValidationError("--overwrite is for --report-html, which is missing.")
    }
  }

  /// Finds out, before anything is measured, whether the report can be written; nil when none was asked for.
  func claimed() throws -> BenchReport? {
    try report.claimed(overwrites: overwrite).map { BenchReport(file: $0, language: report.reportLanguage) }
  }
}

/// A page of measurements.
struct BenchReport {
  let file: ReportFile
  let language: ReportLanguage

  /// One of two texts.
  func say(_ english: @autoclosure () -> String, _ chinese: @autoclosure () -> String) -> String {
    language.choose(english(), chinese())
  }

  /// - Parameters:
  ///   - subject: the file or the shape that was measured.
  ///   - repetitions: nil: each measurement was made once.
  func write(
    title: String, subject: String, keyFigures: [KeyFigure] = [], sections: [ReportSection], repetitions: Int?
  ) throws {
    let pool = WorkerPool.shared
    var reproduction = Reproduction.fields(language)
    reproduction.append(
      ReportField(
        say("Threads, instructions", "线程数，指令集"), "\(pool.threadCount), \(pool.kernels.name)"))
    if let repetitions {
      reproduction.append(
        ReportField(
          say("Repetitions", "重复次数"), say("\(repetitions), medians are shown", "\(repetitions)，显示中位数")))
    }
    reproduction.append(
      ReportField(say("Peak resident memory", "常驻内存峰值"), Format.bytes(Limits.peakResidentBytes)))
    try file.write(
      Report(
        title: title, subtitle: subject, language: language, generator: ToolVersion.generator,
        summary: keyFigures.isEmpty ? [] : [.keyFigures(keyFigures)], sections: sections,
        reproduction: reproduction,
        reproductionNote: say(
          "Speeds differ from machine to machine, and a little from run to run.", "速度因机器而异，各次运行之间也略有差别。")))
  }

  /// A speed with about four digits.
  func speed(_ value: Double) -> String { Format.number(value, digits: value < 1000 ? 1 : 0) }

  /// The least and the greatest of several measurements, for a key figure.
  func spread(_ values: [Double]) -> String {
    let (least, most) = (values.min() ?? 0, values.max() ?? 0)
    guard values.count > 1 else { return "" }
    return say(
      "from \(speed(least)) to \(speed(most))",
      "\(speed(least)) 至 \(speed(most))")
  }
}
