import Adapters
import Architecture
import Compute
import Conversion
import Files
import Foundation
import JSON
import Models
import PackedModel
import Safetensors
import Tensors
import TestSupport
import Testing

/// Files that contradict themselves in ways that no writer produces are refused, and never stop the process.
@Suite struct HostileModelTests {
  static let gqa = Fixture.path("tiny-zhinao-gqa")
  static let up = "model.layers.0.mlp.up_proj"

  /// A copy of the small model whose tensors went through `change`; what is new or has another size is zeros.
  static func model(_ folder: TemporaryFolder, _ change: (inout [TensorPlan]) -> Void) throws -> String {
    try RoundTripTests.changed(folder) { copy in
      let table = try TensorTable(path: copy)
      var plans = table.inFileOrder.map { TensorPlan($0.name, $0.dtype, $0.shape) }
      change(&plans)
      let merged = folder.file("merged.safetensors")
      try SafetensorsWriter.write(to: merged, tensors: plans) { plan, emit in
        if let tensor = table[plan.name], tensor.bytes.count == plan.byteCount {
          return try emit(tensor.bytes)
        }
        try [UInt8](repeating: 0, count: plan.byteCount).withUnsafeBytes { try emit($0) }
      }
      for file in table.files { try FileManager.default.removeItem(atPath: file.path) }
      try? FileManager.default.removeItem(atPath: copy + "/model.safetensors.index.json")
      try FileManager.default.moveItem(atPath: merged, toPath: copy + "/model.safetensors")
    }
  }

  static func retype(_ plans: inout [TensorPlan], _ name: String, _ dtype: DType, _ shape: [Int]? = nil) {
    plans = plans.map { $0.name == name ? TensorPlan(name, dtype, shape ?? $0.shape) : $0 }
  }

