import Architecture
import AutoGPTQ
import Compute
import Files
import JSON
import Safetensors
import Synchronization
import Tensors

/// Weights of a Hugging Face folder: floats are read where they are mapped; AutoGPTQ's integers are brought into the
/// kernels' order in memory.
package final class FolderStore: ModelStore {
  package let files: any ModelFiles
  package let configuration: ModelConfiguration
  package let quantization: QuantizeConfiguration?
  package let discrepancies: [Discrepancy]
  private let table: TensorTable
  private let index: TensorIndex
  private let foundWarnings = Mutex<[String]>([])

  package var path: String { table.path }
  package var kind: ModelKind { quantization == nil ? .checkpoint : .autoGPTQ }
  package var warnings: [String] { foundWarnings.withLock { $0 } }
  package var weightFiles: [String] { table.files.map(\.path) }
  package var extent: (tensors: Int, byteCount: Int) { (table.names.count, table.byteCount) }
  package var residentBytes: Int { table.files.reduce(0) { $0 + $1.file.byteCount } }
  package var mappedWeights: UnsafeBytes? { nil }

  /// - Parameter path: a folder as Hugging Face serves it.
  package init(path: String, families: [ModelFamily] = ModelFamily.builtIn) throws {
    let files = FolderFiles(path)
    var model = try files.modelConfiguration(families: families)
    let table = try TensorTable(path: path)
    model.naming = TensorNaming(table.names, family: model.family)
    let quantization = try StoredQuantization(files.quantizeConfiguration(), table)
    // Encoders have no output head.
    let head = model.family.kind == .decoder ? try TiedHead(model, table) : nil
    if head?.isSeparate == true {
      model.untie()
      let json = JSONValue.object(model.json).serialized(indent: 2) + "\n"
      self.files = OverlaidFiles(files, changes: ["config.json": Array(json.utf8)])
    } else {
      self.files = files
    }
    self.table =
      if let head, head.embeddingIsHead { table.renaming(head.headName, to: head.embeddingName) } else {
        table
      }
    configuration = model
    self.quantization = quantization.configuration
    discrepancies =
      model.discrepancies + table.discrepancies
      + [quantization.discrepancy, head?.discrepancy].compactMap { $0 }
    index = TensorIndex(model)
  }

  package func releasePages() { for file in table.files { file.file.releasePages() } }

  package func label(of id: TensorID) -> String { index.name(of: id) }

  package func problems(progress: (Int) -> Void) -> [ModelProblem] {
    var problems: [ModelProblem] = []
    var done = 0
    for tensor in table.inFileOrder {
      if let problem = FiniteCheck.problem(tensor) { problems.append(ModelProblem(.values, problem)) }
      done += tensor.info.byteCount
      progress(done)
    }
    return problems
  }

  package func matrix(_ module: ModuleID, out: Int, in inFeatures: Int) throws -> WeightMatrix {
    let name = index.name(of: module)
    if let quantization, table["\(name).qweight"] != nil {
      return .intPanels(IntPanels.inMemory(try quantized(name, quantization, out: out, in: inFeatures)))
    }
    let tensor = try table.required("\(name).weight", shape: [out, inFeatures])
    guard [.f32, .f16, .bf16].contains(tensor.dtype) else {
      throw ModelError(.wrongType(tensor.dtype), path: tensor.file.path, tensor: tensor.name)
    }
    guard let base = tensor.bytes.baseAddress else {
      throw ModelError(.empty, path: tensor.file.path, tensor: tensor.name)
    }
    return .rows(
      RowMatrix(
        elements: base, dtype: tensor.dtype, outFeatures: out, inFeatures: inFeatures, owner: tensor.file))
  }

  /// A head in integers is a head of its own, whatever the configuration says of ties, as in GPTQModel: codes are not tied.
  package func separateHead(out: Int, in inFeatures: Int) throws -> WeightMatrix? {
    guard quantization != nil, table["\(index.name(of: ModuleID.head)).qweight"] != nil else { return nil }
    return try matrix(.head, out: out, in: inFeatures)
  }

  private func quantized(_ module: String, _ c: QuantizeConfiguration, out: Int, in inFeatures: Int) throws
    -> QuantizedMatrix
  {
    let (matrix, warning) = try AutoGPTQModule.read(
      module, from: table, configuration: c.settings(of: module), out: out, in: inFeatures)
    if let warning { foundWarnings.withLock { $0.append(warning) } }
    if let obstacle = IntPanelLayout.obstacle(bits: matrix.bits, groupSize: matrix.groupSize, in: inFeatures)
    {
      throw ModelError(.notPanels(obstacle), path: path, tensor: module)
    }
    return matrix
  }

  package func vector(_ id: TensorID, count: Int) throws -> AlignedBuffer<Float>? {
    let name = index.name(of: id)
    guard table[name] != nil else { return nil }
    let tensor = try table.required(name, shape: [count])
    guard [.f32, .f16, .bf16].contains(tensor.dtype) else {
      throw ModelError(.wrongType(tensor.dtype), path: tensor.file.path, tensor: name)
    }
    return try widened(tensor.bytes, dtype: tensor.dtype, count: count, tensor: name, path: tensor.file.path)
  }
}

extension FolderStore {
  package func tensors() throws -> [ModelEntry] {
    var entries: [ModelEntry] = []
    var taken: Set<String> = []
    if let quantization {
      for matrix in index.all where matrix.shape.count == 2 {
        let module = index.name(of: matrix.id.module)
        guard table["\(module).qweight"] != nil else { continue }
        let c = try quantization.settings(of: module)
        let (out, inFeatures) = (matrix.shape[0], matrix.shape[1])
        let p = try AutoGPTQModule.parameters(module, from: table, configuration: c, out: out, in: inFeatures)
        if let obstacle = IntPanelLayout.obstacle(bits: c.bits, groupSize: p.groupSize, in: inFeatures) {
          throw ModelError(.notPanels(obstacle), path: path, tensor: module)
        }
        let layout = IntPanelLayout(
          bits: c.bits, groupSize: p.groupSize, outFeatures: out, inFeatures: inFeatures,
          isSymmetric: p.zeros.allSatisfy { $0 == UInt8(1 << (c.bits - 1)) },
          isPermuted: p.groupIndex.enumerated().contains { Int($0.element) != $0.offset / p.groupSize })
        entries.append(
          ModelEntry(
            key: .known(matrix.id), shape: matrix.shape,
            form: .quantized(layout) { [self] in try quantized(module, quantization, out: out, in: inFeatures)
            }))
        taken.formUnion(AutoGPTQModule.suffixes.map { "\(module).\($0)" })
      }
    }
    for name in table.names where !taken.contains(name) {
      guard let tensor = table[name] else { continue }
      entries.append(
        ModelEntry(
          key: index.key(named: name), shape: tensor.shape,
          form: .rows(tensor.dtype, UnsafeBytes(tensor.bytes, owner: tensor.file))))
    }
    return entries
  }
}

/// A vector's elements as floats, all of them finite.
func widened(
  _ bytes: UnsafeRawBufferPointer, dtype: DType, count: Int, tensor: String, path: String,
  pool: WorkerPool = .shared
) throws -> AlignedBuffer<Float> {
  let result = AlignedBuffer<Float>(count: count)
  if let base = bytes.baseAddress {
    pool.kernels.widen(result.pointer, from: base, type: dtype.kernelType, count: count)
  }
  if let index = result.buffer.firstIndex(where: { !$0.isFinite }) {
    throw ModelError(.notFinite(index: index, "\(result[index])"), path: path, tensor: tensor)
  }
  return result
}
