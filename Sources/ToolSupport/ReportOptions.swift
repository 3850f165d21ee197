import ArgumentParser
import Files
import Foundation
import Reports

extension ReportLanguage: ExpressibleByArgument {}

/// `--report-html` and `--report-language`, for commands whose numbers make pictures.
package struct ReportOptions: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "Also write the results as a page with figures, one file that needs nothing else. A name that ends in .md gives Markdown, for a "
        + "model card.", valueName: "file.html"))
  package var reportHtml: String?

  @Option(help: ArgumentHelp("Language of the report: en or zh.", valueName: "language"))
  package var reportLanguage = ReportLanguage.english

  package init() {}

  package func validate() throws { _ = try file() }

  /// - Throws: a usage error for a name that says no format.
  private func file() throws -> ReportFile? {
    guard let reportHtml else { return nil }
    do throws(ReportFileError) { return try ReportFile(path: reportHtml, option: "--report-html") } catch {
      throw ValidationError(error.description)
    }
  }

  /// Whether a report was asked for.
  package var isAsked: Bool { reportHtml != nil }

  /// Finds out, before work starts, whether the report can be written.
  /// - Returns: nil when none was asked for.
  package func claimed(overwrites: Bool) throws -> ReportFile? {
    let file = try file()
    try file?.checkWritable(overwrites: overwrites)
    return file
  }
}

/// What someone needs to repeat a run.
package enum Reproduction {
  /// The command line, quoted for a shell.
  package static var command: String {
    let arguments = CommandLine.arguments.enumerated().map { $0 == 0 ? PathParts($1).name : $1 }
    return arguments.map(quoted).joined(separator: " ")
  }

  private static func quoted(_ argument: String) -> String {
    let isPlain = argument.utf8.allSatisfy { byte in
      switch byte {
      case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
        UInt8(ascii: "0")...UInt8(ascii: "9"), 0x80...0xFF:
        true
      default: "-_./:=,+@%".utf8.contains(byte)
      }
    }
    return isPlain && !argument.isEmpty ? argument : "'" + argument.bytes.replacing("'", with: "'\\''") + "'"
  }

  /// Command, version and date, the same for every tool.
  package static func fields(_ language: ReportLanguage) -> [ReportField] {
    [
      ReportField(language.choose("Command", "命令"), command),
      ReportField(language.choose("Program", "程序"), ToolVersion.generator),
      ReportField(
        language.choose("Date", "日期"), Date().formatted(.iso8601)),
    ]
  }

  /// SHA-256 of files, and of the files of folders, a field each.
  package static func digests(of paths: [String]) throws -> [ReportField] {
    try DigestOptions.digests(of: paths).map { ReportField("SHA-256, \($0.path)", $0.sha256) }
  }
}

/// Memory of this process.
package enum ProcessMemory {
  /// The most that was resident at one time, in bytes.
  package static var peakResidentBytes: Int {
    var usage = rusage()
    getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &usage)
    return usage.ru_maxrss * 1024
  }

  /// The processor's name and the peak of memory, for reports. Linux tells the name.
  package static func fields(_ language: ReportLanguage) -> [ReportField] {
    let text = (try? String(contentsOfFile: "/proc/cpuinfo", encoding: .utf8)) ?? ""
    let line = text.split(separator: "\n").first { $0.hasPrefix("model name") }
    var fields = [
      ReportField(
        language.choose("Peak memory of the process", "进程峰值内存"), Format.bytes(peakResidentBytes))
    ]
    if let name = line?.split(separator: ":").last.map({ String($0).bytes.trimmed }) {
      fields.append(ReportField(language.choose("Processor", "处理器"), name))
    }
    return fields
  }
}
