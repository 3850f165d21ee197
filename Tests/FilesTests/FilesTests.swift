import Files
import Foundation
import TestSupport
import Testing

@Suite struct AtomicOutputTests {
  @Test func filesAppearWholeOrNotAtAll() throws {
    let folder = try TemporaryFolder()
    let path = folder.file("x")
    do {
      let file = try AtomicFile(path: path)
      try file.write("half")
    }
    #expect(try FileManager.default.contentsOfDirectory(atPath: folder.path) == [])
    let file = try AtomicFile(path: path)
    try file.write([UInt8](repeating: 1, count: 3_000_000))
    try file.pad(toMultipleOf: 64)
    try file.overwrite(at: 1, with: [9, 9])
    #expect(!FileManager.default.fileExists(atPath: path))
    try file.commit()
    let data = try Data(contentsOf: URL(fileURLWithPath: path))
    #expect(data.count == 3_000_000 && data.prefix(4) == Data([1, 9, 9, 1]))
    #expect(try FileManager.default.contentsOfDirectory(atPath: folder.path) == ["x"])
  }

  @Test func foldersAppearWholeOrNotAtAll() throws {
    let folder = try TemporaryFolder()
    let path = folder.file("out")
    do {
      let output = try AtomicFolder(path: path)
      try AtomicFile.write("1", to: output.stagedPath("a"))
    }
    #expect(try FileManager.default.contentsOfDirectory(atPath: folder.path) == [])
    let output = try AtomicFolder(path: path + "/")
    try AtomicFile.write("1", to: output.stagedPath("a"))
    try output.commit()
    #expect(try FileManager.default.contentsOfDirectory(atPath: path) == ["a"])
    #expect(throws: FileError.self) { try AtomicFolder(path: path) }
    let again = try AtomicFolder(path: path, replacing: true)
    try AtomicFile.write("2", to: again.stagedPath("b"))
    try again.commit()
    #expect(try FileManager.default.contentsOfDirectory(atPath: path) == ["b"])
  }

  /// Pieces of any size, some of them whole pieces of the writer, with changes in between.
  @Test func bytesArriveInOrder() throws {
    let folder = try TemporaryFolder()
    let file = try AtomicFile(path: folder.file("x"))
    var expected: [UInt8] = []
    for (index, count) in [1, 70_000, 4_000_000, 130_000, 9_000_000, 0, 4095].enumerated() {
      let bytes = (0..<count).map { UInt8(truncatingIfNeeded: $0 &* 31 &+ index) }
      try file.write(bytes)
      expected += bytes
      let place = expected.count - expected.count / 7 - 1
      try file.overwrite(at: place, with: [200, 201].prefix(expected.count - place) + [])
      for (i, byte) in [200, 201].prefix(expected.count - place).enumerated() {
        expected[place + i] = UInt8(byte)
      }
    }
    try file.commit()
    #expect(try Data(contentsOf: URL(fileURLWithPath: folder.file("x"))) == Data(expected))
  }

  @Test func whatAKilledProcessLeftIsRemovedButNotWhatALivingOneWrites() throws {
    let folder = try TemporaryFolder()
    let left = [
      "x.4000001.tmp", "x.4000002.tmp", "y.4000001.tmp", "x.part.tmp", ".out.4000001.tmp", ".out.4000002.tmp",
    ]
    for name in left.prefix(4) {
      #expect(FileManager.default.createFile(atPath: folder.file(name), contents: Data([1])))
    }
    for name in left.suffix(2) {
      try FileManager.default.createDirectory(
        atPath: folder.file(name + "/sub"), withIntermediateDirectories: true)
    }
    // As a living process holds its own.
    let held = ["x.4000002.tmp", ".out.4000002.tmp"].map { open(folder.file($0), O_RDONLY) }
    defer { for descriptor in held { close(descriptor) } }
    for descriptor in held { #expect(flock(descriptor, LOCK_EX | LOCK_NB) == 0) }
    try AtomicFile.write("1", to: folder.file("x"))
    let output = try AtomicFolder(path: folder.file("out"))
    try AtomicFile.write("2", to: output.stagedPath("a"))
    try output.commit()
    #expect(
      try FileManager.default.contentsOfDirectory(atPath: folder.path).sorted()
        == [".out.4000002.tmp", "out", "x", "x.4000002.tmp", "x.part.tmp", "y.4000001.tmp"])
  }

  @Test func aFolderPutAsideByAKilledProcessComesBack() throws {
    let folder = try TemporaryFolder()
    let manager = FileManager.default
    try manager.createDirectory(
      atPath: folder.file(".out.4000001.tmp.old/a"), withIntermediateDirectories: true)
    try manager.createDirectory(atPath: folder.file(".out.4000001.tmp"), withIntermediateDirectories: true)
    // It is what it was, not empty: only --overwrite may replace it.
    #expect(throws: FileError.self) { try AtomicFolder(path: folder.file("out")) }
    #expect(try manager.contentsOfDirectory(atPath: folder.path) == ["out"])
    #expect(try manager.contentsOfDirectory(atPath: folder.file("out")) == ["a"])
  }

