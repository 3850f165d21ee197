import Compute
import Files
import Foundation
import JSON
import PackedModel
import Synchronization
import Tensors

/// One quantized module of a finished layer.
package struct QuantizedModule: Sendable {
  package var name: String
  package var tensor: IntPanelTensor
  package var report: ModuleReport

  package init(name: String, tensor: IntPanelTensor, report: ModuleReport) {
    self.name = name
    self.tensor = tensor
    self.report = report
  }
}

/// Finished layers of a quantization, on disk: what a run that died left behind, and what the outputs are made from.
///
/// `OUTPUT.partial/` holds `recipe.json` (the format's version and what is being computed), one `layer-N.zhinao` for each
/// finished layer (its matrices in the order of packed files, and the modules' reports), `hidden-N.bin`, the activations
/// that go into layer N, and, for methods that look at gradients, `statistics-N.bin`, what a backward pass learned of layer N, and
/// `gradient-N.bin`, the gradient of its input, from which that pass goes on. Every file appears whole or not at all, so a run may die at any moment.
package final class LayerStore: Sendable {
  /// Of the folder. 1, which did not name itself, held AutoGPTQ's tensors.
  package static let version = 2
  private static let versionKey = "format_version"
  private static let reportsName = "reports.json"

  package let path: String
  private let shareForHidden: Double
  /// Files of finished layers, mapped.
  private let opened = Mutex<[Int: PackedModelFile]>([:])

  /// Opens the folder, or makes it.
  /// - Parameters:
  ///   - identity: everything the result depends on. A folder of another identity is refused, and the first difference
  ///     named.
  ///   - shareForHidden: how much of the time may go into keeping activations; infinity keeps them after every layer, so that
  ///     a run that died redoes no more than a layer.
  /// - Throws: ``QuantizationError/otherStoreVersion(folder:found:expected:)`` and
  ///   ``QuantizationError/otherQuantization(folder:key:found:expected:)``.
  package init(path: String, identity: JSONObject, shareForHidden: Double = .infinity) throws {
    self.path = path
    self.shareForHidden = shareForHidden
    let manager = FileManager.default
    let manifest = "\(path)/recipe.json"
    if manager.fileExists(atPath: manifest) {
      let found = try JSONValue.parse(file: manifest).objectValue ?? JSONObject()
      let version = found[LayerStore.versionKey]?.intValue ?? 1
      guard version == LayerStore.version else {
        throw QuantizationError.otherStoreVersion(
          folder: path, found: version, expected: LayerStore.version)
      }
      for (key, value) in identity.members where found[key] != value {
        throw QuantizationError.otherQuantization(
          folder: path, key: key, found: LayerStore.brief(found[key]), expected: LayerStore.brief(value))
      }
      return
    }
    LayerStore.removeLeftovers(in: path)
    do { try manager.createDirectory(atPath: path, withIntermediateDirectories: true) } catch {
      throw FileError(.cannotWrite, path: path, detail: "cannot create: \(error.localizedDescription)")
    }
    let members =
      [(LayerStore.versionKey, JSONValue(LayerStore.version))] + identity.members.map { ($0.0, $0.1) }
    try AtomicFile.write(JSONValue.object(JSONObject(members)).serialized(indent: 2) + "\n", to: manifest)
  }

  private static func brief(_ value: JSONValue?) -> String {
    let text = value?.serialized() ?? "nothing"
    guard text.unicodeScalars.count > 80 else { return text }
    return String(String.UnicodeScalarView(text.unicodeScalars.prefix(77))) + "…"
  }

  private static func layerPath(_ layer: Int, in path: String) -> String { "\(path)/layer-\(layer).zhinao" }
  private func layerPath(_ layer: Int) -> String { LayerStore.layerPath(layer, in: path) }
  private func hiddenPath(_ layer: Int) -> String { "\(path)/hidden-\(layer).bin" }
  private func gradientPath(_ layer: Int) -> String { "\(path)/gradient-\(layer).bin" }
  private func statisticsPath(_ layer: Int) -> String { "\(path)/statistics-\(layer).bin" }

  /// How many layers, from the first on, are finished.
  package var finishedLayers: Int { LayerStore.finishedLayers(in: path) }

  package static func finishedLayers(in path: String) -> Int {
    var count = 0
    while FileManager.default.fileExists(atPath: layerPath(count, in: path)) { count += 1 }
    return count
  }

  // MARK: Layers

  package func save(layer: Int, modules: [QuantizedModule], pool: WorkerPool = .shared) throws {
    let reports = Array(JSONValue.array(modules.map(\.report.json)).serialized().utf8)
    let tensors = Dictionary(uniqueKeysWithValues: modules.map { ($0.name, $0.tensor) })
    let header = PackedHeader(
      generator: "layer store", files: [PackedFile(name: LayerStore.reportsName, byteCount: reports.count)],
      tensors: modules.map { module in
        let layout = module.tensor.layout
        return PackedTensor(
          module.name, shape: [layout.outFeatures, layout.inFeatures], encoding: .intPanels(layout))
      }, quantization: nil, provenance: JSONObject())
    try PackedModelWriter.write(to: layerPath(layer), header: header, contents: [reports], pool: pool) {
      tensor, emit in
      guard let tensor = tensors[tensor.name] else { return }
      try emit(tensor.bytes)
    }
  }

  private func file(ofLayer layer: Int) throws -> PackedModelFile {
    try opened.withLock { files in
      if let file = files[layer] { return file }
      let file = try PackedModelFile(path: layerPath(layer))
      files[layer] = file
      return file
    }
  }

  /// A matrix of a finished layer, where it is mapped.
  package func tensor(_ module: String, layer: Int, shape: (out: Int, in: Int)) throws -> IntPanelTensor {
    let file = try file(ofLayer: layer)
    guard let tensor = file.tensor(module), tensor.shape == [shape.out, shape.in],
      case .intPanels(let layout) = tensor.encoding
    else {
      throw QuantizationError.damagedLayer(
        path: file.path, detail: "does not hold \(module) with shape [\(shape.out), \(shape.in)]")
    }
    // Checks the permutation, which products use unseen.
    _ = try file.intPanels(tensor, layout)
    return IntPanelTensor(layout, UnsafeBytes(file.bytes(of: tensor), owner: file.file))
  }

  /// The reports of a finished layer.
  package func reports(layer: Int) throws -> [ModuleReport] {
    let file = try file(ofLayer: layer)
    guard let entry = file.header.files.first(where: { $0.name == LayerStore.reportsName }) else {
      throw QuantizationError.damagedLayer(path: file.path, detail: "does not hold \(LayerStore.reportsName)")
    }
    let label = "\(file.path): \(LayerStore.reportsName)"
    let bytes = UnsafeRawBufferPointer(rebasing: file.file.bytes[entry.range])
    let values = try withExtendedLifetime(file) { try JSONValue.parse(bytes).arrayValue ?? [] }
    return try values.map { try ModuleReport(JSONFields($0, document: label)) }
  }

  /// Gives resident pages of the layers' files back to the system.
  package func releasePages() {
    for file in opened.withLock({ Array($0.values) }) { file.file.releasePages() }
  }

  // MARK: Activations

  package static func byteCount(ofHidden hidden: [AlignedBuffer<Float>]) -> Int {
    hidden.reduce(0) { $0 + $1.count * 4 }
  }

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
  /// - Parameter hidden: of the quantized model, and of the float model when that is followed too: one file, so that both are of the
  ///   same layer.
  package func save(hidden: [AlignedBuffer<Float>], before layer: Int) throws {
    let start = Date()
    defer { kept.withLock { $0 = (Date(), -start.timeIntervalSinceNow) } }
    try LayerStore.write(hidden.map { UnsafeRawBufferPointer($0.buffer) }, to: hiddenPath(layer))
    for older in 0..<layer { unlink(hiddenPath(older)) }
  }

  /// A file for the activations that go into `layer`, which are written in parts.
  func hiddenFile(byteCount: Int, before layer: Int) throws -> AtomicFile {
    kept.withLock { $0.at = Date() }
    return try AtomicFile(path: hiddenPath(layer), expectedByteCount: byteCount)
  }

  /// Keeps the activations, and forgets older ones.
  func commit(hidden file: AtomicFile, before layer: Int) throws {
    try file.commit()
    kept.withLock { $0 = (Date(), -$0.at.timeIntervalSinceNow) }
    for older in 0..<layer { unlink(hiddenPath(older)) }
  }

  private static func write(_ parts: [UnsafeRawBufferPointer], to path: String) throws {
    let file = try AtomicFile(path: path, expectedByteCount: parts.reduce(0) { $0 + $1.count })
    // Small pieces: each is copied, and a few wait to be written.
    for bytes in parts {
      for start in stride(from: 0, to: bytes.count, by: 1 << 21) {
        try file.write(UnsafeRawBufferPointer(rebasing: bytes[start..<min(bytes.count, start + 1 << 21)]))
      }
    }
    try file.commit()
  }

  // MARK: Statistics

  /// The earliest layer whose statistics are there; nil when there are none. They are made from the last layer to the first.
  package func earliestStatistics(layerCount: Int) -> Int? {
    (0..<layerCount).first { FileManager.default.fileExists(atPath: statisticsPath($0)) }
  }

  /// Keeps what was learned of a layer's outputs, and forgets gradients that only later layers needed. The gradient of the layer's
  /// input, from which layers before it go on, is there already.
  package func save(statistics: [UnsafeRawBufferPointer], ofLayer layer: Int, layerCount: Int) throws {
    try LayerStore.write(statistics, to: statisticsPath(layer))
    for later in layer + 1..<max(layerCount, layer + 1) { unlink(gradientPath(later)) }
  }

  /// A file for the gradient of a layer's input, which is written in parts.
  func gradientFile(byteCount: Int, ofLayer layer: Int) throws -> AtomicFile {
    try AtomicFile(path: gradientPath(layer), expectedByteCount: byteCount)
  }

  /// The gradient of a layer's input, of so many bytes; nil when it is not there.
  func gradient(ofLayer layer: Int, byteCount: Int) throws -> MappedFile? {
    let path = gradientPath(layer)
    guard FileManager.default.fileExists(atPath: path) else { return nil }
    let file = try MappedFile(path: path)
    return file.byteCount == byteCount ? file : nil
  }

  /// - Throws: ``QuantizationError/damagedLayer(path:detail:)`` when the file has another size.
  package func statistics(ofLayer layer: Int, byteCount: Int) throws -> MappedFile {
    let file = try MappedFile(path: statisticsPath(layer))
    guard file.byteCount == byteCount else {
      throw QuantizationError.damagedLayer(
        path: file.path, detail: "has \(file.byteCount) bytes, expected \(byteCount)")
    }
    return file
  }

  /// Forgets what a finished layer does not need any more.
  package func removeStatistics(ofLayer layer: Int) { unlink(statisticsPath(layer)) }

  /// Reads the latest activations that are there and go into `layer` or one before it.
  /// - Returns: the layer they go into; nil when there are none.
  package func load(into hidden: [AlignedBuffer<Float>], notAfter layer: Int) throws -> Int? {
    guard
      let (found, file) = try self.hidden(byteCount: LayerStore.byteCount(ofHidden: hidden), notAfter: layer),
      let base = file.bytes.baseAddress
    else { return nil }
    withExtendedLifetime(file) {
      var offset = 0
      for stream in hidden {
        UnsafeMutableRawPointer(stream.pointer).copyMemory(from: base + offset, byteCount: stream.count * 4)
        offset += stream.count * 4
      }
    }
    return found
  }

  /// The latest activations of so many bytes that are there and go into `layer` or one before it.
  func hidden(byteCount: Int, notAfter layer: Int) throws -> (layer: Int, file: MappedFile)? {
    for candidate in (0...layer).reversed()
    where FileManager.default.fileExists(atPath: hiddenPath(candidate)) {
      let file = try MappedFile(path: hiddenPath(candidate))
      if file.byteCount == byteCount { return (candidate, file) }
    }
    return nil
  }

  /// Removes the folder: the outputs are complete.
  package func remove() {
    // From the last layer down and the manifest last, so that what a process leaves that is killed meanwhile is a valid store.
    for layer in (0..<finishedLayers).reversed() {
      unlink(layerPath(layer))
      unlink(hiddenPath(layer))
      unlink(statisticsPath(layer))
    }
    try? FileManager.default.removeItem(atPath: path)
  }

  /// Without a manifest nobody knows what layers in the folder were computed from.
  private static func removeLeftovers(in path: String) {
    for name in (try? FileManager.default.contentsOfDirectory(atPath: path)) ?? []
    where (name.hasPrefix("layer-") && name.hasSuffix(".zhinao"))
      || (["hidden-", "gradient-", "statistics-"].contains { name.hasPrefix($0) } && name.hasSuffix(".bin"))
    {
      unlink("\(path)/\(name)")
    }
  }

  /// Removes the folder if nothing in it saves a later run work.
  package func removeIfEmpty() { if !LayerStore.isOfUse(at: path) { remove() } }

  /// Whether a later run can go on from the folder: it has finished layers, or statistics.
  package static func isOfUse(at path: String) -> Bool {
    let names = (try? FileManager.default.contentsOfDirectory(atPath: path)) ?? []
    return finishedLayers(in: path) > 0 || names.contains { $0.hasPrefix("statistics-") }
  }
}