  /// A packed file of a quantized model with one more entry.
  static func packed(_ folder: TemporaryFolder, _ extra: (ModelContents) throws -> ModelEntry) throws
    -> String
  {
    var contents = try GGUFOutTests.quantized(bits: 4, symmetric: true, group: 32, permuted: false)
    contents.entries.append(try extra(contents))
    let path = folder.file("m.zhinao")
    // The packer itself checks what it wrote.
    let packer = ModelPacker(contents, recordsSelfCheck: false)
    let (header, files) = try packer.header(generator: "t", provenance: JSONObject())
    try PackedModelWriter.write(to: path, header: header, contents: files) { tensor, emit in
      let entry = try #require(
        contents.entries.first { contents.index.name(of: $0.key).hasSameBytes(as: tensor.name) })
      try packer.emit(entry, as: tensor, emit)
    }
    return path
  }

  static func floats(_ name: String) -> ModelEntry {
    let zeros = AlignedBuffer<Float>([0])
    return ModelEntry(
      key: .other(name.bytes), shape: [1],
      form: .rows(.f32, UnsafeBytes(UnsafeRawBufferPointer(zeros.buffer), owner: zeros)))
  }

  @Test func integersInPlaceOfABiasAreRefused() throws {
    let folder = try TemporaryFolder()
    let path = try Self.packed(folder) { contents in
      let weight = try #require(contents.entries.first { $0.key.id?.module.kind == .up })
      let module = try #require(weight.key.id?.module)
      return ModelEntry(key: .known(TensorID(module, .bias)), shape: weight.shape, form: weight.form)
    }
    let error = #expect(throws: ModelError.self) { try ModelContents(OpenedModel(path: path)) }
    #expect(error?.reason == .notAnIntegerMatrix(family: "zhinao"))
    #expect(error?.tensor == Self.up + ".bias")
  }

  @Test func twoTensorsOfOneNameAreNoFolder() throws {
    let folder = try TemporaryFolder()
    let path = try Self.packed(folder) { _ in Self.floats(Self.up + ".qweight") }
    let contents = try ModelContents(OpenedModel(path: path))
    let error = #expect(throws: ConversionError.self) {
      try FolderWriter(contents).write(to: folder.file("out"), replacing: false, toolVersion: "t")
    }
    #expect(error?.reason == .nameAppearsTwice)
    #expect(error?.tensor == Self.up + ".qweight")
    #expect(!FileManager.default.fileExists(atPath: folder.file("out")))
  }

  @Test func floatsNamedAsAModuleAreKept() throws {
    let folder = try TemporaryFolder()
    let path = try Self.packed(folder) { _ in Self.floats(Self.up) }
    let out = folder.file("out")
    try FolderWriter(ModelContents(OpenedModel(path: path))).write(
      to: out, replacing: false, toolVersion: "t")
    let table = try TensorTable(path: out)
    #expect(table[Self.up]?.shape == [1] && table[Self.up + ".qweight"] != nil)
  }

  @Test func aModuleInFloatsAndInIntegersIsRefused() throws {
    let folder = try TemporaryFolder()
    let packed = try Self.packed(folder) { _ in Self.floats("extra") }
    let source = folder.file("source")
    try FolderWriter(ModelContents(OpenedModel(path: packed))).write(
      to: source, replacing: false, toolVersion: "t")
    let shape = try #require(try TensorTable(path: Self.gqa)[Self.up + ".weight"]).shape
    let table = try TensorTable(path: source)
    let plans =
      table.inFileOrder.map { TensorPlan($0.name, $0.dtype, $0.shape) }
      + [TensorPlan(Self.up + ".weight", .bf16, shape)]
    let merged = folder.file("merged.safetensors")
    try SafetensorsWriter.write(to: merged, tensors: plans) { plan, emit in
      if let tensor = table[plan.name] { return try emit(tensor.bytes) }
      try [UInt8](repeating: 0, count: plan.byteCount).withUnsafeBytes { try emit($0) }
    }
    for file in table.files { try FileManager.default.removeItem(atPath: file.path) }
    try? FileManager.default.removeItem(atPath: source + "/model.safetensors.index.json")
    try FileManager.default.moveItem(atPath: merged, toPath: source + "/model.safetensors")
    let error = #expect(throws: ModelError.self) { try ModelContents(OpenedModel(path: source)) }
    #expect(error?.reason == .appearsTwice)
    #expect(error?.tensor == Self.up + ".weight")
  }

  @Test func aNormOfIntegersIsRefusedEverywhere() throws {
    let folder = try TemporaryFolder()
    let path = try Self.model(folder) { Self.retype(&$0, "model.norm.weight", .i64) }
    let contents = try ModelContents(OpenedModel(path: path))
    let read = #expect(throws: ModelError.self) { try OpenedModel(path: path).decoder() }
    #expect(read?.reason == .wrongType(.i64))
    let packed = #expect(throws: ModelError.self) {
      try ModelPacker(contents).write(
        to: folder.file("m.zhinao"), generator: "t", provenance: JSONObject())
    }
    #expect(packed?.reason == .notFloats(expected: [128]))
    let exported = #expect(throws: ConversionError.self) { try GGUFExporter(contents).plan(tokenizer: nil) }
    #expect(exported?.reason == .wrongType(.i64))
  }

  @Test func doublesAreNotRounded() throws {
    let folder = try TemporaryFolder()
    let path = try Self.model(folder) { Self.retype(&$0, Self.up + ".weight", .f64) }
    let contents = try ModelContents(OpenedModel(path: path))
    let error = #expect(throws: ConversionError.self) {
      try GGUFExporter(contents, floatType: .f16).plan(tokenizer: nil)
    }
    #expect(error?.reason == .wrongType(.f64))
  }

  @Test func aBiasOfAnotherShapeIsRefused() throws {
    let folder = try TemporaryFolder()
    let bias = "model.layers.0.self_attn.qkv_proj.bias"
    let path = try Self.model(folder) { Self.retype(&$0, bias, .bf16, [8]) }
    let error = #expect(throws: ModelError.self) { try ModelContents(OpenedModel(path: path)) }
    #expect(error?.reason == .wrongShape(found: [8], expected: [256]))
    #expect(error?.tensor == bias)
  }

  @Test func aShapeThatNoMemoryHoldsIsRefused() throws {
    let folder = try TemporaryFolder()
    let path = try Self.model(folder) { $0.append(TensorPlan("extra", .u8, [1 << 61, 0])) }
    let error = #expect(throws: ModelError.self) { try ModelContents(OpenedModel(path: path)) }
    #expect(error?.reason == .impossibleShape([1 << 61, 0]))
  }

  @Test func anAdapterDoesNotReplaceIntegers() throws {
    let folder = try TemporaryFolder()
    let path = try Self.model(folder) { $0.append(TensorPlan("extra.weight", .i64, [4])) }
    let adapter = folder.file("adapter")
    try FileManager.default.createDirectory(atPath: adapter, withIntermediateDirectories: true)
    try AtomicFile.write(#"{"r": 2, "lora_alpha": 2}"#, to: adapter + "/adapter_config.json")
    try SafetensorsWriter.write(
      to: adapter + "/adapter_model.safetensors",
      tensors: [TensorPlan("base_model.model.extra.weight", .f32, [4])]
    ) { _, emit in try [Float](repeating: 1, count: 4).withUnsafeBytes { try emit($0) } }
    let contents = try ModelContents(OpenedModel(path: path))
    let error = #expect(throws: AdapterError.self) { try contents.merging(LoRAAdapter(path: adapter)) }
    #expect(error?.reason == .noTensorInBase(shape: [4], base: path))
  }
}