  @Test func twoWritersOfOneTemporaryFileAreNotMixed() throws {
    let folder = try TemporaryFolder()
    let first = try AtomicFile(path: folder.file("x"))
    #expect(throws: FileError.self) { try AtomicFile(path: folder.file("x")) }
    try first.write("1")
    try first.commit()
    #expect(try FileManager.default.contentsOfDirectory(atPath: folder.path) == ["x"])
  }

  /// As a process of another machine holds it, and one that was killed no longer does.
  @Test func anOutputThatAnotherProcessHoldsIsRefusedWithItsName() throws {
    let folder = try TemporaryFolder()
    for name in ["x", "out"] {
      #expect(
        FileManager.default.createFile(
          atPath: folder.file(".\(name).lock"), contents: Data("4000001 elsewhere\n".utf8)))
    }
    let held = ["x", "out"].map { open(folder.file(".\($0).lock"), O_RDONLY) }
    for descriptor in held { #expect(flock(descriptor, LOCK_EX | LOCK_NB) == 0) }
    let refusals = [
      #expect(throws: FileError.self) { try AtomicFile(path: folder.file("x")) },
      #expect(throws: FileError.self) { try AtomicFolder(path: folder.file("out") + "/") },
      #expect(throws: FileError.self) { try OutputLock(output: folder.file("x")) },
    ]
    for error in refusals {
      #expect(error?.category == .cannotWrite)
      #expect(
        error?.description.contains("process 4000001 on elsewhere") == true, "\(error?.description ?? "")")
    }
    for descriptor in held { close(descriptor) }
    try AtomicFile.write("1", to: folder.file("x"))
    _ = try AtomicFolder(path: folder.file("out"))
    #expect(try FileManager.default.contentsOfDirectory(atPath: folder.path) == ["x"])
  }

  @Test func aJobMayWriteWhatItHolds() throws {
    let folder = try TemporaryFolder()
    do {
      let lock = try OutputLock(output: folder.file("x"))
      try AtomicFile.write("1", to: folder.file("x"))
      #expect(
        try FileManager.default.contentsOfDirectory(atPath: folder.path).sorted() == [".x.lock", "x"])
      withExtendedLifetime(lock) {}
    }
    #expect(try FileManager.default.contentsOfDirectory(atPath: folder.path) == ["x"])
  }

  @Test func tooLittleRoomIsKnownBeforehand() throws {
    let folder = try TemporaryFolder()
    let error = #expect(throws: FileError.self) {
      try AtomicFile(path: folder.file("x"), expectedByteCount: 1 << 60)
    }
    #expect(error?.category == .cannotWrite)
    #expect(error?.description.contains("free") == true)
  }
}

@Suite struct PathTests {
  @Test(arguments: [
    ("g", ".", "g"), ("a/b", "a", "b"), ("/a", "/", "a"), ("a//b//", "a", "b"), ("./g/", ".", "g"),
    ("/", "/", ""),
    ("词/表\u{301}", "词", "表\u{301}"), ("a/\u{301}b", "a", "\u{301}b"),
  ])
  func pathsAreCutAtTheirLastSlash(path: String, folder: String, name: String) {
    let parts = PathParts(path)
    #expect(Array(parts.folder.utf8) == Array(folder.utf8) && Array(parts.name.utf8) == Array(name.utf8))
  }
}

@Suite struct ChecksumTests {
  @Test func knownValues() {
    let text = Array("123456789".utf8)
    text.withUnsafeBytes { #expect(Checksum.crc32($0) == 0xCBF4_3926) }
    Array("abc".utf8).withUnsafeBytes {
      #expect(Checksum.sha256($0) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
    }
    let (a, b) = (Array(text[..<4]), Array(text[4...]))
    let joined = Checksum.combined(
      a.withUnsafeBytes { Checksum.crc32($0) }, b.withUnsafeBytes { Checksum.crc32($0) }, secondByteCount: 5)
    #expect(joined == 0xCBF4_3926)
  }

  @Test func gzipBombsAreRefused() throws {
    let folder = try TemporaryFolder()
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/bin/sh")
    process.arguments = ["-c", "head -c 3000000 /dev/zero | gzip > '\(folder.file("z.gz"))'"]
    try process.run()
    process.waitUntilExit()
    #expect(try Gzip.contents(ofFile: folder.file("z.gz")).count == 3_000_000)
    #expect(throws: FileError.self) {
      try Gzip.contents(ofFile: folder.file("z.gz"), maximumByteCount: 1_000_000)
    }
  }
}
