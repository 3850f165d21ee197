import Files
import Foundation
import JSON
import TestSupport
import Testing

/// `--report-html` of commands whose main result is something else.
@Suite struct ReportCommandTests {
  private static let calibration = [
    "--calibration", Fixture.tinyZhinao + "/calibration.json", "--sequence-length", "128", "--samples", "8",
    "--group-size", "32",
  ]

  @Test func quantizationsHaveAPage() throws {
    let folder = try TemporaryFolder()
    let (output, page) = (folder.file("m.zhinao"), folder.file("r.html"))
    let run = try Tool.run(
      "zhinao-quantize",
      [CommandTests.gqa] + Self.calibration + ["-o", output, "--report-html", page, "--json"])
    #expect(run.code == 0, "\(run.errors)")
    #expect(try JSONValue.parse(run.output)["modules"]?.intValue == 10)
    let html = try String(contentsOfFile: page, encoding: .utf8)
    #expect(html.hasPrefix("<!DOCTYPE html>\n<html lang=\"en\">"))
    #expect(html.contains("Loss by layer and kind of module") && html.contains("--report-html"))
    #expect(html.contains(try Checksum.sha256(ofFile: output)))
  }

  @Test func pagesMayBeChineseMarkdown() throws {
    let folder = try TemporaryFolder()
    let run = try Tool.run(
      "zhinao-quantize",
      [
        CommandTests.gqa, "--method", "rtn", "--group-size", "32", "-o", folder.file("m.zhinao"),
        "--report-html",
        folder.file("card.md"), "--report-language", "zh",
      ])
    #expect(run.code == 0, "\(run.errors)")
    let markdown = try String(contentsOfFile: folder.file("card.md"), encoding: .utf8)
    #expect(markdown.contains("## 量化误差") && markdown.contains("## 如何复现"))
  }

  /// Before hours of work, and with nothing written.
  @Test func reportsThatCannotBeWrittenAreRefusedAtOnce() throws {
    let folder = try TemporaryFolder()
    let (output, page) = (folder.file("m.zhinao"), folder.file("r.html"))
    try AtomicFile.write("mine", to: page)
    let quantize = ["/nowhere", "--method", "rtn", "-o", output, "--report-html"]
    for (path, code) in [
      (page, 73), (folder.path + "/missing/r.html", 73), (folder.file("r.pdf"), 64), (folder.file("r"), 64),
      ("", 64),
    ] as [(String, Int32)] {
      let run = try Tool.run("zhinao-quantize", quantize + [path])
      #expect(run.code == code, "\(path): \(run.code) \(run.errors)")
      let bench = try Tool.run("zhinao-bench", ["/nowhere", "--report-html", path])
      #expect(bench.code == code, "\(path): \(bench.code) \(bench.errors)")
    }
    #expect(try String(contentsOfFile: page, encoding: .utf8) == "mine")
    #expect(!FileManager.default.fileExists(atPath: output))
    for arguments in [
      ["--demo", "--report-html", folder.file("d.html")],
      quantize + [folder.file("a.html"), "--report-language", "fr"],
    ] {
      #expect(try Tool.run("zhinao-quantize", arguments).code == 64)
    }
    #expect(try Tool.run("zhinao-bench", ["kernels", "--overwrite"]).code == 64)
  }

  /// What a measurement prints stays as it is.
  @Test func measurementsHaveAPage() throws {
    let folder = try TemporaryFolder()
    let page = folder.file("r.html")
    let arguments = [
      "tokenize", CommandTests.gqa, Fixture.tinyZhinao + "/eval.en.txt", "--repetitions", "2", "--json",
      "--report-html",
      page,
    ]
    for more in [[], ["--overwrite"]] {
      let run = try Tool.run("zhinao-bench", arguments + more)
      #expect(run.code == 0, "\(run.errors)")
      #expect(
        try JSONValue.parse(run.output).objectValue?.keys == [
          "bytes", "tokens", "seconds", "bytes_per_second", "load_seconds",
        ])
    }
    #expect(try String(contentsOfFile: page, encoding: .utf8).contains("Speed of each run"))
    #expect(try Tool.run("zhinao-bench", arguments).code == 73)
  }
}
