import CSignals
import Files
import Foundation
import TestSupport
import Testing

/// The table that the handler of SIGBUS searches.
@Suite struct MappedFileTableTests {
  private func find(_ address: UnsafeRawPointer?) -> (path: String, offset: Int)? {
    var offset = 0
    return zn_mapped_file_find(address, &offset).map { (String(cString: $0), offset) }
  }

  @Test func everyByteOfEveryMappedFileIsFound() throws {
    let folder = try TemporaryFolder()
    let path = folder.file("é")
    try AtomicFile.write([UInt8](repeating: 1, count: 5000), to: path)
    // More than one block of the table.
    let files = try (0..<600).map { _ in try MappedFile(path: path) }
    for file in files {
      let base = try #require(file.bytes.baseAddress)
      for offset in [0, file.byteCount / 2, file.byteCount - 1] {
        let found = try #require(find(base + offset))
        #expect(found.path == path && found.offset == offset)
      }
      // The page goes on, the file does not.
      #expect(find(base + file.byteCount) == nil)
    }
    #expect(find(nil) == nil)
  }

  @Test func whatIsUnmappedIsForgotten() throws {
    let folder = try TemporaryFolder()
    let path = folder.file("a")
    try AtomicFile.write("abc", to: path)
    var file: MappedFile? = try MappedFile(path: path)
    let base = file?.bytes.baseAddress
    #expect(find(base)?.path == path)
    file = nil
    #expect(find(base)?.path != path)
  }

  @Test func threadsMayMapAndUnmapAtTheSameTime() async throws {
    let folder = try TemporaryFolder()
    let paths = try (0..<4).map { number in
      let path = folder.file("\(number)")
      try AtomicFile.write([UInt8](repeating: 1, count: 5000), to: path)
      return path
    }
    try await withThrowingTaskGroup(of: Void.self) { group in
      for path in paths {
        group.addTask {
          for _ in 0..<2000 {
            let file = try MappedFile(path: path)
            var offset = 0
            let found = zn_mapped_file_find(file.bytes.baseAddress.map { $0 + 4999 }, &offset)
            #expect(found.map { String(cString: $0) } == path && offset == 4999)
          }
        }
      }
      try await group.waitForAll()
    }
  }

  /// A pipe that nobody writes into is refused at once.
  @Test func pipesAreRefused() throws {
    let folder = try TemporaryFolder()
    let path = folder.file("pipe")
    #expect(mkfifo(path, 0o600) == 0)
    let error = #expect(throws: FileError.self) { try MappedFile(path: path) }
    #expect(error?.description.contains("is not an ordinary file") == true)
  }
}
