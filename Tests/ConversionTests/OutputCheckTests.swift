import Conversion
import Files
import Foundation
import GGUF
import JSON
import Models
import TestSupport
import Testing

/// A finished output is opened before it gets its name.
@Suite struct OutputCheckTests {
  /// Files that are there, and whose names cannot be listed, all or some.
  private struct UnlistedFiles: ModelFiles {
    let base: any ModelFiles
    let listed: Set<String>
    var location: String { base.location }
    var names: [String] { base.names.filter(listed.contains) }
    func bytes(named name: String) throws -> [UInt8]? { try base.bytes(named: name) }
  }

  private static func contents(listing names: Set<String>) throws -> ModelContents {
    var contents = try ModelContents(OpenedModel(path: Fixture.path("tiny-zhinao-gqa")))
    contents.files = UnlistedFiles(base: contents.files, listed: names)
    return contents
  }

  private static func write(_ contents: ModelContents, to path: String) throws {
    if path.hasSuffix(".zhinao") {
      try ModelPacker(contents, recordsSelfCheck: false).write(
        to: path, generator: "t", provenance: JSONObject())
    } else {
      try FolderWriter(contents).write(to: path, replacing: true, toolVersion: "t")
    }
  }

  @Test(arguments: ["out", "out.zhinao"]) func whatDoesNotOpenIsNotKept(name: String) throws {
    let folder = try TemporaryFolder()
    let error = #expect(throws: ConversionError.self) {
      try Self.write(Self.contents(listing: []), to: folder.file(name))
    }
    guard case .outputUnreadable(let why)? = error?.reason else {
      Issue.record("\(String(describing: error))")
      return
    }
    #expect(why.contains("config.json") && error?.path == folder.file(name))
    #expect(try FileManager.default.contentsOfDirectory(atPath: folder.path).isEmpty)
  }

  /// A folder of links that was copied without what they lead to.
  @Test(arguments: ["out", "out.zhinao"]) func linksThatLeadNowhereAreNamed(name: String) throws {
    let folder = try TemporaryFolder()
    let source = folder.file("source")
    try FileManager.default.copyItem(atPath: Fixture.path("tiny-zhinao-gqa"), toPath: source)
    let path = source + "/generation_config.json"
    try FileManager.default.removeItem(atPath: path)
    try FileManager.default.createSymbolicLink(atPath: path, withDestinationPath: "../blobs/0")
    let error = #expect(throws: FileError.self) {
      try Self.write(ModelContents(OpenedModel(path: source)), to: folder.file(name))
    }
    #expect(error?.reason == .danglingLink(target: "../blobs/0"))
    #expect(try FileManager.default.contentsOfDirectory(atPath: folder.path) == ["source"])
  }

  @Test(arguments: ["out", "out.zhinao"]) func whatLacksATokenizerIsNotKept(name: String) throws {
    let folder = try TemporaryFolder()
    // What was there before stays.
    try Self.write(try ModelContents(OpenedModel(path: Fixture.tinyZhinao)), to: folder.file(name))
    let before = try OpenedModel(path: folder.file(name)).configuration
    let error = #expect(throws: ConversionError.self) {
      try Self.write(
        Self.contents(listing: ["config.json", "tokenizer_config.json", "generation_config.json"]),
        to: folder.file(name))
    }
    #expect(error?.reason == .outputIncomplete("vocab/360.tiktoken"))
    #expect(try FileManager.default.contentsOfDirectory(atPath: folder.path) == [name])
    #expect(try OpenedModel(path: folder.file(name)).configuration == before)
  }
}

