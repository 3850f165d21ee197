import Architecture
import Compute
import Files
import Tensors

/// Float weights used where the entries of a model's contents lie in memory, before anything is written.
package struct EntryWeights: WeightSource {
  package let path: String
  private let entries: [TensorKey: ModelEntry]
  private let index: TensorIndex

  /// - Parameter dtype: what floats will be brought to; nil: kept.
  /// - Returns: nil unless every tensor is in memory with the values a packed file will have.
  package init?(_ contents: ModelContents, dtype: DType?) {
    for entry in contents.entries {
      switch entry.form {
      case .rows(let stored, _), .panels(let stored, _): if stored != dtype ?? stored { return nil }
      case .intPanels, .quantized, .made, .stream: return nil
      }
    }
    path = contents.path
    index = contents.index
    entries = Dictionary(uniqueKeysWithValues: contents.entries.map { ($0.key, $0) })
  }

  package func releasePages() {}

  package func label(of id: TensorID) -> String { index.name(of: id) }

  package func matrix(_ module: ModuleID, out: Int, in inFeatures: Int) throws -> WeightMatrix {
    let name = label(of: TensorID(module))
    guard let entry = entries[.known(TensorID(module))], entry.shape == [out, inFeatures],
      let dtype = entry.dtype,
      [.f32, .f16, .bf16].contains(dtype)
    else {
      throw ModelError(.notFloats(expected: [out, inFeatures]), path: path, tensor: name)
    }
    switch entry.form {
    case .rows(_, let stored):
      if let base = stored.bytes.baseAddress {
        return .rows(
          RowMatrix(
            elements: base, dtype: dtype, outFeatures: out, inFeatures: inFeatures, owner: stored.owner))
      }
    case .panels(_, let stored):
      if let base = stored.bytes.baseAddress {
        return .panels(
          PanelMatrix(
            elements: base, dtype: dtype, outFeatures: out, inFeatures: inFeatures, owner: stored.owner))
      }
    case .intPanels, .quantized, .made, .stream: break
    }
    throw ModelError(.empty, path: path, tensor: name)
  }

  package func vector(_ id: TensorID, count: Int) throws -> AlignedBuffer<Float>? {
    let name = label(of: id)
    guard let entry = entries[.known(id)] else { return nil }
    guard case .rows(let dtype, let stored) = entry.form, entry.shape == [count],
      [.f32, .f16, .bf16].contains(dtype)
    else {
      throw ModelError(.notFloats(expected: [count]), path: path, tensor: name)
    }
    return try widened(stored.bytes, dtype: dtype, count: count, tensor: name, path: path)
  }
}
