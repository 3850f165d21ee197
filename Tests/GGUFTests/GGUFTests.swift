import Compute
import Files
import Foundation
import GGUF
import Safetensors
import Tensors
import TestSupport
import Testing

@Suite struct GGUFBlockTests {
  /// The floats that the `gguf` package makes of the same bytes (`Fixtures/README.md`).
  @Test(arguments: GGUFTensorType.allCases, InstructionSet.runnable)
  func dequantizesBitForBit(type: GGUFTensorType, isa: InstructionSet) throws {
    let file = try GGUFFile(path: Fixture.path("gguf/blocks.gguf"))
    let expected = try SafetensorsFile(path: Fixture.path("gguf/blocks.safetensors"))
    let tensor = try #require(file.tensor(type.name))
    #expect(tensor.type == type && tensor.shape == [3, 512])
    let result = AlignedBuffer<Float>(count: 3 * 512)
    GGUFBlocks.dequantize(
      try #require(file.bytes(of: tensor).baseAddress), type: type, count: 3 * 512, into: result.pointer,
      kernels: try #require(Kernels(for: isa)))
    let floats = expected.bytes(of: try #require(expected.tensor(type.name)))
    let wrong = (0..<result.count).filter {
      result[$0].bitPattern != floats.loadUnaligned(fromByteOffset: 4 * $0, as: UInt32.self)
    }
    #expect(wrong.isEmpty, "first at \(wrong.first ?? 0)")
  }

  @Test func quantizesFloatsToQ8AsTheReference() throws {
    let expected = try SafetensorsFile(path: Fixture.path("gguf/blocks.safetensors"))
    let input = expected.bytes(of: try #require(expected.tensor("q8.input")))
    let output = expected.bytes(of: try #require(expected.tensor("q8.output")))
    var blocks = [UInt8](repeating: 0, count: output.count)
    let floats = (0..<input.count / 4).map { input.loadUnaligned(fromByteOffset: 4 * $0, as: Float.self) }
    let fits = blocks.withUnsafeMutableBytes { to in
      floats.withUnsafeBufferPointer {
        GGUFCodes.quantizedQ8($0.baseAddress!, count: $0.count, into: to.baseAddress!)
      }
    }
    #expect(fits)
    #expect(blocks == Array(output))
    let tooLarge = [Float](repeating: 1e38, count: 32)
    #expect(
      !blocks.withUnsafeMutableBytes { to in
        tooLarge.withUnsafeBufferPointer {
          GGUFCodes.quantizedQ8($0.baseAddress!, count: 32, into: to.baseAddress!)
        }
      })
  }

  /// Types that carry codes exactly give `scale * (code - zero)` again, whatever the group size.
  @Test(
    arguments: [
      (4, true, GGUFTensorType.q4_0), (3, true, .q4_0), (2, true, .q4_0), (8, true, .q8_0), (4, false, .q5_0),
      (3, false, .q5_0), (4, false, .q4_1),
    ], [32, 64, 160])
  func codesSurvive(kind: (bits: Int, symmetric: Bool, type: GGUFTensorType), group: Int) throws {
    let m = randomMatrix(
      bits: kind.bits, symmetric: kind.symmetric, permuted: false, out: 37, inputs: 160, group: group)
    let carrier = GGUFCodes.carrier(
      bits: m.bits, groupSize: m.groupSize, inFeatures: m.inFeatures, isSymmetric: m.isSymmetric,
      isMonotone: m.isMonotone, asymmetric: kind.type)
    #expect(carrier == .type(kind.type))
    let rows = Array((0..<37).reversed())
    let blocks = GGUFCodes.blocks(m, rows: rows, type: kind.type)
    let floats = AlignedBuffer<Float>(count: 37 * 160)
    GGUFBlocks.dequantize(
      blocks.pointer, type: kind.type, count: floats.count, into: floats.pointer, kernels: .scalar)
    for (r, n) in rows.enumerated() {
      for k in 0..<160 {
        let at = k / m.groupSize * 37 + n
        let scale = HalfPrecision.value(of: m.scales[at])
        let expected = scale * Float(Int(m.codes[k * 37 + n]) - Int(m.zeros[at]))
        // Q4_1 rounds scale · zero to eleven bits, and the sum of the two products to fp32.
        let slack = kind.type == .q4_1 ? scale * Float(m.zeros[at]) * 0x1p-11 * 1.01 : 0
        #expect(abs(floats[r * 160 + k] - expected) <= slack)
      }
    }
  }

  @Test func whatGGUFCannotCarryIsSaid() {
    func obstacle(_ bits: Int, _ symmetric: Bool, _ monotone: Bool, group: Int = 32) -> String {
      guard
        case .obstacle(let text) = GGUFCodes.carrier(
          bits: bits, groupSize: group, inFeatures: 64, isSymmetric: symmetric, isMonotone: monotone,
          asymmetric: .q4_1)
      else { return "" }
      return text
    }
    #expect(obstacle(4, true, false).contains("--static-groups"))
    #expect(obstacle(8, false, true).contains("--dequantize"))
    #expect(obstacle(4, true, true, group: 48).contains("48"))
  }
}

@Suite struct GGUFFileTests {
  @Test func readsEveryTypeOfValue() throws {
    let file = try GGUFFile(path: Fixture.path("gguf/blocks.gguf"))
    #expect(file.version == 3)
    for name in ["uint8", "uint16", "uint32", "uint64"] { #expect(try file.integer("test.\(name)") == 200) }
    for name in ["int8", "int16", "int32", "int64"] { #expect(try file.integer("test.\(name)") == -3) }
    #expect(file["test.float32"] == .float32(1.5) && file["test.float64"] == .float64(1.5))
    #expect(try file.flag("test.bool") == true)
    #expect(try file.string("test.string") == "智脑")
    #expect(try file.strings("test.strings") == ["a", "", "é"])
    #expect(try file.integers("test.numbers") == [1, -2, 3])
    #expect(try file.string("test.missing") == nil)
    #expect(throws: GGUFError.self) { try file.integer("test.string") }
    #expect(throws: GGUFError.self) { try file.strings("test.numbers") }
    #expect(throws: GGUFError.self) { try file.integers("test.strings") }
  }

  /// A small file from its parts, each of which a test may replace.
  struct Parts {
    var magic = Array("GGUF".utf8)
    var version: UInt32 = 3
    var tensorCount: UInt64?
    var valueCount: UInt64?
    var values: [[UInt8]] = []
    var tensors: [[UInt8]] = []
    var data = [UInt8](repeating: 0, count: 64)
    var alignment = 32

    static func little<T: FixedWidthInteger>(_ value: T) -> [UInt8] {
      withUnsafeBytes(of: value.littleEndian) { Array($0) }
    }
    static func string(_ text: String) -> [UInt8] { little(UInt64(text.utf8.count)) + Array(text.utf8) }
    static func value(_ key: String, _ type: UInt32, _ content: [UInt8]) -> [UInt8] {
      string(key) + little(type) + content
    }
    /// `dims` as the file has them, fastest first.
    static func tensor(
      _ name: String, _ dims: [UInt64], _ type: UInt32, _ offset: UInt64, rank: UInt32? = nil
    )
      -> [UInt8]
    {
      string(name) + little(rank ?? UInt32(dims.count)) + dims.flatMap { little($0) } + little(type)
        + little(offset)
    }

    var bytes: [UInt8] {
      var out = magic + Parts.little(version) + Parts.little(tensorCount ?? UInt64(tensors.count))
      out += Parts.little(valueCount ?? UInt64(values.count))
      out += values.flatMap { $0 } + tensors.flatMap { $0 }
      while out.count % alignment != 0 { out.append(0) }
      return out + data
    }
  }

  static let good: Parts = {
    var parts = Parts()
    parts.values = [
      Parts.value("a", 8, Parts.string("text")),
      Parts.value(
        "b", 9, Parts.little(UInt32(8)) + Parts.little(UInt64(2)) + Parts.string("x") + Parts.string("")),
    ]
    parts.tensors = [Parts.tensor("t", [4, 2], 0, 0), Parts.tensor("u", [8], 1, 32)]
    return parts
  }()

  static func error(_ bytes: [UInt8]) throws -> GGUFError? {
    let folder = try TemporaryFolder()
    let path = folder.file("x.gguf")
    try AtomicFile.write(bytes, to: path)
    do {
      _ = try GGUFFile(path: path)
      return nil
    } catch let error as GGUFError { return error }
  }

  @Test func theGoodFileIsRead() throws {
    #expect(try Self.error(Self.good.bytes) == nil)
    var second = Self.good
    second.version = 2
    #expect(try Self.error(second.bytes) == nil)
  }

  /// No beginning of a file is a file, and none is a crash.
  @Test func everyTruncationIsRefused() throws {
    let bytes = Self.good.bytes
    for count in 0..<bytes.count - 16 {
      let error = try Self.error(Array(bytes[..<count]))
      #expect(error?.category == .badInput, "\(count) bytes")
    }
  }

  static let broken: [(String, String, @Sendable (inout Parts) -> Void)] = [
    ("F1", "magic", { $0.magic = Array("GGML".utf8) }),
    ("F2", "version 1", { $0.version = 1 }),
    ("F2", "big-endian", { $0.version = 3 << 24 }),
    ("F3", "tensors", { $0.tensorCount = 1 << 60 }),
    ("F3", "metadata", { $0.valueCount = .max }),
    ("F3", "string", { $0.values[0] = Parts.value("a", 8, Parts.little(UInt64.max)) }),
    (
      "F3", "array",
      { $0.values[1] = Parts.value("b", 9, Parts.little(UInt32(6)) + Parts.little(UInt64(1) << 62)) }
    ),
    ("F4", "twice", { $0.values[1] = Parts.value("a", 7, [1]) }),
    ("F4", "UTF-8", { $0.values[1] = Parts.value("b", 8, Parts.little(UInt64(1)) + [0xFF]) }),
    ("F5", "type", { $0.values[1] = Parts.value("b", 13, []) }),
    ("F5", "bool", { $0.values[1] = Parts.value("b", 7, [2]) }),
    (
      "F6", "nesting",
      { parts in
        let nest = Parts.little(UInt32(9)) + Parts.little(UInt64(1))
        parts.values[1] = Parts.value(
          "b", 9, nest + nest + nest + nest + nest + [UInt8](repeating: 0, count: 12))
      }
    ),
    ("F7", "alignment", { $0.values[1] = Parts.value("general.alignment", 4, Parts.little(UInt32(48))) }),
    ("F7", "alignment", { $0.values[1] = Parts.value("general.alignment", 4, Parts.little(UInt32(0))) }),
    ("F8", "name", { $0.tensors[1] = Parts.tensor("t", [8], 1, 32) }),
    ("F8", "rank", { $0.tensors[1] = Parts.tensor("u", [], 1, 32, rank: 5) }),
    ("F8", "Q2_K", { $0.tensors[1] = Parts.tensor("u", [256], 10, 32) }),
    ("F9", "overflow", { $0.tensors[1] = Parts.tensor("u", [1 << 40, 1 << 40], 1, 32) }),
    ("F9", "overflow", { $0.tensors[1] = Parts.tensor("u", [1 << 62, 1], 1, 32) }),
    ("F9", "dimension", { $0.tensors[1] = Parts.tensor("u", [.max], 1, 32) }),
    ("F9", "blocks", { $0.tensors[1] = Parts.tensor("u", [8], 2, 32) }),
    ("F10", "truncated", { $0.tensors[1] = Parts.tensor("u", [64], 1, 32) }),
    ("F10", "truncated", { $0.tensors[1] = Parts.tensor("u", [1 << 40], 1, 32) }),
    ("F11", "overlap", { $0.tensors[1] = Parts.tensor("u", [8], 1, 0) }),
    ("F11", "hole", { $0.tensors[1] = Parts.tensor("u", [8], 1, 64) }),
    ("F11", "alignment", { $0.tensors[1] = Parts.tensor("u", [8], 1, 33) }),
    ("F11", "offset", { $0.tensors[1] = Parts.tensor("u", [8], 1, .max) }),
    ("F12", "tail", { $0.data += [UInt8](repeating: 0, count: 32) }),
  ]

  @Test(arguments: broken.indices)
  func brokenRulesAreNamed(index: Int) throws {
    let (rule, what, change) = Self.broken[index]
    var parts = Self.good
    change(&parts)
    let error = try #require(try Self.error(parts.bytes), "\(what) went unseen")
    #expect(error.description.hasSuffix("(\(rule))"), "\(what): \(error)")
    #expect(error.category == .badInput)
  }

  @Test func writesWhatItReads() throws {
    let folder = try TemporaryFolder()
    let path = folder.file("x.gguf")
    let plans = [GGUFTensorPlan("m", .q8_0, [3, 64]), GGUFTensorPlan("v", .f32, [5])]
    let fields: [(String, GGUFField)] = [
      ("s", .string("智脑")), ("u", .uint32(7)), ("f", .float32(1e-5)), ("b", .bool(false)),
      ("l", .strings(["Ġa", ""])), ("i", .int32s([-1, 4])),
    ]
    try GGUFWriter.write(to: path, fields: fields, tensors: plans) { plan, emit in
      try [UInt8](repeating: plan.name == "m" ? 1 : 2, count: plan.byteCount).withUnsafeBytes { try emit($0) }
    }
    let file = try GGUFFile(path: path)
    #expect(file.byteCount == GGUFWriter.byteCount(fields: fields, tensors: plans))
    #expect(file.tensors.map(\.name) == ["m", "v"] && file.tensors[0].shape == [3, 64])
    #expect(
      file.bytes(of: file.tensors[0]).allSatisfy { $0 == 1 } && file.bytes(of: file.tensors[1]).count == 20)
    #expect(try file.string("s") == "智脑" && file.integer("u") == 7 && file.flag("b") == false)
    #expect(try file.number("f") == .number("1e-05") && file.strings("l") == ["Ġa", ""])
    #expect(try file.integers("i") == [-1, 4])
  }
}

/// Models that llama.cpp's `llama-gguf-split` took apart.
@Suite struct GGUFSplitTests {
  private static func name(_ number: Int, of count: Int = 3) -> String {
    "m-0000\(number)-of-0000\(count).gguf"
  }

  /// Parts of which each holds one tensor of its number.
  private static func write(
    _ folder: TemporaryFolder, _ number: Int, says: Int? = nil, tensor: String? = nil, total: UInt32 = 3
  ) throws {
    var fields: [(String, GGUFField)] = [
      ("split.no", .uint32(UInt32((says ?? number) - 1))), ("split.count", .uint32(3)),
      ("split.tensors.count", .uint32(total)),
    ]
    if number == 1 { fields.append(("general.name", .string("whole"))) }
    try GGUFWriter.write(
      to: folder.file(name(number)), fields: fields,
      tensors: [GGUFTensorPlan(tensor ?? "t\(number)", .f32, [2])]
    ) { plan, emit in
      try [UInt8](repeating: UInt8(number), count: plan.byteCount).withUnsafeBytes { try emit($0) }
    }
  }

  @Test(arguments: 1...3) func anyPartOpensAllOfThem(given: Int) throws {
    let folder = try TemporaryFolder()
    for number in 1...3 { try Self.write(folder, number) }
    let file = try GGUFFile(path: folder.file(Self.name(given)))
    #expect(file.tensors.map(\.name) == ["t1", "t2", "t3"] && file.parts.count == 3)
    #expect(file.tensors.map { file.bytes(of: $0)[7] } == [1, 2, 3])
    #expect(try file.string("general.name") == "whole")
    #expect(file.byteCount == file.parts.reduce(0) { $0 + $1.byteCount })
  }

  @Test func partsThatDoNotBelongTogetherAreNamed() throws {
    func reason(_ change: (TemporaryFolder) throws -> Void, given: String = Self.name(2)) throws -> GGUFError
      .Reason?
    {
      let folder = try TemporaryFolder()
      for number in 1...3 { try Self.write(folder, number) }
      try change(folder)
      return #expect(throws: GGUFError.self) { try GGUFFile(path: folder.file(given)) }?.reason
    }
    let missing = try reason { try FileManager.default.removeItem(atPath: $0.file(Self.name(3))) }
    #expect(missing == .partMissing(name: Self.name(3), number: 3, count: 3))
    #expect(try reason { try Self.write($0, 3, says: 2) } == .wrongPart(found: 2, expected: 3, count: 3))
    // No file is part 70,001 of three.
    #expect(
      try reason { try Self.write($0, 2, says: 70_001) }
        == .badPartName(expected: "NAME" + "-00001-of-00003.gguf"))
    #expect(try reason { try Self.write($0, 3, tensor: "t1") } == .inTwoParts)
    #expect(try reason { try Self.write($0, 1, total: 4) } == .partsIncomplete(found: 3, expected: 4))
    let joined = try reason(
      { folder in
        let parts = try (1...3).map { try Data(contentsOf: URL(fileURLWithPath: folder.file(Self.name($0)))) }
        try parts.reduce(Data(), +).write(to: URL(fileURLWithPath: folder.file("x.gguf")))
      }, given: "x.gguf")
    #expect(joined == .joined)
    let renamed = try reason(
      { try FileManager.default.moveItem(atPath: $0.file(Self.name(2)), toPath: $0.file("x.gguf")) },
      given: "x.gguf")
    #expect(renamed == .badPartName(expected: "NAME-00002-of-00003.gguf"))
  }
}
