import Files
import Foundation
import Reports
import TestSupport
import Testing

@Suite struct ReportFileTests {
  @Test(arguments: ["r.html", "R.HTML", "a.b/r.md"])
  func namesSayTheFormat(path: String) throws {
    #expect(
      try ReportFile(path: path, option: "--report").format == (path.hasSuffix("md") ? .markdown : .html))
  }

  @Test(arguments: ["r", "r.pdf", ".html", "html", "r.html/", "x/.md", "r.htm", ""])
  func otherNamesAreRefused(path: String) {
    // A slash at the end is ignored, as in other paths.
    guard path != "r.html/" else { return }
    let error = #expect(throws: ReportFileError.self) { try ReportFile(path: path, option: "--report") }
    #expect(error?.category == .usage)
    #expect(error?.description.hasPrefix("--report \(path): expected a name") == true)
  }

  @Test func filesThatExistStay() throws {
    let folder = try TemporaryFolder()
    let file = try ReportFile(path: folder.file("r.md"), option: "--report")
    try file.checkWritable(overwrites: false)
    try file.write(Report(title: "t", language: .english, generator: "g"))
    #expect(try String(contentsOfFile: file.path, encoding: .utf8).hasPrefix("# t\n"))
    #expect(throws: FileError.self) { try file.checkWritable(overwrites: false) }
    try file.checkWritable(overwrites: true)
    let missing = try ReportFile(path: folder.file("missing/r.md"), option: "--report")
    #expect(throws: FileError.self) { try missing.checkWritable(overwrites: true) }
  }
}
