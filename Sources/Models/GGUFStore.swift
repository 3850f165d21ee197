import Architecture
import AutoGPTQ
import Compute
import Files
import GGUF
import Tensors

/// Weights of a GGUF file under Hugging Face's names. Floats are used where they are mapped; blocks are brought to
/// `dequantizedType` when asked for.
package struct GGUFStore: ModelStore {
  package let files: any ModelFiles
  package let configuration: ModelConfiguration
  package let discrepancies: [Discrepancy]
  private let file: GGUFFile
  private let index: TensorIndex
  /// What blocks become: bf16, f16 or f32.
  private let dequantizedType: DType
  private let table: [TensorID: Source]
  private let kept: GGUFKeptCodes?

  package var path: String { file.path }
  package var kind: ModelKind { .gguf }
  package var weightFiles: [String] { file.parts.map(\.path) }
  package var extent: (tensors: Int, byteCount: Int) { (file.tensors.count, file.byteCount) }
  /// Blocks become floats or panels in memory, beside the mapped file.
  package var residentBytes: Int {
    table.values.reduce(file.byteCount) { total, source in
      guard source.tensor.type.dtype == nil || source.rows != nil else { return total }
      let count = source.tensor.shape.reduce(1, *)
      return total + count * (source.tensor.type.dtype ?? dequantizedType).byteCount
    }
  }
  package var mappedWeights: UnsafeBytes? { nil }

  private struct Source {
    var tensor: GGUFTensor
    /// Row n is row `rows[n]` of the file's tensor; nil: the same order.
    var rows: [Int]?
  }

  /// - Parameters:
  ///   - dequantizedType: what the blocks become: bf16, f16 or f32.
  ///   - keepsCodes: blocks that GPTQ's integers can express stay integers.
  ///   - preTokenizer: llama.cpp's name for how the tokenizer cuts text, where the file does not say it.
  /// - Throws: when the file has tensors that no decoder of this kind has: leaving them out would change the result.
  package init(
    file: GGUFFile, dequantizedType: DType, keepsCodes: Bool = false, preTokenizer: String? = nil,
    families: [ModelFamily] = ModelFamily.builtIn
  ) throws {
    self.file = file
    self.dequantizedType = dequantizedType
    files = try GGUFModelFiles(
      file: file, weightType: dequantizedType, preTokenizer: preTokenizer, families: families)
    discrepancies = try GGUFConfiguration(file, families: families).discrepancies()
    let c = try files.modelConfiguration(families: families)
    configuration = c
    index = TensorIndex(c)
    let orders = try GGUFStore.orders(file, c)
    var table: [TensorID: Source] = [:]
    for tensor in file.tensors {
      guard let id = index.id(ggufName: tensor.name) else {
        if tensor.name == GGUFRows.frequencies { continue }
        throw ModelError(.notADecoderTensor(family: c.family.name), path: file.path, tensor: tensor.name)
      }
      let order = orders[id.module.kind].flatMap { tensor.shape.first == $0.count ? $0 : nil }
      table[id] = Source(tensor: tensor, rows: order)
    }
    self.table = table
    let matrices = table.filter { $0.key.module.layer != nil && $0.value.tensor.shape.count == 2 }
    kept = keepsCodes ? GGUFKeptCodes(file, matrices: matrices.map(\.value.tensor)) : nil
  }

  /// How the matrices are quantized whose codes are kept; nil: none are.
  package var quantization: QuantizeConfiguration? { kept?.quantization }

  /// The order of the rows of queries and keys where it is not the file's.
  private static func orders(_ file: GGUFFile, _ c: ModelConfiguration) throws -> [ModuleKind: [Int]] {
    guard c.family.gguf?.rotatesNeighbours == true else { return [:] }
    // No more rows than the file has bytes: a number in the metadata must not fill the memory.
    guard c.attentionHeads * c.headDim <= file.byteCount else {
      throw ModelError(.tooSmall(heads: c.attentionHeads, headDim: c.headDim), path: file.path)
    }
    return [
      .query: GGUFRows.halves(heads: c.attentionHeads, headDim: c.headDim),
      .key: GGUFRows.halves(heads: c.kvHeads, headDim: c.headDim),
    ]
  }

  package func releasePages() { file.releasePages() }

  package func label(of id: TensorID) -> String { index.ggufName(of: id) ?? index.name(of: id) }

  private func keepsCodes(_ id: TensorID, _ source: Source) -> Bool {
    kept?.type == source.tensor.type && source.tensor.shape.count == 2 && id.module.layer != nil
  }

  private func source(_ id: TensorID, shape: [Int]) throws -> Source {
    guard let source = table[id] else {
      throw ModelError(.missing(expected: shape), path: path, tensor: label(of: id))
    }
    guard source.tensor.shape == shape else {
      throw ModelError(
        .wrongShape(found: source.tensor.shape, expected: shape), path: path, tensor: source.tensor.name)
    }
    return source
  }

  package func matrix(_ module: ModuleID, out: Int, in inFeatures: Int) throws -> WeightMatrix {
    let id = TensorID(module)
    let source = try source(id, shape: [out, inFeatures])
    if let kept, keepsCodes(id, source) {
      return .intPanels(IntPanels.inMemory(kept.matrix(file, source.tensor, rows: source.rows)))
    }
    let (dtype, content) = try withExtendedLifetime(file) { try self.content(source) }
    guard let base = content.bytes.baseAddress else {
      throw ModelError(.empty, path: path, tensor: source.tensor.name)
    }
    return .rows(
      RowMatrix(elements: base, dtype: dtype, outFeatures: out, inFeatures: inFeatures, owner: content.owner))
  }

  package func vector(_ id: TensorID, count: Int) throws -> AlignedBuffer<Float>? {
    guard table[id] != nil else { return nil }
    let source = try source(id, shape: [count])
    let (dtype, content) = try content(source)
    return try withExtendedLifetime(content.owner) {
      try widened(content.bytes, dtype: dtype, count: count, tensor: source.tensor.name, path: path)
    }
  }

  package func tensors() throws -> [ModelEntry] {
    table.map { id, source in
      if let kept, keepsCodes(id, source) {
        return ModelEntry(
          key: .known(id), shape: source.tensor.shape,
          form: .quantized(kept.layout(source.tensor)) {
            let matrix = kept.matrix(file, source.tensor, rows: source.rows)
            guard matrix.scales.allSatisfy({ $0 & 0x7C00 != 0x7C00 }) else {
              throw ModelError(.scaleNotFinite, path: path, tensor: source.tensor.name)
            }
            return matrix
          })
      }
      let type = narrowType(source) ?? source.tensor.type.dtype ?? dequantizedType
      if let dtype = source.tensor.type.dtype, dtype == type, source.rows == nil {
        let bytes = UnsafeBytes(file.bytes(of: source.tensor), owner: file)
        return ModelEntry(key: .known(id), shape: source.tensor.shape, form: .rows(dtype, bytes))
      }
      return ModelEntry(
        key: .known(id), shape: source.tensor.shape, form: .made(type) { try content(source, as: type) })
    }
  }

  // MARK: Content

  /// GGUF stores every vector in F32. A vector whose values all fit into the type of the model's matrices is converted back
  /// to that type, so that a round trip through GGUF returns the same model.
  private func narrowType(_ source: Source, pool: WorkerPool = .shared) -> DType? {
    guard source.tensor.shape.count == 1, source.tensor.type == .f32,
      let embedding = table[TensorID(.embedding)]
    else { return nil }
    let type = embedding.tensor.type.dtype ?? dequantizedType
    guard type != .f32 else { return nil }
    let bytes = file.bytes(of: source.tensor)
    guard let base = bytes.baseAddress else { return nil }
    let count = bytes.count / 4
    let narrow = AlignedBuffer<UInt16>(count: count)
    let wide = AlignedBuffer<Float>(count: count)
    pool.kernels.widen(wide.pointer, from: base, type: DType.f32.kernelType, count: count)
    pool.kernels.narrow(narrow.pointer, from: wide.pointer, type: type.kernelType, count: count)
    pool.kernels.widen(wide.pointer, from: narrow.pointer, type: type.kernelType, count: count)
    let same = (0..<count).allSatisfy {
      base.loadUnaligned(fromByteOffset: 4 * $0, as: UInt32.self) == wide[$0].bitPattern
    }
    return same ? type : nil
  }

  /// The tensor in the type it is used in: where it is mapped if it can be.
  private func content(_ source: Source) throws -> (DType, UnsafeBytes) {
    if let dtype = source.tensor.type.dtype, source.rows == nil {
      return (dtype, UnsafeBytes(file.bytes(of: source.tensor), owner: file))
    }
    let type = source.tensor.type.dtype ?? dequantizedType
    return (type, try content(source, as: type))
  }

  /// The tensor's rows in Hugging Face's order, in memory of their own.
  /// - Throws: when a value is not finite, or not in `type`.
  private func content(_ source: Source, as type: DType, pool: WorkerPool = .shared) throws -> UnsafeBytes {
    let tensor = source.tensor
    let width = tensor.shape.last ?? 0
    let rowCount = width == 0 ? 0 : tensor.shape.reduce(1, *) / width
    // A vector whose order changes has rows of one element.
    let (rows, columns) = tensor.shape.count == 1 && source.rows != nil ? (width, 1) : (rowCount, width)
    guard columns % tensor.type.blockSize == 0 else {
      throw ModelError(.vectorInBlocks(type: tensor.type.name), path: path, tensor: tensor.name)
    }
    let result = AlignedBuffer<UInt8>(count: rows * columns * type.byteCount)
    let rowBytes = tensor.type.byteCount(of: columns)
    guard rows * columns > 0, let start = file.bytes(of: tensor).baseAddress else {
      return UnsafeBytes(.init(result.buffer), owner: result)
    }
    let from = SharedPointer(bytes: start)
    pool.runRanges(rows) { range in
      Scratch.withFloats(columns) { floats in
        for row in range {
          GGUFBlocks.dequantize(
            from + (source.rows?[row] ?? row) * rowBytes, type: tensor.type, count: columns, into: floats,
            kernels: pool.kernels)
          let to = UnsafeMutableRawPointer(result.pointer + row * columns * type.byteCount)
          pool.kernels.narrow(to, from: floats, type: type.kernelType, count: columns)
        }
      }
    }
    let bytes = UnsafeRawBufferPointer(result.buffer)
    if let index = FiniteCheck.firstNotFinite(bytes, dtype: type, pool: pool) {
      throw ModelError(.outOfRange(index: index, type), path: path, tensor: tensor.name)
    }
    return UnsafeBytes(bytes, owner: result)
  }

  package func problems(progress: (Int) -> Void) -> [ModelProblem] {
    var done = 0
    return file.tensors.compactMap { tensor in
      defer {
        done += tensor.range.count
        progress(done)
      }
      do {
        _ = try content(Source(tensor: tensor), as: tensor.type.dtype ?? .f32)
        return nil
      } catch { return ModelProblem(.values, "\(error)") }
    }
  }
}
