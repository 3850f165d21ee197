import AutoGPTQ
import Compute
import Files
import Foundation
import JSON
import PackedModel
import Safetensors
import Tensors
import TestSupport
import Testing

@Suite struct PackedFileTests {
  /// A small file with one tensor of each encoding.
  static func write(to path: String) throws {
    let m = randomMatrix(bits: 4, symmetric: false, permuted: true, out: 32, inputs: 64, group: 32)
    let packed = IntPanelTensor(packing: m)
    let contents: [[UInt8]] = [Array("{}".utf8), Array("词表".utf8)]
    let header = PackedHeader(
      generator: "test",
      files: [
        PackedFile(name: "config.json", byteCount: 2), PackedFile(name: "vocab/360.tiktoken", byteCount: 6),
      ],
      tensors: [
        PackedTensor("norm.weight", shape: [24], encoding: .rows(.f32)),
        PackedTensor("a.weight", shape: [20, 40], encoding: .panels(.bf16)),
        PackedTensor("b.weight", shape: [32, 64], encoding: .intPanels(packed.layout)),
      ], quantization: QuantizeConfiguration(groupSize: 32, isSymmetric: false, zeroPointFormat: .v2),
      provenance: JSONObject([("source", "x")]))
    try PackedModelWriter.write(to: path, header: header, contents: contents) { tensor, emit in
      if tensor.name == "b.weight" { return try emit(packed.bytes) }
      try [UInt8](repeating: 7, count: tensor.byteCount).withUnsafeBytes { try emit($0) }
    }
  }

  static func opened() throws -> (TemporaryFolder, [UInt8]) {
    let folder = try TemporaryFolder()
    try write(to: folder.file("m.zhinao"))
    return (folder, Array(try Data(contentsOf: URL(fileURLWithPath: folder.file("m.zhinao")))))
  }

  @Test func holdsWhatWasWritten() throws {
    let (folder, bytes) = try Self.opened()
    let file = try PackedModelFile(path: folder.file("m.zhinao"))
    #expect(file.header.tensors.map(\.name) == ["norm.weight", "a.weight", "b.weight"])
    #expect(file.files.contents["vocab/360.tiktoken"] == Array("词表".utf8))
    #expect(file.header.quantization?.zeroPointFormat == .v2)
    #expect(file.header.tensors.allSatisfy { $0.offset % $0.alignment == 0 })
    #expect(file.problems() == [])
    // The header can be read with `head`.
    #expect(String(decoding: bytes[64..<90], as: UTF8.self).hasPrefix("{\"format\":\"zhinao\""))
  }

  @Test func everyFlippedBitOfTheHeaderIsSeen() throws {
    let (folder, bytes) = try Self.opened()
    let path = folder.file("broken.zhinao")
    for bit in 0..<4096 * 8 {
      var broken = bytes
      broken[bit / 8] ^= 1 << UInt8(bit % 8)
      try Data(broken).write(to: URL(fileURLWithPath: path))
      #expect(throws: PackedModelError.self, "bit \(bit)") { try PackedModelFile(path: path) }
    }
  }

  @Test func everyFlippedByteOfTheBodyIsSeen() throws {
    let (folder, bytes) = try Self.opened()
    let path = folder.file("broken.zhinao")
    for place in stride(from: 4096, to: bytes.count, by: 13) {
      var broken = bytes
      broken[place] ^= 0x41
      try Data(broken).write(to: URL(fileURLWithPath: path))
      let file = try PackedModelFile(path: path)
      #expect(!file.problems().isEmpty, "byte \(place)")
    }
  }

  @Test func truncationAndExtraBytesAreSeen() throws {
    let (folder, bytes) = try Self.opened()
    let path = folder.file("broken.zhinao")
    for count in [0, 7, 63, 64, 100, 4095, 4096, bytes.count - 1] {
      try Data(bytes[..<count]).write(to: URL(fileURLWithPath: path))
      #expect(throws: PackedModelError.self) { try PackedModelFile(path: path) }
    }
    try Data(bytes + [0]).write(to: URL(fileURLWithPath: path))
    #expect(throws: PackedModelError.self) { try PackedModelFile(path: path) }
  }

  /// Rewrites the header with right checksums, so that only the rule under test is broken.
  static func rewrite(_ bytes: [UInt8], _ change: (String) -> String) -> [UInt8] {
    var bytes = bytes
    let length = Int(
      bytes[12..<16].enumerated().reduce(UInt32(0)) { $0 | UInt32($1.element) << UInt32(8 * $1.offset) })
    var text = String(decoding: bytes[64..<64 + length], as: UTF8.self)
    while text.last == " " || text.last == "\n" { text.removeLast() }
    var header = Array(change(text).utf8)
    header += [UInt8](repeating: 32, count: length - header.count)
    bytes.replaceSubrange(64..<64 + length, with: header)
    func put(_ value: UInt32, at offset: Int) {
      withUnsafeBytes(of: value.littleEndian) { bytes.replaceSubrange(offset..<offset + 4, with: $0) }
    }
    put(header.withUnsafeBytes { Checksum.crc32($0) }, at: 24)
    put(bytes[0..<28].withUnsafeBytes { Checksum.crc32($0) }, at: 28)
    return bytes
  }

