import Adapters
import Architecture
import Compute
import Files
import Models
import Safetensors
import Tensors

extension ModelContents {
  /// The model with an adapter merged in: `W + scale · B · A` in fp32, rounded once.
  /// - Parameters:
  ///   - dtype: the type to round to; nil: the weight's own.
  ///   - note: called with what a person must know of the result.
  /// - Throws: when the adapter changes something that the model does not have, or has in integers.
  package func merging(_ adapter: LoRAAdapter, dtype: DType? = nil, note: (String) -> Void = { _ in }) throws
    -> ModelContents
  {
    if let text = adapter.untargetedNote { note(text) }
    return try withoutActuallyEscaping(note) { note in
      let vocabulary = LoRAVocabulary(base: self, adapter: adapter, dtype: dtype, note: note)
      return try vocabulary.merged().merging(
        adapter, updates: vocabulary.updates(), except: vocabulary.names, dtype: dtype)
    }
  }

  private func merging(
    _ adapter: LoRAAdapter, updates: [ByteText: LoRAAdapter.Update], except done: Set<ByteText>, dtype: DType?
  ) throws -> ModelContents {
    var result = self
    let table = index
    let places = Dictionary(
      entries.enumerated().map { ($0.element.key, $0.offset) }, uniquingKeysWith: { a, _ in a })
    for (name, tensor) in adapter.originals.merging(adapter.replacements, uniquingKeysWith: { $1 })
      .sorted(by: { $0.key < $1.key }) where !done.contains(name)
    {
      guard let place = places[table.key(named: name.text)], let stored = entries[place].dtype,
        [.f32, .f16, .bf16].contains(stored)
      else {
        throw AdapterError(
          .noTensorInBase(shape: tensor.shape, base: path), path: adapter.path, tensor: tensor.name)
      }
      guard entries[place].shape == tensor.shape else {
        throw AdapterError(
          .replacementDoesNotFit(shape: tensor.shape, base: entries[place].shape), path: adapter.path,
          tensor: tensor.name)
      }
      let type = dtype ?? stored
      result.entries[place].form = .made(type) { try rounded(tensor, to: type) }
    }
    var pieces: [Int: [LoRAPiece]] = [:]
    for (module, update) in updates.sorted(by: { $0.key < $1.key }) {
      let changed = try adapter.places(of: module.text, update, in: configuration, base: path) { id in
        places[.known(TensorID(id))].map { entries[$0].shape }
      }
      for place in changed {
        guard let target = places[.known(TensorID(place.module))] else { continue }
        pieces[target, default: []].append(LoRAPiece(update, rows: place.rows))
      }
    }
    for (target, pieces) in pieces {
      let entry = result.entries[target]
      guard let stored = entry.dtype, [.f32, .f16, .bf16].contains(stored) else {
        throw ConversionError(.baseInIntegers, path: path, tensor: table.name(of: entry.key))
      }
      let type = dtype ?? stored
      result.entries[target].form = .made(type) { [path] in
        try LoRAMerge(
          entry: entry, name: table.name(of: entry.key), stored: stored, pieces: pieces, path: path
        ).merged(as: type)
      }
    }
    for (module, rows) in adapter.rows.sorted(by: { $0.key < $1.key }) {
      try result.set(rows, of: module.text, adapter, dtype: dtype)
    }
    return result
  }

  /// Puts trained rows in the place of a matrix's.
  private mutating func set(
    _ rows: LoRAAdapter.Rows, of module: String, _ adapter: LoRAAdapter, dtype: DType?
  ) throws {
    guard let id = index.module(named: module),
      let place = entries.firstIndex(where: { $0.key == .known(TensorID(id)) })
    else { throw AdapterError(.noModuleInBase(base: path), path: adapter.path, tensor: module) }
    let entry = entries[place]
    guard let stored = entry.dtype, [.f32, .f16, .bf16].contains(stored) else {
      throw ConversionError(.baseInIntegers, path: path, tensor: index.name(of: entry.key))
    }
    guard entry.shape.count == 2, rows.values.shape[1] == entry.shape[1],
      rows.places.allSatisfy({ (0..<entry.shape[0]).contains($0) })
    else { throw AdapterError(.rowsUnknown(entry.shape), path: adapter.path, tensor: rows.values.name) }
    let type = dtype ?? stored
    let name = index.name(of: entry.key)
    entries[place].form = .made(type) { [path] in
      let old = try entry.rowMajorBytes()
      let rowBytes = entry.shape[1] * type.byteCount
      let result = AlignedBuffer<UInt8>(count: entry.shape[0] * rowBytes)
      var done = 0
      func put(_ piece: UnsafeRawBufferPointer, at offset: Int) {
        guard let base = piece.baseAddress else { return }
        UnsafeMutableRawPointer(result.pointer + offset).copyMemory(from: base, byteCount: piece.count)
      }
      try withExtendedLifetime(old.owner) {
        try FloatCast(name, path: path, pool: .shared).forEachChunk(old.bytes, from: stored, to: type) {
          piece in
          put(piece, at: done)
          done += piece.count
        }
      }
      let new = try rounded(rows.values, to: type)
      withExtendedLifetime(new.owner) {
        for (i, row) in rows.places.enumerated() {
          put(
            UnsafeRawBufferPointer(rebasing: new.bytes[i * rowBytes..<(i + 1) * rowBytes]), at: row * rowBytes
          )
        }
      }
      return UnsafeBytes(UnsafeRawBufferPointer(result.buffer), owner: result)
    }
  }
}

