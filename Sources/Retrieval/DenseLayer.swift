import Compute
import Files
import Models
import Safetensors
import Tensors
import Transformer

/// A layer after pooling: y = activation(x · Wᵀ + b).
struct DenseLayer: Sendable {
  let linear: Linear
  let hasTanh: Bool

  /// - Throws: when the layer's file is missing, or holds something else.
  init(_ settings: EmbeddingSettings.Dense, _ files: any ModelFiles) throws {
    let name = "\(settings.folder)/model.safetensors"
    guard let bytes = try files.bytes(named: name) else {
      throw FileError(
        .cannotOpen, path: files.label(of: name),
        detail:
          "is missing; weights of a Dense module are read from safetensors only. Save the model again with "
          + "sentence-transformers 3 or later")
    }
    let file = try SafetensorsFile(MappedFile(contents: bytes, path: files.label(of: name)))
    func values(_ name: String, _ shape: [Int]) throws -> AlignedBuffer<Float> {
      guard let tensor = file.tensor(name) else {
        throw ModelError(.missing(expected: shape), path: file.path, tensor: name)
      }
      guard tensor.shape == shape else {
        throw ModelError(.wrongShape(found: tensor.shape, expected: shape), path: file.path, tensor: name)
      }
      guard [.f32, .f16, .bf16].contains(tensor.dtype) else {
        throw ModelError(.wrongType(tensor.dtype), path: file.path, tensor: name)
      }
      let values = AlignedBuffer<Float>(count: shape.reduce(1, *))
      if let base = file.bytes(of: tensor).baseAddress {
        Kernels.best.widen(values.pointer, from: base, type: tensor.dtype.kernelType, count: values.count)
      }
      if let index = values.buffer.firstIndex(where: { !$0.isFinite }) {
        throw ModelError(.notFinite(index: index, "\(values[index])"), path: file.path, tensor: name)
      }
      return values
    }
    let (out, inFeatures) = (settings.outFeatures, settings.inFeatures)
    let weight = try values("linear.weight", [out, inFeatures])
    linear = Linear(
      weight: .rows(
        RowMatrix(
          elements: weight.pointer, dtype: .f32, outFeatures: out, inFeatures: inFeatures, owner: weight)),
      bias: settings.hasBias ? try values("linear.bias", [out]) : nil)
    hasTanh = settings.hasTanh
  }

  /// `[rows, inFeatures]` → `[rows, outFeatures]`
  func apply(_ x: AlignedBuffer<Float>, rows: Int, pool: WorkerPool) -> AlignedBuffer<Float> {
    let y = AlignedBuffer<Float>(count: rows * linear.outFeatures)
    linear.apply(x.pointer, rows: rows, into: y.pointer, yRowStride: linear.outFeatures, pool: pool)
    if hasTanh { pool.kernels.hyperbolicTangent(y.pointer, count: y.count) }
    return y
  }
}
