import Architecture
import Compute
import Files
import Foundation
import JSON
import Models
import PackedModel
import Tensors

/// Writes a model as one `.zhinao` file.
package struct ModelPacker {
  package let contents: ModelContents
  /// Type that floats are brought to; nil: kept bit for bit.
  package let dtype: DType?
  package let pool: WorkerPool
  /// Whether the file gets a ``SelfCheckRecord``.
  package let recordsSelfCheck: Bool
  private let index: TensorIndex

  package init(
    _ contents: ModelContents, dtype: DType? = nil, recordsSelfCheck: Bool = true, pool: WorkerPool = .shared
  ) {
    self.recordsSelfCheck = recordsSelfCheck
    self.contents = contents
    self.dtype = dtype
    self.pool = pool
    index = contents.index
  }

  /// What the file will hold, without places and checksums.
  package func header(generator: String, provenance: JSONObject) throws -> (
    header: PackedHeader, files: [[UInt8]]
  ) {
    var names: [PackedFile] = []
    var bytes: [[UInt8]] = []
    for name in contents.files.names where ModelFileNames.belongsToModel(name) {
      guard let content = try contents.files.bytes(named: name) else { continue }
      names.append(PackedFile(name: name, byteCount: content.count))
      bytes.append(content)
    }
    if recordsSelfCheck {
      let count = SelfCheckRecord.byteCount(SelfCheckShape(contents.configuration))
      names.append(PackedFile(name: SelfCheckRecord.fileName, byteCount: count))
      bytes.append([UInt8](repeating: 0, count: count))
    }
    let provenance = record(of: provenance, digests: nil)
    let tensors = contents.entries.map {
      PackedTensor(index.name(of: $0.key), shape: $0.shape, encoding: encoding(of: $0))
    }
    return (
      PackedHeader(
        generator: generator, files: names, tensors: tensors, quantization: contents.quantization,
        provenance: provenance), bytes
    )
  }

  package func encoding(of entry: ModelEntry) -> PackedTensor.Encoding {
    switch entry.form {
    case .rows(let stored, _), .made(let stored, _):
      let type = target(stored)
      let isMatrix =
        entry.shape.count == 2 && [.f32, .f16, .bf16].contains(type)
        && entry.key.id.map(index.isMultiplied) == true
      return isMatrix ? .panels(type) : .rows(type)
    case .panels(let stored, _): return .panels(target(stored))
    case .intPanels(let layout, _), .quantized(let layout, _), .stream(let layout, _):
      return .intPanels(layout)
    }
  }

  private func target(_ stored: DType) -> DType {
    stored.isFloat && stored != .f64 ? dtype ?? stored : stored
  }

  /// `provenance` and the source files. Digests are not known before the sources have been read once: until then there
  /// are zeros in their place.
  private func record(of provenance: JSONObject, digests: [String]?) -> JSONObject {
    guard let sources = contents.sources else { return provenance }
    var provenance = provenance
    provenance["sources"] = sources.json(digests)
    return provenance
  }

  /// Writes the file.
  /// - Parameter progress: called with bytes written and bytes in all.
  package func write(
    to path: String, generator: String, provenance: JSONObject, progress: (Int, Int) -> Void = { _, _ in }
  ) throws {
    let (header, files) = try header(generator: generator, provenance: provenance)
    let entries = Dictionary(
      uniqueKeysWithValues: contents.entries.map { (index.name(of: $0.key).bytes, $0) })
    let hashing = contents.sources?.startHashing()
    let total = header.tensors.reduce(0) { $0 + $1.byteCount }
    var done = 0
    let pool = pool
    var trace = try earlyTrace()
    let finish: (String) throws -> PackedModelWriter.Completion = { path in
      var files: [ByteText: [UInt8]] = [:]
      if recordsSelfCheck {
        let record =
          if let traces = trace?.finish() { SelfCheckRecord(traces: traces) } else {
            try SelfCheckRecord.make(path: path, pool: pool)
          }
        files[SelfCheckRecord.fileName] = record.bytes
      }
      return PackedModelWriter.Completion(
        files: files, provenance: record(of: provenance, digests: try hashing?.digests()))
    }
    try PackedModelWriter.write(
      to: path, header: header, contents: files, pool: pool, finish: finish,
      check: { try OutputCheck(contents: contents, destination: path).model(at: $0) }
    ) { tensor, emit in
      guard let entry = entries[tensor.name] else { return }
      // The layer before, while its weights are in the cache.
      if let layer = entry.key.id?.module.layer { trace?.advance(to: layer) }
      try self.emit(entry, as: tensor) { bytes in
        try emit(bytes)
        done += bytes.count
        progress(done, total)
      }
      // Pages already written would count as memory of this process until its end.
      contents.releasePages()
    }
  }

  /// The pass of the self-check on the weights as they are read, where the file will hold just those: reading a large
  /// file again takes as long as writing it. Nil: the record is made from the written file.
  private func earlyTrace() throws -> SelfCheckTrace? {
    guard recordsSelfCheck, contents.configuration.family.kind == .decoder,
      let weights = EntryWeights(contents, dtype: dtype)
    else { return nil }
    let decoder = try DecoderBuilder(contents.configuration, weights: weights).decoder(pool: pool)
    return SelfCheckTrace(decoder, SelfCheckRecord.sequences(SelfCheckShape(contents.configuration)))
  }

  /// Gives the tensor's bytes as the file holds them.
  package func emit(
    _ entry: ModelEntry, as tensor: PackedTensor, _ emit: (UnsafeRawBufferPointer) throws -> Void
  ) throws {
    switch entry.form {
    case .intPanels(_, let stored): try emit(stored.bytes)
    case .stream(_, let make): try make(emit)
    case .quantized(let layout, let matrix):
      let packed = IntPanelTensor(packing: try matrix(), isSymmetric: layout.isSymmetric, pool: pool)
      guard packed.layout == layout else {
        throw ConversionError(.changedWhileRead, path: contents.path, tensor: tensor.name)
      }
      try withExtendedLifetime(packed) { try emit(packed.bytes) }
    case .panels(let stored, let bytes):
      try FloatCast(tensor.name, path: contents.path, pool: pool)
        .forEachChunk(bytes.bytes, from: stored, to: target(stored), emit)
    case .made(let stored, let make):
      var made = entry
      made.form = .rows(stored, try make())
      try self.emit(made, as: tensor, emit)
    case .rows(let stored, let bytes):
      func refuseWhatIsNotFinite() throws {
        if let index = FiniteCheck.firstNotFinite(bytes.bytes, dtype: stored, pool: pool) {
          throw ConversionError(.notFinite(index: index), path: contents.path, tensor: tensor.name)
        }
      }
      let cast = FloatCast(tensor.name, path: contents.path, pool: pool)
      guard case .panels(let type) = tensor.encoding, let base = bytes.bytes.baseAddress else {
        try refuseWhatIsNotFinite()
        return try cast.forEachChunk(bytes.bytes, from: stored, to: target(stored), emit)
      }
      // Panels first, then the type: both work on any piece of panels.
      try PackedModelWriter.emitPanels(
        base, dtype: stored, out: entry.shape[0], in: entry.shape[1], pool: pool
      ) { panels in
        // While they are in the cache; where the element is in the tensor matters only if there is one.
        if FiniteCheck.firstNotFinite(panels, dtype: stored, pool: pool) != nil {
          try refuseWhatIsNotFinite()
        }
        try cast.forEachChunk(panels, from: stored, to: type, emit)
      }
    }
  }
}

