import Compute
import PackedModel
import Tensors

/// Weights of a `.zhinao` file, used where they are mapped.
package struct PackedWeights: WeightSource {
  package let file: PackedModelFile
  package var path: String { file.path }

  package init(file: PackedModelFile) { self.file = file }

  package func releasePages() { file.file.releasePages() }

  private func tensor(_ name: String, shape: [Int]) throws -> PackedTensor {
    guard let tensor = file.tensor(name) else {
      throw ModelError(path: path, tensor: name, detail: "is missing; expected shape \(shape)")
    }
    guard tensor.shape == shape else {
      throw ModelError(
        path: path, tensor: name, detail: "has shape \(tensor.shape), the configuration needs \(shape)")
    }
    return tensor
  }

  package func matrix(_ module: String, out: Int, in inFeatures: Int) throws -> WeightMatrix {
    let tensor = try tensor("\(module).weight", shape: [out, inFeatures])
    guard let base = file.bytes(of: tensor).baseAddress else {
      throw ModelError(path: path, tensor: tensor.name, detail: "is empty")
    }
    switch tensor.encoding {
    case .rows(let dtype):
      guard [.f32, .f16, .bf16].contains(dtype) else {
        throw ModelError(
          path: path, tensor: tensor.name, detail: "is \(dtype.rawValue), expected BF16, F16 or F32")
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
    guard case .intPanels? = file.tensor(DecoderNames.head + ".weight")?.encoding else { return nil }
    return try matrix(DecoderNames.head, out: out, in: inFeatures)
  }

  package func vector(_ name: String, count: Int) throws -> AlignedBuffer<Float>? {
    guard file.tensor(name) != nil else { return nil }
    let tensor = try tensor(name, shape: [count])
    guard case .rows(let dtype) = tensor.encoding, [.f32, .f16, .bf16].contains(dtype) else {
      throw ModelError(path: path, tensor: name, detail: "is not a vector of floats")
    }
    return try widened(file.bytes(of: tensor), dtype: dtype, count: count, tensor: name, path: path)
  }
}