  @Test(arguments: [
    ("\"zhinao\"", "\"other!\"", 6), ("\"a.weight\"", "\"b.weight\"", 8), ("config.json", "../fig.json", 8),
    ("config.json", "../\u{301}.json", 8),
    ("\"shape\":[20,40]", "\"shape\":[20,41]", 9), ("\"panels\"", "\"spirals\"", 9),
    ("\"bits\":4,\"group_size\":32,\"symm", "\"bits\":5,\"group_size\":32,\"symm", 9),
    ("\"offset\":4096", "\"offset\":9999999", 7),
    ("\"offset\":4096", "\"offset\":0", 10),
    ("\"crc32\":\"", "\"crc32\":\"g", 7), ("\"shape\":[20,40]", "\"shape\":[9223372036854775807,40]", 9),
    ("\"group_size\":32", "\"group_size\":48", 9), ("\"dtype\":\"BF16\"", "\"dtype\":\"XX16\"", 9),
  ])
  func brokenRulesAreNamed(old: String, new: String, rule: Int) throws {
    let (folder, bytes) = try Self.opened()
    let broken = Self.rewrite(bytes) { $0.replacingOccurrences(of: old, with: new) }
    #expect(broken != bytes)
    let path = folder.file("broken.zhinao")
    try Data(broken).write(to: URL(fileURLWithPath: path))
    let error = #expect(throws: (any Error).self) { try PackedModelFile(path: path) }
    let packed = error as? PackedModelError
    #expect(
      packed?.rule == rule || (old.contains("group_size") && error is CheckpointError),
      "\(error.map { "\($0)" } ?? "")")
  }

  @Test func aNewerMajorVersionIsRefusedAndANewerMinorOneLoads() throws {
    let (folder, bytes) = try Self.opened()
    let path = folder.file("v.zhinao")
    for (major, minor, loads) in [(1, 9, true), (2, 0, false)] as [(UInt8, UInt8, Bool)] {
      var changed = bytes
      changed[8] = major
      changed[10] = minor
      try Data(Self.rewrite(changed) { $0 }).write(to: URL(fileURLWithPath: path))
      #expect(((try? PackedModelFile(path: path)) != nil) == loads)
    }
  }

  @Test func aPermutationThatIsNoneIsRefusedBeforeItIsUsed() throws {
    let (folder, bytes) = try Self.opened()
    let file = try PackedModelFile(path: folder.file("m.zhinao"))
    let tensor = try #require(file.tensor("b.weight"))
    guard case .intPanels(let layout) = tensor.encoding else { return }
    var broken = bytes
    broken[tensor.offset + layout.permutationOffset + 2] = 0xFF
    let path = folder.file("broken.zhinao")
    try Data(broken).write(to: URL(fileURLWithPath: path))
    let opened = try PackedModelFile(path: path)
    #expect(throws: PackedModelError.self) { try opened.intPanels(tensor, layout) }
  }

  @Test func textModeDamageIsNamed() throws {
    let (folder, bytes) = try Self.opened()
    let path = folder.file("broken.zhinao")
    var broken = bytes
    broken.remove(at: 4)  // CR lost in transfer
    try Data(broken).write(to: URL(fileURLWithPath: path))
    let error = #expect(throws: PackedModelError.self) { try PackedModelFile(path: path) }
    #expect(error?.description.contains("text-mode") == true)
  }
}

@Suite struct ParallelChecksumTests {
  /// Every instruction set's own function against zlib's, at every length that its steps could get wrong.
  @Test func isWhatZlibComputes() {
    let bytes = (0..<3_000_000).map { UInt8(truncatingIfNeeded: $0 &* $0 &* 31 &+ $0 >> 7) }
    bytes.withUnsafeBytes { all in
      for kernels in InstructionSet.runnable.compactMap({ Kernels(for: $0) }) {
        for count in Array(0...300) + [4096, 65_537, 3_000_000 - 3] {
          let some = UnsafeRawBufferPointer(rebasing: all[count % 3..<count % 3 + count])
          #expect(
            ParallelChecksum.crc32(
              some, continuing: 0x1234_5678,
              pool: WorkerPool(threads: 2, kernels: kernels))
              == Checksum.crc32(some, continuing: 0x1234_5678), "\(kernels.name), \(count) bytes")
        }
      }
    }
  }
}