/// Brings floats from one stored type to another, a piece at a time.
struct FloatCast {
  let name: String
  let path: String
  let pool: WorkerPool

  init(_ name: String, path: String, pool: WorkerPool) {
    self.name = name
    self.path = path
    self.pool = pool
  }

  /// - Throws: when a value does not fit the new type, or one of the two is not BF16, F16 or F32.
  func forEachChunk(
    _ bytes: UnsafeRawBufferPointer, from: DType, to: DType, _ emit: (UnsafeRawBufferPointer) throws -> Void
  ) throws {
    let chunk = 4 << 20
    if from == to {
      for start in stride(from: 0, to: bytes.count, by: chunk) {
        try emit(UnsafeRawBufferPointer(rebasing: bytes[start..<min(bytes.count, start + chunk)]))
      }
      return
    }
    let floats: [DType] = [.f32, .f16, .bf16]
    guard floats.contains(from), floats.contains(to) else {
      throw ConversionError(.cannotCast(from: from, to: to), path: path, tensor: name)
    }
    guard let base = bytes.baseAddress else { return }
    let count = bytes.count / from.byteCount
    let step = chunk / 4
    let wide = AlignedBuffer<Float>(count: min(count, step))
    let narrow = AlignedBuffer<UInt8>(count: min(count, step) * to.byteCount)
    let kernels = pool.kernels
    for start in stride(from: 0, to: count, by: step) {
      let n = min(step, count - start)
      kernels.widen(wide.pointer, from: base + start * from.byteCount, type: from.kernelType, count: n)
      kernels.narrow(narrow.pointer, from: wide.pointer, type: to.kernelType, count: n)
      let piece = UnsafeRawBufferPointer(start: narrow.pointer, count: n * to.byteCount)
      if let index = FiniteCheck.firstNotFinite(piece, dtype: to, pool: pool) {
        throw ConversionError(.outOfRange("\(wide[index])", to), path: path, tensor: name)
      }
      try emit(piece)
    }
  }
}