/// What GGUF's metadata says about scaled positions, as llama.cpp takes it.
@Suite struct GGUFScalingTests {
  @Test(
    arguments: [
      ([("rope.scale_linear", .float32(4))], 4, "without a llama.rope.scaling.type"),
      ([("rope.scaling.factor", .float32(4))], 4, "without a llama.rope.scaling.type"),
      ([("rope.scaling.type", .string("linear")), ("rope.scaling.factor", .float32(4))], 4, nil),
      ([("rope.scaling.type", .string("linear")), ("rope.scale_linear", .float32(4))], 4, nil),
      (
        [
          ("rope.scaling.type", .string("linear")), ("rope.scaling.factor", .float32(2)),
          ("rope.scale_linear", .float32(4)),
        ], 2, "the first counts"
      ),
      ([("rope.scaling.type", .string("none")), ("rope.scaling.factor", .float32(4))], nil, "has no effect"),
      ([("rope.scaling.factor", .float32(0))], nil, nil), ([("rope.scale_linear", .float32(1))], nil, nil),
    ] as [([(String, GGUFField)], Double?, String?)])
  func theFactorIsLlamaCpps(fields: [(String, GGUFField)], factor: Double?, note: String?) throws {
    let folder = try TemporaryFolder()
    let path = folder.file("m.gguf")
    try Self.write(to: path, fields)
    let model = try OpenedModel(path: path)
    #expect(model.configuration.ropeScaling == factor.map { .linear(factor: $0) } ?? .none)
    let found = model.store.discrepancies.map(\.description)
    #expect(found.isEmpty == (note == nil), "\(found)")
    if let note { #expect(found.contains { $0.contains(note) }, "\(found)") }
  }

  @Test(arguments: [
    ("rope.scaling.type", GGUFField.string("yarn")), ("rope.scaling.attn_factor", .float32(1.2)),
  ])
  func otherScalingIsRefused(key: String, field: GGUFField) throws {
    let folder = try TemporaryFolder()
    try Self.write(to: folder.file("m.gguf"), [(key, field)])
    let error = #expect(throws: ModelError.self) { try OpenedModel(path: folder.file("m.gguf")) }
    #expect(error?.description.contains("llama." + key) == true)
  }

  /// A model in three parts is the model, whichever part is given.
  @Test func aSplitModelIsReadWhole() throws {
    let folder = try TemporaryFolder()
    let whole = folder.file("m.gguf")
    try Self.write(to: whole, [])
    let file = try GGUFFile(path: whole)
    let plans = file.tensors.map { GGUFTensorPlan($0.name, $0.type, $0.shape) }
    let fields = try Self.plan([]).fields
    let parts = (1...3).map { folder.file("m-0000\($0)-of-00003.gguf") }
    // llama-gguf-split can leave the first part without tensors.
    for (number, range) in [0..<0, 0..<5, 5..<plans.count].enumerated() {
      try GGUFWriter.write(
        to: parts[number],
        fields: (number == 0 ? fields : []) + [
          ("split.no", .uint32(UInt32(number))), ("split.count", .uint32(3)),
          ("split.tensors.count", .uint32(UInt32(plans.count))),
        ], tensors: Array(plans[range])
      ) { plan, emit in try emit(file.bytes(of: try #require(file.tensor(plan.name)))) }
    }
    let expected = try Self.logits(whole)
    for path in parts {
      #expect(try Self.logits(path) == expected)
      #expect(try OpenedModel(path: path).store.weightFiles == parts)
    }
  }

  private static func plan(_ fields: [(String, GGUFField)]) throws -> GGUFExporter.Plan {
    let contents = try ModelContents(OpenedModel(path: Fixture.path("gguf/llama.gguf")))
    var plan = try GGUFExporter(contents).plan(tokenizer: nil)
    plan.fields += fields.map { ("llama." + $0.0, $0.1) }
    return plan
  }

  private static func write(to path: String, _ fields: [(String, GGUFField)]) throws {
    let contents = try ModelContents(OpenedModel(path: Fixture.path("gguf/llama.gguf")))
    try GGUFExporter(contents).write(plan(fields), to: path)
  }

  private static func logits(_ path: String) throws -> [Float] {
    let decoder = try OpenedModel(path: path).decoder()
    return decoder.logits(decoder.hiddenStates(windows: [[5, 77, 3]]), rows: 0..<3).array
  }
}
