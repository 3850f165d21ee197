import Compute
import Files
import Tensors

extension FiniteCheck {
  /// A line about the first element that is not finite, or nil.
  package static func problem(_ tensor: StoredTensor, pool: WorkerPool = .shared) -> String? {
    guard let index = firstNotFinite(tensor.bytes, dtype: tensor.dtype, pool: pool) else { return nil }
    return "tensor \(tensor.name): element \(index) is NaN or infinite"
  }
}
