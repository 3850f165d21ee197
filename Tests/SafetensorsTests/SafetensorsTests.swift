import Files
import Foundation
import JSON
import Safetensors
import Tensors
import TestSupport
import Testing

@Suite struct SafetensorsTests {
  /// A file from its parts.
  static func write(_ header: String, data: Int, to path: String) throws {
    var bytes = withUnsafeBytes(of: UInt64(header.utf8.count).littleEndian) { Array($0) }
    bytes += Array(header.utf8)
    bytes += [UInt8](repeating: 0, count: data)
    try AtomicFile.write(bytes, to: path)
  }

  @Test(arguments: [
    // header, bytes of data, what the message names
    (#"{"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}"#, 4, "S6"),
    (#"{"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}"#, 12, "S9"),
    (#"{"a": {"dtype": "F32", "shape": [3], "data_offsets": [0, 8]}}"#, 8, "S7"),
    (#"{"a": {"dtype": "F32", "shape": [-2], "data_offsets": [0, 8]}}"#, 8, "S7"),
    (#"{"a": {"dtype": "F99", "shape": [2], "data_offsets": [0, 8]}}"#, 8, "F99"),
    (#"{"a": {"dtype": "F32", "data_offsets": [0, 8]}}"#, 8, "S5"),
    (#"{"a": {"dtype": "F32", "shape": [2], "data_offsets": [8, 0]}}"#, 8, "S6"),
    (#"{"a": {"dtype": "F32", "shape": [2]}}"#, 8, "S6"),
    (#"{"a": 3}"#, 0, "S5"),
    (#"{"__metadata__": {"a": 3}}"#, 0, "S4"),
    (#"[1, 2]"#, 0, "S3"),
    (#"{"a": "#, 0, "S3"),
    (
      #"{"a": {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]}, "b": {"dtype": "U8", "shape": [4], "data_offsets": [2, 6]}}"#,
      6, "S8"
    ),
    (
      #"{"a": {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]}, "b": {"dtype": "U8", "shape": [2], "data_offsets": [6, 8]}}"#,
      8, "S8"
    ),
    (
      #"{"a": {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]}, "a": {"dtype": "U8", "shape": [4], "data_offsets": [4, 8]}}"#,
      8, "S3"
    ),
    (
      #"{"a": {"dtype": "F64", "shape": [4611686018427387904, 4], "data_offsets": [0, 8]}}"#, 8, "S7"
    ),
  ])
  func brokenRulesAreNamed(header: String, data: Int, part: String) throws {
    let folder = try TemporaryFolder()
    let path = folder.file("x.safetensors")
    try Self.write(header, data: data, to: path)
    let error = #expect(throws: CheckpointError.self) { try SafetensorsFile(path: path) }
    #expect(error?.description.contains(part) == true, "\(error?.description ?? "")")
    #expect(error?.description.hasPrefix(path) == true)
    #expect(error?.category == .badInput)
  }

  @Test func reasonsCarryWhatWasExpectedAndFound() throws {
    let folder = try TemporaryFolder()
    let path = folder.file("x.safetensors")
    func reason(_ header: String, data: Int) throws -> CheckpointError.Reason? {
      try Self.write(header, data: data, to: path)
      return (#expect(throws: CheckpointError.self) { try SafetensorsFile(path: path) })?.reason
    }
    #expect(
      try reason(#"{"a": {"dtype": "F32", "shape": [3], "data_offsets": [0, 8]}}"#, data: 8)
        == .byteCountMismatch(found: 8, dtype: .f32, shape: [3], expected: 12))
    #expect(
      try reason(#"{"a": {"dtype": "U8", "shape": [4], "data_offsets": [2, 6]}}"#, data: 6)
        == .notContiguous(start: 2, expected: 0))
    #expect(
      try reason(#"{"a": {"dtype": "F99", "shape": [2], "data_offsets": [0, 8]}}"#, data: 8)
        == .unknownDType("F99"))
    #expect(try reason("{}", data: 3) == .excess(byteCount: 3))
  }

  @Test func sizesThatCannotBeAreRefused() throws {
    let folder = try TemporaryFolder()
    let path = folder.file("x.safetensors")
    for bytes: [UInt8] in [
      [], [1, 2, 3], Array(repeating: 0xFF, count: 16), [200, 0, 0, 0, 0, 0, 0, 0, 123],
      [0, 0, 0, 0, 0, 0, 0, 0],
      [1, 225, 245, 5, 0, 0, 0, 0, 123],
    ] {
      try AtomicFile.write(bytes, to: path)
      #expect(throws: CheckpointError.self) { try SafetensorsFile(path: path) }
    }
    #expect(throws: FileError.self) { try SafetensorsFile(path: folder.file("none")) }
  }

  @Test func readsWhatItWrites() throws {
    let folder = try TemporaryFolder()
    let types: [DType] = [.f32, .f16, .bf16, .i32, .i64, .u8, .i8, .bool, .f64, .i16, .u16, .u32, .u64]
    let plans =
      types.map { TensorPlan("t.\($0.rawValue)", $0, [2, 3]) } + [
        TensorPlan("scalar", .f32, []), TensorPlan("empty", .f32, [0, 5]),
      ]
    func content(_ plan: TensorPlan) -> [UInt8] {
      (0..<plan.byteCount).map { UInt8(truncatingIfNeeded: $0 &* 7 &+ plan.name.utf8.count) }
    }
    let path = folder.file("model.safetensors")
    try SafetensorsWriter.write(to: path, tensors: plans, metadata: [("format", "pt"), ("note", "引号\"\n")]) {
      plan, emit in try content(plan).withUnsafeBytes { try emit($0) }
    }
    let file = try SafetensorsFile(path: path)
    #expect(file.tensors.count == plans.count)
    #expect(file.metadata.map(\.value) == ["pt", "引号\"\n"])
    for plan in plans {
      let tensor = try #require(file.tensor(plan.name))
      #expect(tensor.dtype == plan.dtype && tensor.shape == plan.shape)
      #expect(Array(file.bytes(of: tensor)) == content(plan))
    }
    // As the reference writes: data start at a multiple of 8, wide elements first.
    #expect(file.tensors[0].range.lowerBound % 8 == 0)
    #expect(
      zip(file.tensors, file.tensors.dropFirst()).allSatisfy { $0.dtype.byteCount >= $1.dtype.byteCount })
  }

  @Test func shardsAndTheirIndexBelongTogether() throws {
    let folder = try TemporaryFolder()
    let plans = (0..<6).map { TensorPlan("t\($0)", .f32, [4, 4]) }
    try SafetensorsWriter.writeSharded(intoFolder: folder.path, tensors: plans, shardByteLimit: 150) {
      plan, emit in
      try [UInt8](repeating: UInt8(plan.name.utf8.last ?? 0), count: 64).withUnsafeBytes { try emit($0) }
    }
    let table = try TensorTable(path: folder.path)
    #expect(table.files.count == 3 && table.names.count == 6)
    #expect(table["t4"]?.bytes.first == UInt8(ascii: "4"))

    // A tensor that the index promises and no shard has; then a shard that is gone.
    try FileManager.default.removeItem(atPath: folder.file("model-00002-of-00003.safetensors"))
    let missing = #expect(throws: CheckpointError.self) { try TensorTable(path: folder.path) }
    #expect(missing?.description.contains("model-00002-of-00003.safetensors") == true)
    #expect(missing?.category == .cannotOpenInput)
    try FileManager.default.copyItem(
      atPath: folder.file("model-00001-of-00003.safetensors"),
      toPath: folder.file("model-00002-of-00003.safetensors"))
    let wrong = #expect(throws: CheckpointError.self) { try TensorTable(path: folder.path) }
    #expect(wrong?.tensor == "t2")
  }

  private static func writeBytes(_ path: String, _ tensors: [String: UInt8]) throws {
    try SafetensorsWriter.write(
      to: path, tensors: tensors.keys.sorted().map { TensorPlan($0, .u8, [1]) }
    ) { plan, emit in try [tensors[plan.name] ?? 0].withUnsafeBytes { try emit($0) } }
  }

  private static func writeIndex(_ folder: TemporaryFolder, _ map: [String: String]) throws {
    let index: JSONValue = [
      "weight_map": .object(JSONObject(map.sorted { $0.key < $1.key }.map { ($0.key, .string($0.value)) }))
    ]
    try AtomicFile.write(index.serialized(), to: folder.file("model.safetensors.index.json"))
  }

  /// As transformers does: `model.safetensors` before an index.
  @Test func aStaleIndexBesideACompleteFileIsNamed() throws {
    let folder = try TemporaryFolder()
    try Self.writeBytes(folder.file("model.safetensors"), ["a": 1])
    try Self.writeIndex(folder, ["a": "model-00001-of-00002.safetensors"])
    let table = try TensorTable(path: folder.path)
    #expect(table["a"]?.bytes[0] == 1)
    #expect(table.discrepancies.map(\.fact) == [.shards])
    #expect(table.discrepancies[0].detail.contains("model.safetensors.index.json"))
  }

  @Test func tensorsOutsideOfTheirShardAreFoundAndNamed() throws {
    let folder = try TemporaryFolder()
    let (one, two) = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
    try Self.writeBytes(folder.file(one), ["a": 1, "unlisted": 9])
    try Self.writeBytes(folder.file(two), ["b": 2, "c": 3])
    try Self.writeIndex(folder, ["a": one, "b": one, "c": two])
    let table = try TensorTable(path: folder.path)
    #expect(table.names == ["a", "b", "c", "unlisted"] && table["b"]?.bytes[0] == 2)
    #expect(
      table.discrepancies.count == 2 && table.discrepancies[1].detail.contains("does not list unlisted"))
    #expect(table.discrepancies[0].detail == "puts b in \(one), but it is in \(two), which is used")

    // Both shards have it: the index decides.
    try Self.writeIndex(folder, ["a": one, "b": two, "c": two])
    try Self.writeBytes(folder.file(one), ["a": 1, "b": 7])
    let doubled = try TensorTable(path: folder.path)
    #expect(doubled["b"]?.bytes[0] == 2 && doubled.inFileOrder.count == 3)
    #expect(doubled.discrepancies.map(\.detail) == ["two files hold b; the one in \(two) is used"])

    // A shard of another download.
    try Self.writeBytes(folder.file(one), ["a": 1])
    try Self.writeBytes(folder.file("model-00003-of-00003.safetensors"), ["d": 1])
    try Self.writeBytes(folder.file("consolidated.safetensors"), ["d": 1])
    let others = try TensorTable(path: folder.path).discrepancies
    #expect(others.count == 1 && others[0].detail.contains("model-00003-of-00003.safetensors"))
  }

  @Test func theIndexCannotLeadOutOfTheFolder() throws {
    let folder = try TemporaryFolder()
    for name in [
      "../x.safetensors", "/etc/passwd", "a/b.safetensors", "", "..", "a/\u{301}b.safetensors", "../\u{200D}",
      "a\0\u{301}",
    ] {
      let index: JSONValue = ["weight_map": ["t": .string(name)]]
      try AtomicFile.write(index.serialized(), to: folder.file("model.safetensors.index.json"))
      let error = #expect(throws: CheckpointError.self) { try TensorTable(path: folder.path) }
      #expect(error?.category == .badInput)
    }
  }

  /// Names are bytes: two spellings of é are two tensors, and two files.
  @Test func namesAreComparedByBytes() throws {
    let folder = try TemporaryFolder()
    let names = ["\u{E9}", "e\u{301}"]
    for (number, name) in names.enumerated() {
      try SafetensorsWriter.write(
        to: folder.file("\(name).safetensors"), tensors: names.map { TensorPlan($0, .u8, [1]) }
      ) { plan, emit in
        try [UInt8(number * 2 + (plan.name.utf8.count - 2))].withUnsafeBytes { try emit($0) }
      }
    }
    let file = try SafetensorsFile(path: folder.file("e\u{301}.safetensors"))
    #expect(file.tensors.count == 2)
    #expect(try names.map { file.bytes(of: try #require(file.tensor($0)))[0] } == [2, 3])
    let map = JSONObject(names.map { ($0, .string("\($0).safetensors")) })
    let index: JSONValue = ["weight_map": .object(map)]
    try AtomicFile.write(
      index.serialized(),
      to: folder.file("model.safetensors.index.json"))
    let table = try TensorTable(path: folder.path)
    #expect(table.files.count == 2 && table.names.count == 2)
    #expect(names.map { table[$0]?.bytes[0] } == [0, 3])
  }

  @Test func aSingleFileOfAnyNameIsFound() throws {
    let folder = try TemporaryFolder()
    #expect(throws: CheckpointError.self) { try TensorTable(path: folder.path) }
    try Self.write(
      #"{"a": {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]}}"#, data: 4,
      to: folder.file("gptq_model-4bit-128g.safetensors"))
    #expect(try TensorTable(path: folder.path).names == ["a"])
    try Self.write("{}", data: 0, to: folder.file("other.safetensors"))
    #expect(try TensorTable(path: folder.path).names == ["a"])
  }

  /// What a download left in place of the file is named.
  @Test(arguments: [
    (
      "version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 1\n",
      CheckpointError.Reason.foreign(.gitLFSPointer)
    ),
    ("<!DOCTYPE html><html><body>401</body></html>", .foreign(.webPage)),
    ("\n <HTML lang=en>", .foreign(.webPage)),
    ("Entry not found", .foreign(.hubMessage)),
    ("PAR1\u{15}\u{4}\u{15}\u{20}", .foreign(.parquet)),
    ("PK\u{3}\u{4}\u{0}\u{0}\u{8}\u{8}\u{0}", .foreign(.zip)),
  ])
  func substitutesAreNamed(text: String, reason: CheckpointError.Reason) throws {
    let folder = try TemporaryFolder()
    try AtomicFile.write(text, to: folder.file("model.safetensors"))
    let error = #expect(throws: CheckpointError.self) {
      try SafetensorsFile(path: folder.file("model.safetensors"))
    }
    #expect(error?.reason == reason)
  }
}
