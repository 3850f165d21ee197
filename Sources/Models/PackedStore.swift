import Architecture
import AutoGPTQ
import Compute
import Files
import PackedModel
import Tensors

/// Weights of a `.zhinao` file, used where they are mapped.
package struct PackedStore: ModelStore {
  package let configuration: ModelConfiguration
  private let file: PackedModelFile
  private let index: TensorIndex

  package var path: String { file.path }
  package var kind: ModelKind { .packed }
  package var files: any ModelFiles { file.files }
  package var quantization: QuantizeConfiguration? { file.header.quantization }
  package var discrepancies: [Discrepancy] { configuration.discrepancies + unusedHead }
  package var weightFiles: [String] { [path] }
  package var extent: (tensors: Int, byteCount: Int) { (file.header.tensors.count, residentBytes) }
  package var residentBytes: Int { file.file.byteCount }
  package var mappedWeights: UnsafeBytes? { UnsafeBytes(file.file.bytes, owner: file.file) }

  package init(file: PackedModelFile, families: [ModelFamily] = ModelFamily.builtIn) throws {
    self.file = file
    configuration = try file.files.modelConfiguration(
      families: families, tensorNames: file.header.tensors.map(\.name))
    index = TensorIndex(configuration)
  }

  package func releasePages() { file.file.releasePages() }

  /// A head of floats beside a tied embedding, as files of older versions may have it, is not used.
  private var unusedHead: [Discrepancy] {
    guard configuration.tieWordEmbeddings, case .rows? = file.tensor(label(of: TensorID(.head)))?.encoding
    else { return [] }
    return [
      Discrepancy(
        .head, path: path,
        "holds \(label(of: TensorID(.head))), but tie_word_embeddings is true; the embedding is the head. "
          + "Convert the source again if it has a head of its own")
    ]
  }

  package func label(of id: TensorID) -> String { index.name(of: id) }

  package func problems(progress: (Int) -> Void) -> [ModelProblem] {
    file.problems(progress: progress).map { ModelProblem(.damage, $0) }
  }

  package func tensors() throws -> [ModelEntry] {
    try file.header.tensors.map { tensor in
      let key = index.key(named: tensor.name)
      let bytes = UnsafeBytes(file.bytes(of: tensor), owner: file)
      let form: ModelEntry.Form
      switch tensor.encoding {
      case .rows(let dtype): form = .rows(dtype, bytes)
      case .panels(let dtype): form = .panels(dtype, bytes)
      case .intPanels(let layout):
        guard quantization != nil else {
          throw ModelError(.quantizationUnknown(bits: layout.bits), path: path)
        }
        guard let id = key.id, id.part == .weight, index.tensor(id)?.shape.count == 2 else {
          throw ModelError(
            .notAnIntegerMatrix(family: configuration.family.name), path: path, tensor: tensor.name)
        }
        form = .intPanels(layout, bytes)
      }
      return ModelEntry(key: key, shape: tensor.shape, form: form)
    }
  }

  private func tensor(_ id: TensorID, shape: [Int]) throws -> PackedTensor {
    let name = index.name(of: id)
    guard let tensor = file.tensor(name) else {
      throw ModelError(.missing(expected: shape), path: path, tensor: name)
    }
    guard tensor.shape == shape else {
      throw ModelError(.wrongShape(found: tensor.shape, expected: shape), path: path, tensor: name)
    }
    return tensor
  }

  package func matrix(_ module: ModuleID, out: Int, in inFeatures: Int) throws -> WeightMatrix {
    let tensor = try tensor(TensorID(module), shape: [out, inFeatures])
    guard let base = file.bytes(of: tensor).baseAddress else {
      throw ModelError(.empty, path: path, tensor: tensor.name)
    }
    switch tensor.encoding {
    case .rows(let dtype):
      guard [.f32, .f16, .bf16].contains(dtype) else {
        throw ModelError(.wrongType(dtype), path: path, tensor: tensor.name)
      }
      return .rows(
        RowMatrix(elements: base, dtype: dtype, outFeatures: out, inFeatures: inFeatures, owner: file.file))
    case .panels(let dtype):
      return .panels(
        PanelMatrix(elements: base, dtype: dtype, outFeatures: out, inFeatures: inFeatures, owner: file.file))
    case .intPanels(let layout): return .intPanels(try file.intPanels(tensor, layout))
    }
  }

  package func separateHead(out: Int, in inFeatures: Int) throws -> WeightMatrix? {
    guard case .intPanels? = file.tensor(label(of: TensorID(.head)))?.encoding else { return nil }
    return try matrix(.head, out: out, in: inFeatures)
  }

  package func vector(_ id: TensorID, count: Int) throws -> AlignedBuffer<Float>? {
    let name = index.name(of: id)
    guard file.tensor(name) != nil else { return nil }
    let tensor = try tensor(id, shape: [count])
    guard case .rows(let dtype) = tensor.encoding, [.f32, .f16, .bf16].contains(dtype) else {
      throw ModelError(.notFloats(expected: [count]), path: path, tensor: name)
    }
    return try widened(file.bytes(of: tensor), dtype: dtype, count: count, tensor: name, path: path)
  }
}
