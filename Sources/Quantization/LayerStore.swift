import AutoGPTQ
import Compute
import Files
import Foundation
import JSON
import Safetensors
import Synchronization
import Tensors

/// Finished layers of a quantization, on disk: what a run that died left behind, and what the outputs are made from.
///
/// `OUTPUT.partial/` holds `recipe.json` (what is being computed), one `layer-N.safetensors` for each finished layer
/// (AutoGPTQ tensors with v2 zero points, and the modules' reports), and `hidden-N.bin`, the activations that go into
/// layer N. Every file appears whole or not at all, so a run may die at any moment.
package final class LayerStore: Sendable {
  package let path: String
  private let configuration: QuantizeConfiguration
  private let shareForHidden: Double

  /// Opens the folder, or makes it.
  /// - Parameters:
  ///   - identity: everything the result depends on. A folder of another identity is refused, and the first difference
  ///     named.
  ///   - shareForHidden: how much of the time may go into keeping activations; infinity keeps them after every layer, so that
  ///     a run that died redoes no more than a layer.
  package init(
    path: String, identity: JSONObject, recipe: QuantizationRecipe, shareForHidden: Double = .infinity
  ) throws {
    self.path = path
    self.shareForHidden = shareForHidden
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

  /// When activations were kept last, or the run began, and what keeping them took.
  private let kept = Mutex<(at: Date, seconds: Double?)>((Date(), nil))

  /// Whether it is time to keep activations. A run that dies computes the layers since once more, which takes less than
  /// quantizing them did.
  package func isHiddenDue(byteCount: Int) -> Bool {
    kept.withLock {
      -$0.at.timeIntervalSinceNow * shareForHidden > $0.seconds ?? Double(byteCount) / 400e6
    }
  }

  /// Keeps the activations that go into `layer`, and forgets older ones.
  package func save(hidden: AlignedBuffer<Float>, before layer: Int) throws {
    let start = Date()
    defer { kept.withLock { $0 = (Date(), -start.timeIntervalSinceNow) } }
    let bytes = UnsafeRawBufferPointer(hidden.buffer)
    let file = try AtomicFile(path: hiddenPath(layer), expectedByteCount: bytes.count)
    // Small pieces: each is copied, and a few wait to be written.
    for start in stride(from: 0, to: bytes.count, by: 1 << 21) {
      try file.write(UnsafeRawBufferPointer(rebasing: bytes[start..<min(bytes.count, start + 1 << 21)]))
    }
    try file.commit()
    for older in 0..<layer { unlink(hiddenPath(older)) }
  }

  /// Reads the latest activations that are there and go into `layer` or one before it.
  /// - Returns: the layer they go into; nil when there are none.
  package func load(into hidden: AlignedBuffer<Float>, notAfter layer: Int) throws -> Int? {
    for candidate in (0...layer).reversed() {
      guard FileManager.default.fileExists(atPath: hiddenPath(candidate)) else { continue }
      let file = try MappedFile(path: hiddenPath(candidate))
      guard file.byteCount == hidden.count * 4, let base = file.bytes.baseAddress else { continue }
      withExtendedLifetime(file) {
        UnsafeMutableRawPointer(hidden.pointer).copyMemory(from: base, byteCount: file.byteCount)
      }
      return candidate
    }
    return nil
  }

  /// Removes the folder: the outputs are complete.
  package func remove() { try? FileManager.default.removeItem(atPath: path) }

  /// Removes the folder if no layer in it is finished.
  package func removeIfEmpty() { if finishedLayers == 0 { remove() } }
}
