import Compute

/// A tensor that is trained.
package final class Parameter: Sendable {
  /// As PEFT writes it, for example `base_model.model.model.layers.0.self_attn.qkv_proj.lora_A.weight`.
  package let name: String
  package let shape: [Int]
  /// Row-major, the rows in the order of the model's file.
  package let values: AlignedBuffer<Float>
  /// The gradient of the loss with respect to `values`; the training pass adds to it.
  package let gradient: AlignedBuffer<Float>

  package init(name: String, shape: [Int]) {
    self.name = name
    self.shape = shape
    let count = shape.reduce(1, *)
    values = AlignedBuffer(zeros: count)
    gradient = AlignedBuffer(zeros: count)
  }

  package var count: Int { values.count }
}
