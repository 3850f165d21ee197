import Architecture
import Compute
import Files
import Models
import Tensors

extension OpenedModel {
  /// A tensor by the name that Hugging Face files have for it, whether or not the architecture's table knows it.
  package func entry(named name: String) throws -> ModelEntry? {
    let index = TensorIndex(configuration)
    return try store.tensors().first { index.name(of: $0.key).hasSameBytes(as: name) }
  }

  /// The elements of a head for scores: a row of `count` weights, or a bias of one element.
  /// - Throws: ``RetrievalError`` when it is of another shape or type, or holds what is not finite.
  package func headVector(named name: String, count: Int) throws -> AlignedBuffer<Float>? {
    guard let entry = try entry(named: name) else { return nil }
    guard entry.shape == [1, count] || entry.shape == [count], let dtype = entry.dtype,
      [.f32, .f16, .bf16].contains(dtype)
    else {
      throw RetrievalError(
        .headShape(name: name, found: entry.shape, hiddenSize: configuration.hiddenSize), path: path)
    }
    let stored = try entry.rowMajorBytes()
    let values = AlignedBuffer<Float>(count: count)
    withExtendedLifetime(stored.owner) {
      guard let base = stored.bytes.baseAddress else { return }
      Kernels.best.widen(values.pointer, from: base, type: dtype.kernelType, count: count)
    }
    guard values.buffer.allSatisfy(\.isFinite) else {
      throw RetrievalError(.headNotFinite(name: name), path: path)
    }
    return values
  }
}
