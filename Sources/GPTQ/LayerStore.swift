import Checkpoints
import FileSupport
import Foundation
import Numerics
import PackedModel

/// Finished layers of a quantization, on disk: what a run that died left behind, and what the outputs are made from.
///
/// `OUTPUT.partial/` holds `recipe.json` (what is being computed), one `layer-N.safetensors` for each finished layer
/// (AutoGPTQ tensors with v2 zero points, and the modules' reports), and `hidden-N.bin`, the activations that go into
/// layer N. Every file appears whole or not at all, so a run may die at any moment.
package final class LayerStore {
  package let path: String
  private let configuration: QuantizeConfiguration

  /// Opens the folder, or makes it.
  /// - Parameter identity: everything the result depends on. A folder of another identity is refused, and the first
  ///   difference named.
  package init(path: String, identity: JSONObject, recipe: QuantizationRecipe) throws {
    self.path = path
    configuration = recipe.quantizeConfiguration(format: .v2)
    let manager = FileManager.default
    let manifest = "\(path)/recipe.json"
    if manager.fileExists(atPath: manifest) {
      let found = try JSONValue.parse(file: manifest).objectValue ?? JSONObject()
      for (key, value) in identity.members where found[key] != value {
        throw QuantizationError(
          "\(path) holds an unfinished quantization with another \(key): \(LayerStore.brief(found[key])) there, "
            + "\(LayerStore.brief(value)) now; finish it with the same command, or remove the folder",
          category: .cannotWrite)
      }
      return
    }
    do { try manager.createDirectory(atPath: path, withIntermediateDirectories: true) } catch {
      throw FileError(.cannotWrite, path: path, detail: "cannot create: \(error.localizedDescription)")
    }
    try AtomicFile.write(JSONValue.object(identity).serialized(indent: 2) + "\n", to: manifest)
  }

  private static func brief(_ value: JSONValue?) -> String {
    let text = value?.serialized() ?? "nothing"
    return text.count > 80 ? String(text.prefix(77)) + "…" : text
  }

  private func layerPath(_ layer: Int) -> String { "\(path)/layer-\(layer).safetensors" }
  private func hiddenPath(_ layer: Int) -> String { "\(path)/hidden-\(layer).bin" }

  /// How many layers, from the first on, are finished.
  package var finishedLayers: Int { LayerStore.finishedLayers(in: path) }

  package static func finishedLayers(in path: String) -> Int {
    var count = 0
    while FileManager.default.fileExists(atPath: "\(path)/layer-\(count).safetensors") { count += 1 }
    return count
  }

  // MARK: Layers

  package func save(layer: Int, modules: [(name: String, matrix: QuantizedMatrix, report: ModuleReport)])
    throws
  {
    var plans: [TensorPlan] = []
    for module in modules {
      plans += AutoGPTQModule.plans(
        module.name, bits: module.matrix.bits, groupCount: module.matrix.groupCount,
        out: module.matrix.outFeatures,
        in: module.matrix.inFeatures)
    }
    let matrices = Dictionary(uniqueKeysWithValues: modules.map { ($0.name, $0.matrix) })
    let reports = JSONValue.array(modules.map(\.report.json)).serialized()
    try SafetensorsWriter.write(
      to: layerPath(layer), tensors: plans, metadata: [("format", "pt"), ("reports", reports)]
    ) { plan, emit in
      guard let matrix = matrices[plan.name.module] else { return }
      let suffix = String(plan.name.dropFirst(plan.name.module.count + 1))
      try AutoGPTQModule.bytes(of: suffix, matrix, format: .v2).withUnsafeBytes { try emit($0) }
    }
  }

  package func matrix(_ module: String, layer: Int, out: Int, in inFeatures: Int) throws -> QuantizedMatrix {
    try AutoGPTQModule.read(
      module, from: TensorTable(path: layerPath(layer)), configuration: configuration, out: out,
      in: inFeatures
    ).matrix
  }

  /// The reports of a finished layer, as they were written.
  package func reports(layer: Int) throws -> [JSONValue] {
    let file = try SafetensorsFile(path: layerPath(layer))
    guard let text = file.metadata.first(where: { $0.key == "reports" })?.value else { return [] }
    return try JSONValue.parse(text).arrayValue ?? []
  }

  // MARK: Activations

  /// Keeps the activations that go into `layer`, and forgets older ones.
  package func save(hidden: AlignedBuffer<Float>, before layer: Int) throws {
    let bytes = UnsafeRawBufferPointer(hidden.buffer)
    let file = try AtomicFile(path: hiddenPath(layer), expectedByteCount: bytes.count)
    for start in stride(from: 0, to: bytes.count, by: 1 << 26) {
      try file.write(UnsafeRawBufferPointer(rebasing: bytes[start..<min(bytes.count, start + 1 << 26)]))
    }
    try file.commit()
    if layer > 0 { try? FileManager.default.removeItem(atPath: hiddenPath(layer - 1)) }
  }

  /// Reads the activations that go into `layer`; false when they are not there.
  package func load(into hidden: AlignedBuffer<Float>, before layer: Int) throws -> Bool {
    guard FileManager.default.fileExists(atPath: hiddenPath(layer)) else { return false }
    let file = try MappedFile(path: hiddenPath(layer))
    guard file.byteCount == hidden.count * 4, let base = file.bytes.baseAddress else { return false }
    withExtendedLifetime(file) {
      UnsafeMutableRawPointer(hidden.pointer).copyMemory(from: base, byteCount: file.byteCount)
    }
    return true
  }

  /// Removes the folder: the outputs are complete.
  package func remove() { try? FileManager.default.removeItem(atPath: path) }

  /// Removes the folder if no layer in it is finished.
  package func removeIfEmpty() { if finishedLayers == 0 { remove() } }
}
