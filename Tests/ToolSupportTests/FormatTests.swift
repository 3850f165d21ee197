import Testing
import ToolSupport

@Suite struct FormatTests {
  @Test(arguments: [
    ("1000", 1000), ("6GiB", 6 << 30), ("500 MB", 500_000_000), ("1.5kB", 1500), ("2k", 2048),
    ("4MiB", 4 << 20),
  ])
  func sizesAreRead(text: String, bytes: Int) { #expect(Format.byteCount(text) == bytes) }

  @Test(arguments: [
    "", "0", "-1", "1e400", "nan", "inf", "9999999999999GiB", "1 XB", "٣GiB", "1.2.3", "1\u{301}",
    "6GiB\u{301}", "½k",
  ])
  func whatIsNoSizeIsRefused(text: String) { #expect(Format.byteCount(text) == nil) }

  @Test func numbersForPeople() {
    #expect(Format.bytes(999) == "999 bytes")
    #expect(Format.bytes(1_234_567) == "1.2 MB")
    #expect(Format.duration(59.6) == "1 min 0 s")
    #expect(Format.duration(3661) == "1 h 1 min")
    #expect(Format.rate(10, 0) == "0.0")
  }

  @Test func tablesAlignByColumnsOfTheScreen() {
    let table = Format.table([["name", "size"], ["模型", "12"], ["e\u{301}", "3"]])
    #expect(table == "name  size\n模型    12\ne\u{301}        3")
  }
}
