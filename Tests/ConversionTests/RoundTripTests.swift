import Audit
import Conversion
import Files
import Foundation
import JSON
import Models
import PackedModel
import Safetensors
import TestSupport
import Testing

@Suite struct RoundTripTests {
  static func bytes(_ path: String) throws -> [String: Data] {
    let table = try TensorTable(path: path)
    return try Dictionary(uniqueKeysWithValues: table.names.map { ($0, Data(try #require(table[$0]).bytes)) })
  }

  @Test func foldersSurviveThePackedFormat() throws {
    let folder = try TemporaryFolder()
    let source = Fixture.path("tiny-zhinao-gqa")
    let packed = folder.file("m.zhinao")
    try ModelPacker(ModelContents(OpenedModel(path: source))).write(
      to: packed, generator: "test", provenance: JSONObject())
    let back = folder.file("hf")
    try FolderWriter(ModelContents(OpenedModel(path: packed)), shardByteLimit: 300_000).write(
      to: back, replacing: false, toolVersion: "test")
    #expect(try TensorTable(path: back).files.count > 1)
    #expect(try Self.bytes(back) == Self.bytes(source))
    #expect(try OpenedModel(path: back).configuration == OpenedModel(path: source).configuration)

    // The packed file computes the same bits.
    let (a, b) = (try OpenedModel(path: source).decoder(), try OpenedModel(path: packed).decoder())
    let ids = [5, 77, 1024, 3000, 8]
    let (x, y) = (a.hiddenStates(windows: [ids]), b.hiddenStates(windows: [ids]))
    #expect(x.array == y.array)
    #expect(a.logits(x, rows: 0..<5).array == b.logits(y, rows: 0..<5).array)
  }

  /// Tensors that the architecture does not know are kept, even when only the spelling of é tells their names apart.
  @Test func namesThatLookAlikeStayApart() throws {
    let folder = try TemporaryFolder()
    let source = folder.file("source")
    try FileManager.default.copyItem(atPath: Fixture.path("tiny-zhinao-gqa"), toPath: source)
    let table = try TensorTable(path: source)
    let extra = ["extra.\u{E9}", "extra.e\u{301}"]
    let plans =
      table.inFileOrder.map { TensorPlan($0.name, $0.dtype, $0.shape) }
      + extra.map { TensorPlan($0, .f32, [1]) }
    let merged = folder.file("merged.safetensors")
    try SafetensorsWriter.write(to: merged, tensors: plans) { plan, emit in
      if let tensor = table[plan.name] { return try emit(tensor.bytes) }
      try [Float(plan.name.utf8.count)].withUnsafeBytes { try emit($0) }
    }
    for file in table.files { try FileManager.default.removeItem(atPath: file.path) }
    try? FileManager.default.removeItem(atPath: source + "/model.safetensors.index.json")
    try FileManager.default.moveItem(atPath: merged, toPath: source + "/model.safetensors")
    let packed = folder.file("m.zhinao")
    try ModelPacker(ModelContents(OpenedModel(path: source))).write(
      to: packed, generator: "test", provenance: JSONObject())
    let back = folder.file("back")
    try FolderWriter(ModelContents(OpenedModel(path: packed)), shardByteLimit: .max).write(
      to: back, replacing: false, toolVersion: "test")
    let found = try TensorTable(path: back)
    for name in extra {
      #expect(found[name]?.bytes.loadUnaligned(as: Float.self) == Float(name.utf8.count))
    }
  }

  @Test func anotherTypeRoundsOnce() throws {
    let folder = try TemporaryFolder()
    let source = try OpenedModel(path: Fixture.path("tiny-zhinao-gqa"))
    let wide = folder.file("f32.zhinao")
    try ModelPacker(ModelContents(source), dtype: .f32).write(
      to: wide, generator: "t", provenance: JSONObject())
    let back = folder.file("bf16.zhinao")
    try ModelPacker(ModelContents(OpenedModel(path: wide)), dtype: .bf16).write(
      to: back, generator: "t", provenance: JSONObject())
    let original = folder.file("original.zhinao")
    try ModelPacker(ModelContents(source)).write(to: original, generator: "t", provenance: JSONObject())
    // All but the names and digests of the sources.
    let (a, b) = (try PackedModelFile(path: back).header, try PackedModelFile(path: original).header)
    #expect(a.tensors.map(\.crc32) == b.tensors.map(\.crc32))
    #expect(a.files.map(\.crc32) == b.files.map(\.crc32))
  }

  /// A copy of the small model with some change made to it.
  static func changed(_ folder: TemporaryFolder, _ change: (String) throws -> Void) throws -> String {
    let copy = folder.file("copy")
    try FileManager.default.copyItem(atPath: Fixture.path("tiny-zhinao-gqa"), toPath: copy)
    try change(copy)
    return copy
  }

  static func edit(_ path: String, _ old: String, _ new: String) throws {
    let text = try String(contentsOfFile: path, encoding: .utf8)
    let edited = text.replacingOccurrences(of: old, with: new)
    #expect(edited != text)
    try edited.write(toFile: path, atomically: true, encoding: .utf8)
  }

  @Test func aConfigurationThatDoesNotFitIsNamed() throws {
    let folder = try TemporaryFolder()
    let path = try Self.changed(folder) {
      try Self.edit($0 + "/config.json", "\"intermediate_size\": 384", "\"intermediate_size\": 320")
    }
    let error = #expect(throws: ModelError.self) { try ModelContents(OpenedModel(path: path)) }
    #expect(error?.reason == .wrongShape(found: [384, 128], expected: [320, 128]))
    #expect(error?.tensor == "model.layers.0.mlp.gate_proj.weight")
  }

  @Test func aVocabularyThatDoesNotFitIsNamed() throws {
    let folder = try TemporaryFolder()
    let path = try Self.changed(folder) { copy in
      try FileManager.default.removeItem(atPath: copy + "/vocab/360.tiktoken")
      try FileManager.default.copyItem(
        atPath: Fixture.path("cl100k_base.tiktoken"), toPath: copy + "/vocab/360.tiktoken")
    }
    let error = #expect(throws: ModelError.self) { try OpenedModel(path: path).tokenizer() }
    #expect(error?.reason == .tokenizerTooLarge(tokens: 100267, rows: 3072))
  }

  @Test func notANumberIsFoundBeforeAnythingIsWritten() throws {
    let folder = try TemporaryFolder()
    let path = try Self.changed(folder) { copy in
      let shard = copy + "/model-00001-of-00002.safetensors"
      let file = try SafetensorsFile(path: shard)
      let tensor = try #require(
        file.tensors.first { $0.name.hasSuffix("q_proj.weight") || $0.name.hasSuffix("qkv_proj.weight") })
      var data = try Data(contentsOf: URL(fileURLWithPath: shard))
      data[tensor.range.lowerBound + 10] = 0xC0
      data[tensor.range.lowerBound + 11] = 0x7F
      try data.write(to: URL(fileURLWithPath: shard))
    }
    let output = folder.file("x.zhinao")
    let error = #expect(throws: ConversionError.self) {
      try ModelPacker(ModelContents(OpenedModel(path: path))).write(
        to: output, generator: "t", provenance: JSONObject())
    }
    #expect(error?.reason == .notFinite(index: 5))
    #expect(try FileManager.default.contentsOfDirectory(atPath: folder.path) == ["copy"])
    #expect(try IntegrityReport.check(path: path).problems.count == 1)
  }

  @Test func extraBiasesMustBeZero() throws {
    for value: Float in [0, 0.5] {
      let folder = try TemporaryFolder()
      let path = try Self.changed(folder) { copy in
        let table = try TensorTable(path: copy)
        let plans =
          table.inFileOrder.map { TensorPlan($0.name, $0.dtype, $0.shape) } + [
            TensorPlan("model.layers.0.self_attn.o_proj.bias", .f32, [128])
          ]
        let merged = copy + "/merged.safetensors"
        try SafetensorsWriter.write(to: merged, tensors: plans) { plan, emit in
          guard let tensor = table[plan.name] else {
            return try [Float](repeating: value, count: 128).withUnsafeBytes { try emit($0) }
          }
          try emit(tensor.bytes)
        }
        for name in try FileManager.default.contentsOfDirectory(atPath: copy) where name.hasPrefix("model") {
          try FileManager.default.removeItem(atPath: copy + "/" + name)
        }
      }
      if value == 0 {
        _ = try OpenedModel(path: path).decoder()
      } else {
        let error = #expect(throws: ModelError.self) { try OpenedModel(path: path).decoder() }
        #expect(error?.reason == .unexpectedBias(index: 0, "0.5", family: "zhinao"))
        #expect(error?.tensor == "model.layers.0.self_attn.o_proj.bias")
      }
    }
  }

  /// A folder that is a link, with links to its files and to `vocab/`, is the folder.
  @Test func linkedFoldersAreTheFolderItself() throws {
    let folder = try TemporaryFolder()
    let manager = FileManager.default
    let source = Fixture.path("tiny-zhinao-gqa")
    try manager.createSymbolicLink(atPath: folder.file("latest"), withDestinationPath: source)
    let linked = folder.file("linked")
    try manager.createDirectory(atPath: linked, withIntermediateDirectories: true)
    for name in try manager.contentsOfDirectory(atPath: source) {
      try manager.createSymbolicLink(atPath: "\(linked)/\(name)", withDestinationPath: "\(source)/\(name)")
    }
    try manager.createSymbolicLink(atPath: "\(linked)/circle", withDestinationPath: linked)
    let names = FolderFiles(source).names
    #expect(names.contains("vocab/360.tiktoken"))
    #expect(FolderFiles(folder.file("latest")).names == names)
    #expect(Set(names).isSubset(of: FolderFiles(linked).names))
    for (number, path) in [folder.file("latest"), linked].enumerated() {
      let packed = folder.file("\(number).zhinao")
      try ModelPacker(ModelContents(OpenedModel(path: path))).write(
        to: packed, generator: "test", provenance: JSONObject())
      let opened = try OpenedModel(path: packed)
      #expect(try opened.tokenizer().tokenCount == OpenedModel(path: source).tokenizer().tokenCount)
    }
  }
}
