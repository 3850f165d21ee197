import Foundation
import Terminal
import TestSupport
import Testing

@Suite struct HistoryFileTests {
  @Test func linesComeBackAndAreTheOwnersOnly() throws {
    let folder = try TemporaryFolder()
    let file = HistoryFile(path: folder.file("state/deeper/history"))
    #expect(try file.load() == [])
    let lines = ["你好", "two\nlines", "back\\slash \\n", " spaces "]
    for line in lines { try file.append(line) }
    #expect(try file.load() == lines)
    let attributes = try FileManager.default.attributesOfItem(atPath: file.path)
    #expect((attributes[.posixPermissions] as? NSNumber)?.intValue == 0o600)
  }

  /// A line stays a line, and its backslashes stay its own, whatever follows them.
  @Test(arguments: ["\u{301}", "\u{FE0F}", "\u{200D}", "\u{20E3}", "\u{1F3FD}"])
  func marksThatCombineAreKept(mark: String) throws {
    let folder = try TemporaryFolder()
    let file = HistoryFile(path: folder.file("history"))
    let lines = ["a\\\(mark)b", "\(mark)a\n\(mark)b", "\\n\(mark)", "e\u{301}", "\u{E9}"]
    for line in lines { try file.append(line) }
    let loaded = try file.load()
    #expect(loaded.map { Array($0.utf8) } == lines.map { Array($0.utf8) })
  }

  @Test func lineEndsOfWindowsComeBackAsLineFeeds() throws {
    let folder = try TemporaryFolder()
    let file = HistoryFile(path: folder.file("history"))
    try file.append("a\r\nb")
    try file.append("c")
    #expect(try file.load() == ["a\nb", "c"])
  }

  @Test func longFilesAreShortened() throws {
    let folder = try TemporaryFolder()
    let file = HistoryFile(path: folder.file("history"), limit: 5)
    for n in 1...12 { try file.append("line \(n)") }
    #expect(try file.load() == (8...12).map { "line \($0)" })
    let text = try String(contentsOfFile: file.path, encoding: .utf8)
    #expect(text.split(separator: "\n").count == 5)
    #expect(try FileManager.default.contentsOfDirectory(atPath: folder.path) == ["history"])
  }

  /// Whatever is in the file, nothing that controls a terminal comes out of it.
  @Test func damageIsHarmless() throws {
    let folder = try TemporaryFolder()
    let path = folder.file("history")
    try Data([0xFF, 0x1B, 0x5B, 0x32, 0x4A, 0x0A, 0x0A, 0x5C, 0x0A, 0x61, 0x00, 0x62]).write(
      to: URL(fileURLWithPath: path))
    let lines = try HistoryFile(path: path).load()
    #expect(lines == ["\u{FFFD}[2J", "", "ab"])
  }

  @Test func whatCannotBeWrittenIsSaid() throws {
    let folder = try TemporaryFolder()
    #expect(throws: HistoryFile.Failure.self) { try HistoryFile(path: folder.path).append("x") }
  }

  @Test func theUsualPlace() {
    #expect(
      HistoryFile.usualPath(environment: ["HOME": "/h"]) == "/h/.local/state/zhinao/chat_history")
    #expect(
      HistoryFile.usualPath(environment: ["HOME": "/h", "XDG_STATE_HOME": "/s"]) == "/s/zhinao/chat_history")
    #expect(HistoryFile.usualPath(environment: [:]) == nil)
  }
}
