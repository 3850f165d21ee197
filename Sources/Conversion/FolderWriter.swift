import AutoGPTQ
import Compute
import Files
import Foundation
import JSON
import Models
import Safetensors
import Tensors

/// Writes a model as a Hugging Face folder: floats under their own names, quantized modules as AutoGPTQ's tensors.
package struct FolderWriter {
  package let contents: ModelContents
  package let dtype: DType?
  package let shardByteLimit: Int
  package let zeroPointFormat: ZeroPointFormat
  package let pool: WorkerPool

  package static let defaultShardByteLimit = 5_000_000_000

  /// - Parameter zeroPointFormat: nil: what the model already declares, or v1.
  package init(
    _ contents: ModelContents, dtype: DType? = nil, shardByteLimit: Int = defaultShardByteLimit,
    zeroPointFormat: ZeroPointFormat? = nil, pool: WorkerPool = .shared
  ) {
    self.contents = contents
    self.dtype = dtype
    self.shardByteLimit = shardByteLimit
    self.zeroPointFormat = zeroPointFormat ?? contents.quantization?.zeroPointFormat ?? .v1
    self.pool = pool
  }

  /// The tensors to be written, in order.
  package var plans: [TensorPlan] {
    let index = contents.index
    return contents.entries.flatMap { entry -> [TensorPlan] in
      switch entry.form {
      case .rows(let stored, _), .panels(let stored, _), .made(let stored, _):
        return [TensorPlan(index.name(of: entry.key), target(stored), entry.shape)]
      case .intPanels(let layout, _), .quantized(let layout, _), .stream(let layout, _):
        return AutoGPTQModule.plans(
          moduleName(entry), bits: layout.bits, groupCount: layout.groupCount, out: layout.outFeatures,
          in: layout.inFeatures)
      }
    }
  }

  /// - Precondition: integer matrices are of modules that the architecture's table has.
  fileprivate func moduleName(_ entry: ModelEntry) -> String {
    // The stores refuse integer matrices of other names, and a quantization goes by modules.
    guard let id = entry.key.id else { preconditionFailure("\(entry.key) is no module of this model") }
    return contents.index.name(of: id.module)
  }

  private func target(_ stored: DType) -> DType {
    stored.isFloat && stored != .f64 ? dtype ?? stored : stored
  }

  package func write(
    to path: String, replacing: Bool, toolVersion: String, extraFiles: [(name: String, text: String)] = [],
    progress: (Int, Int) -> Void = { _, _ in }
  ) throws {
    for entry in contents.entries {
      switch entry.form {
      case .intPanels(let layout, _), .quantized(let layout, _), .stream(let layout, _):
        guard entry.key.id?.module != .head else {
          throw ConversionError(
            .headInIntegers(bits: layout.bits), path: contents.path, tensor: moduleName(entry))
        }
        if let obstacle = AutoGPTQModule.obstacle(
          bits: layout.bits, out: layout.outFeatures, in: layout.inFeatures)
        {
          throw ConversionError(.notAutoGPTQ(obstacle), path: contents.path, tensor: moduleName(entry))
        }
      default: continue
      }
    }
    let plans = plans
    var names: Set<ByteText> = []
    for plan in plans where !names.insert(plan.name.bytes).inserted {
      throw ConversionError(.nameAppearsTwice, path: contents.path, tensor: plan.name)
    }
    let folder = try AtomicFolder(path: path, replacing: replacing)
    let total = plans.reduce(0) { $0 + $1.byteCount }
    var done = 0
    var source = EntrySource(writer: self)
    try SafetensorsWriter.writeSharded(
      intoFolder: folder.stagingPath, tensors: plans, shardByteLimit: shardByteLimit,
      metadata: metadata(toolVersion)
    ) { plan, emit in
      try source.emit(plan) { bytes in
        try emit(bytes)
        done += bytes.count
        progress(done, total)
      }
      // Pages already written would count as memory of this process until its end.
      contents.releasePages()
    }
    try writeFiles(into: folder, toolVersion: toolVersion)
    for file in extraFiles { try AtomicFile.write(file.text, to: folder.stagedPath(file.name)) }
    try OutputCheck(contents: contents, destination: path).model(at: folder.stagingPath)
    try folder.commit()
  }

  private func metadata(_ toolVersion: String) -> [(String, String)] {
    guard let q = contents.quantization else { return [("format", "pt")] }
    func python(_ flag: Bool) -> String { flag ? "True" : "False" }
    return [
      ("format", "pt"), ("gptq_bits", "\(q.bits)"), ("gptq_group_size", "\(q.groupSize)"),
      ("gptq_desc_act", python(q.descendingActivation)), ("gptq_damp_percent", "\(q.dampPercent)"),
      ("gptq_checkpoint_format", zeroPointFormat.rawValue), ("quantizer", "zhinao-toolchain:\(toolVersion)"),
    ]
  }

  private func writeFiles(into folder: AtomicFolder, toolVersion: String) throws {
    for name in contents.files.names
    where ModelFileNames.belongsToModel(name) && name != "quantize_config.json" {
      guard let bytes = try contents.files.bytes(named: name) else { continue }
      if name.bytes.contains("/") {
        let parent = PathParts(folder.stagedPath(name)).folder
        do {
          try FileManager.default.createDirectory(atPath: parent, withIntermediateDirectories: true)
        } catch {
          throw FileError(.cannotWrite, path: parent, reason: .cannotCreate(error.localizedDescription))
        }
      }
      if name == "config.json" {
        try AtomicFile.write(configuration(bytes, toolVersion: toolVersion), to: folder.stagedPath(name))
      } else {
        try AtomicFile.write(bytes, to: folder.stagedPath(name))
      }
    }
    if let quantization = quantizationDictionary(toolVersion) {
      try AtomicFile.write(
        quantization.serialized(indent: 2) + "\n", to: folder.stagedPath("quantize_config.json"))
    }
  }

  private func quantizationDictionary(_ toolVersion: String) -> JSONValue? {
    guard var quantization = contents.quantization else { return nil }
    quantization.zeroPointFormat = zeroPointFormat
    let json = quantization.json(toolVersion: toolVersion, dynamic: dynamic(quantization))
    guard contents.index.configuration.encoder != nil, var object = json.objectValue else { return json }
    // transformers looks for blocks under the names that decoders have, and refuses a folder that does not say others.
    object["block_name_to_quantize"] = .string(String(contents.index.layerPrefix.dropLast()))
    return .object(object)
  }

  /// Modules with other settings than the checkpoint's, and projections in floats, in GPTQModel's terms; nil: none.
  private func dynamic(_ quantization: QuantizeConfiguration) -> JSONObject? {
    let index = contents.index
    var rules = DynamicRules()
    for entry in contents.entries {
      guard let id = entry.key.id, id.part == .weight, index.tensor(id)?.role == .projection else { continue }
      switch entry.form {
      case .rows, .panels, .made: rules.add(id.module, .floats)
      case .intPanels(let layout, _), .quantized(let layout, _), .stream(let layout, _):
        var override = JSONObject()
        if layout.bits != quantization.bits { override["bits"] = .init(layout.bits) }
        let groupSize = quantization.groupSize == -1 ? layout.inFeatures : quantization.groupSize
        if layout.groupSize != groupSize { override["group_size"] = .init(layout.groupSize) }
        if quantization.isSymmetric && !layout.isSymmetric { override["sym"] = false }
        if layout.isPermuted && !quantization.descendingActivation { override["desc_act"] = true }
        if !override.isEmpty { rules.add(id.module, .settings(override)) }
      }
    }
    return rules.json(index)
  }

  /// `config.json`, unchanged unless the type or the quantization is another than it says.
  private func configuration(_ bytes: [UInt8], toolVersion: String) throws -> [UInt8] {
    guard var object = try JSONValue.parse(bytes).objectValue,
      contents.quantization != nil || dtype != nil || object["quantization_config"] != nil
    else { return bytes }
    if contents.quantization == nil { object["quantization_config"] = nil }
    if let dtype {
      let name = dtype == .bf16 ? "bfloat16" : dtype == .f16 ? "float16" : "float32"
      let keys = ["dtype", "torch_dtype"].filter { object[$0] != nil }
      for key in keys.isEmpty ? ["torch_dtype"] : keys { object[key] = .string(name) }
    }
    if let quantization = quantizationDictionary(toolVersion) { object["quantization_config"] = quantization }
    return Array((JSONValue.object(object).serialized(indent: 2) + "\n").utf8)
  }
}

