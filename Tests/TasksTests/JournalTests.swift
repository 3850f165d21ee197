import Files
import Foundation
import JSON
import Tasks
import TestSupport
import Testing

@Suite struct JournalTests {
  private func record(_ id: String) -> ItemRecord {
    ItemRecord(
      id: id, subject: "s", metrics: [("acc", 1), ("score", 0.1 + 0.2)], answer: "a\n“b”\u{0}", expected: "c",
      details: JSONObject([("n", 3)]))
  }

  @Test func keepsWhatIsFinished() throws {
    let folder = try TemporaryFolder()
    let identity = JSONObject([("task", "t")])
    do {
      let journal = try Journal(folder: folder.file("j"), name: "t-m", identity: identity)
      try journal.append(record("1"))
      try journal.append(record("2"))
    }
    let journal = try Journal(folder: folder.file("j"), name: "t-m", identity: identity)
    #expect(journal.count == 2)
    #expect(journal.record("1") == record("1"))
    #expect(journal.record("3") == nil)
    // Another recipe never sees them.
    let other = try Journal(folder: folder.file("j"), name: "t-m", identity: JSONObject([("task", "u")]))
    #expect(other.count == 0)
  }

  /// Wherever a kill cuts the file, whole lines count and the next run goes on.
  @Test func aCutLineIsDropped() throws {
    let folder = try TemporaryFolder()
    let identity = JSONObject([("task", "t")])
    let path: String
    do {
      let journal = try Journal(folder: folder.path, name: "t", identity: identity)
      path = try #require(journal.path)
      for id in 0..<3 { try journal.append(record("\(id)")) }
    }
    let whole = try Data(contentsOf: URL(fileURLWithPath: path))
    for length in 0...whole.count {
      try whole.prefix(length).write(to: URL(fileURLWithPath: path))
      let lines = whole.prefix(length).count { $0 == UInt8(ascii: "\n") }
      do {
        let journal = try Journal(folder: folder.path, name: "t", identity: identity)
        #expect(journal.count == max(0, lines - 1))
        for id in journal.count..<3 { try journal.append(record("\(id)")) }
      }
      #expect(try Data(contentsOf: URL(fileURLWithPath: path)) == whole)
    }
  }

  @Test func aDamagedLineIsNamed() throws {
    let folder = try TemporaryFolder()
    let identity = JSONObject([("task", "t")])
    let path: String
    do {
      let journal = try Journal(folder: folder.path, name: "t", identity: identity)
      path = try #require(journal.path)
      try journal.append(record("1"))
    }
    var data = try Data(contentsOf: URL(fileURLWithPath: path))
    data.append(Data("{\"id\": 3}\n".utf8))
    try data.write(to: URL(fileURLWithPath: path))
    #expect(throws: (any Error).self) { try Journal(folder: folder.path, name: "t", identity: identity) }
    data = Data("[]\n".utf8)
    try data.write(to: URL(fileURLWithPath: path))
    let error = #expect(throws: TaskError.self) {
      try Journal(folder: folder.path, name: "t", identity: identity)
    }
    #expect(error?.description.contains("line 1") == true)
  }
}