/// A tensor's elements in another type.
func rounded(_ tensor: StoredTensor, to type: DType, pool: WorkerPool = .shared) throws -> UnsafeBytes {
  let result = AlignedBuffer<UInt8>(count: tensor.shape.reduce(type.byteCount, *))
  var done = 0
  try FloatCast(tensor.name, path: tensor.file.path, pool: pool).forEachChunk(
    tensor.bytes, from: tensor.dtype, to: type
  ) { piece in
    if let base = piece.baseAddress {
      UnsafeMutableRawPointer(result.pointer + done).copyMemory(from: base, byteCount: piece.count)
    }
    done += piece.count
  }
  return UnsafeBytes(UnsafeRawBufferPointer(result.buffer), owner: result)
}

/// A and B of one update in fp32, and which of B's rows belongs to which row of the weight.
private struct LoRAPiece: Sendable {
  let a: AlignedBuffer<Float>
  let b: AlignedBuffer<Float>
  let rank: Int
  let scale: Float
  let rows: [Int]

  init(_ update: LoRAAdapter.Update, rows: [Int], pool: WorkerPool = .shared) {
    func wide(_ tensor: StoredTensor) -> AlignedBuffer<Float> {
      let count = tensor.shape.reduce(1, *)
      let floats = AlignedBuffer<Float>(count: count)
      if let base = tensor.bytes.baseAddress {
        pool.kernels.widen(floats.pointer, from: base, type: tensor.dtype.kernelType, count: count)
      }
      return floats
    }
    func transposed(_ tensor: StoredTensor) -> AlignedBuffer<Float> {
      let (source, width) = (wide(tensor), tensor.shape[1])
      let result = AlignedBuffer<Float>(count: tensor.shape[0] * width)
      for row in 0..<tensor.shape[0] {
        for column in 0..<width { result[column * tensor.shape[0] + row] = source[row * width + column] }
      }
      return result
    }
    (a, b) =
      update.isOfEmbedding
      ? (transposed(update.b), transposed(update.a)) : (wide(update.a), wide(update.b))
    rank = update.rank
    scale = update.scale
    self.rows = rows
  }
}

/// Computes one merged weight.
private struct LoRAMerge {
  let entry: ModelEntry
  let name: String
  let stored: DType
  let pieces: [LoRAPiece]
  let path: String

  /// Row-major bytes `[out, in]` of `type`.
  func merged(as type: DType, pool: WorkerPool = .shared) throws -> UnsafeBytes {
    let (out, width) = (entry.shape[0], entry.shape[1])
    let source = try entry.rowMajorBytes(pool: pool)
    let result = AlignedBuffer<UInt8>(count: out * width * type.byteCount)
    let kernels = pool.kernels
    guard let base = source.bytes.baseAddress else { return source }
    let from = SharedPointer(bytes: base)
    withExtendedLifetime(source.owner) {
      pool.runRanges(out) { range in
        Scratch.withFloats(2 * width) { row in
          let sum = row + width
          for n in range {
            kernels.widen(
              row, from: from + n * width * stored.byteCount, type: stored.kernelType, count: width)
            for piece in pieces where piece.rows[n] >= 0 {
              add(piece, row: piece.rows[n], to: row, sum: sum, width: width)
            }
            kernels.narrow(
              result.pointer + n * width * type.byteCount, from: row, type: type.kernelType, count: width)
          }
        }
      }
    }
    let bytes = UnsafeRawBufferPointer(result.buffer)
    if let index = FiniteCheck.firstNotFinite(bytes, dtype: type, pool: pool) {
      throw ConversionError(.mergedNotFinite(index: index), path: path, tensor: name)
    }
    return UnsafeBytes(bytes, owner: result)
  }

  /// `row += scale · Σ_r B[row, r] · A[r]`, the sum first, as PEFT does it.
  private func add(
    _ piece: LoRAPiece, row n: Int, to row: UnsafeMutablePointer<Float>, sum: UnsafeMutablePointer<Float>,
    width: Int
  ) {
    sum.update(repeating: 0, count: width)
    for r in 0..<piece.rank {
      let factor = piece.b.pointer[n * piece.rank + r]
      let line = piece.a.pointer + r * width
      for k in 0..<width { sum[k] += factor * line[k] }
    }
    for k in 0..<width { row[k] += piece.scale * sum[k] }
  }
}