/// Turns entries into the bytes of safetensors tensors; keeps the module it read last, since a module's tensors are
/// written one after the other.
private struct EntrySource {
  let writer: FolderWriter
  /// By the names of their tensors.
  private let floats: [ByteText: ModelEntry]
  /// By the names of their modules.
  private let integers: [ByteText: ModelEntry]
  private var module: (name: String, tensor: IntPanelTensor)?

  init(writer: FolderWriter) {
    self.writer = writer
    let index = writer.contents.index
    let entries = writer.contents.entries
    // Names are unique: the writer refuses a folder with two tensors of one name.
    floats = Dictionary(
      uniqueKeysWithValues: entries.filter { $0.dtype != nil }.map { (index.name(of: $0.key).bytes, $0) })
    integers = Dictionary(
      uniqueKeysWithValues: entries.filter { $0.dtype == nil }.map { (writer.moduleName($0).bytes, $0) })
  }

  mutating func emit(_ plan: TensorPlan, _ emit: (UnsafeRawBufferPointer) throws -> Void) throws {
    let pool = writer.pool
    if let entry = floats[plan.name] {
      let cast = FloatCast(plan.name, path: writer.contents.path, pool: pool)
      switch entry.form {
      case .rows(let stored, let bytes):
        return try cast.forEachChunk(bytes.bytes, from: stored, to: plan.dtype, emit)
      case .made(let stored, let make):
        let made = try make()
        return try withExtendedLifetime(made.owner) {
          try cast.forEachChunk(made.bytes, from: stored, to: plan.dtype, emit)
        }
      case .panels(let stored, let bytes):
        guard let base = bytes.bytes.baseAddress else { return }
        // A few megabytes of panels at a time.
        let (out, inFeatures) = (plan.shape[0], plan.shape[1])
        let rowBytes = inFeatures * stored.byteCount
        let step = max(1, (8 << 20) / max(1, rowBytes * panelWidth)) * panelWidth
        let rows = AlignedBuffer<UInt8>(count: min(out, step) * rowBytes)
        for first in stride(from: 0, to: out, by: step) {
          let count = min(step, out - first)
          FloatPanels.unpack(
            base + first * rowBytes, dtype: stored, out: count, in: inFeatures, into: rows.pointer, pool: pool
          )
          try cast.forEachChunk(
            UnsafeRawBufferPointer(start: rows.pointer, count: count * rowBytes), from: stored,
            to: plan.dtype, emit)
        }
        return
      default: break
      }
    }
    let dot = plan.name.utf8.lastIndex(of: UInt8(ascii: ".")) ?? plan.name.endIndex
    let (name, suffix) = (String(plan.name[..<dot]), String(plan.name[dot...].utf8.dropFirst()) ?? "")
    if module?.name != name {
      guard let tensor = try integers[name]?.intPanelTensor(pool: pool) else {
        // The plans are made of these very entries.
        preconditionFailure("no entry for \(name)")
      }
      module = (name, tensor)
    }
    guard let tensor = module?.tensor else { return }
    try AutoGPTQModule.bytes(of: suffix, tensor, format: writer.zeroPointFormat).withUnsafeBytes {
      try emit($0)
    }
  }
}
