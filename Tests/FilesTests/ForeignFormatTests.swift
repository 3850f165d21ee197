import Files
import Foundation
import TestSupport
import Testing

@Suite struct ForeignFormatTests {
  @Test(
    arguments: [
      ("PAR1\u{15}", .parquet), ("ARROW1\0\0", .arrow), ("PK\u{3}\u{4}", .zip), ("BZh91AY&SY", .bzip2),
      ("Obj\u{1}", .avro), ("SQLite format 3\0", .sqlite), ("%PDF-1.7", .pdf), ("GGUF\u{3}\0\0\0", .gguf),
      ("version https://git-lfs.github.com/spec/v1\n", .gitLFSPointer), ("PAR1 is a name", nil),
      ("ARROW1 hits", nil),
      ("BZh9 is a name", nil), ("GGUF is a format", nil), ("Object", nil), ("", nil), ("\u{FEFF}text", nil),
      ("{}", nil),
    ] as [(String, ForeignFormat?)])
  func textAndOtherFormatsAreToldApart(start: String, format: ForeignFormat?) {
    #expect(ForeignFormat(Array(start.utf8)) == format)
  }

  @Test(
    arguments: [
      ([0x28, 0xB5, 0x2F, 0xFD], .zstandard), ([0xFD, 0x37, 0x7A, 0x58, 0x5A, 0], .xz),
      ([0x37, 0x7A, 0xBC, 0xAF, 0x27, 0x1C], .sevenZip), ([4, 0x22, 0x4D, 0x18], .lz4),
      ([0x80, 4, 0x95], .pickle),
      ([0x93, 0x4E, 0x55, 0x4D, 0x50, 0x59], .numPy), ([0x89, 0x48, 0x44, 0x46], .hdf5),
      ([0xFF, 0xFE, 0x61, 0], .utf16),
      ([0xFE, 0xFF, 0, 0x61], .utf16), ([0xFF, 0xFE, 0, 0], .utf32),
      ([0xFF, 0xFF, 0xFF, 0xFF, 0x10], .arrow),
      ([UInt8](repeating: 0x61, count: 257) + Array("ustar".utf8), .tar),
    ] as [([UInt8], ForeignFormat)])
  func bytesOfOtherFormatsAreKnown(start: [UInt8], format: ForeignFormat) {
    #expect(ForeignFormat(start) == format)
  }

  @Test func theWayOutIsACommand() {
    #expect(
      ForeignFormat.parquet.remedy(path: "a/data.parquet").contains(
        "read_parquet('a/data.parquet').to_json('a/data.jsonl', orient='records', lines=True"))
    #expect(ForeignFormat.zstandard.remedy(path: "x.zst").contains("zstd -d 'x.zst'"))
    // A name that a shell or Python would read otherwise is not put into a command.
    for name in ["it's.parquet", "a\"b", "$(x).parquet", "a\\b"] {
      #expect(ForeignFormat.parquet.remedy(path: name).contains("read_parquet('FILE')"))
    }
  }

  @Test func aByteOrderMarkIsNoText() throws {
    let folder = try TemporaryFolder()
    try AtomicFile.write("\u{FEFF}\u{FEFF}x", to: folder.file("t"))
    #expect(try TextFile.bytes(ofFile: folder.file("t")) == Array("\u{FEFF}x".utf8))
    try AtomicFile.write([0xFF, 0xFE, 0x61, 0], to: folder.file("u"))
    let error = #expect(throws: FileError.self) { try TextFile.bytes(ofFile: folder.file("u")) }
    #expect(error?.reason == .foreign(.utf16) && error?.description.contains("iconv -f UTF-16") == true)
  }
}
