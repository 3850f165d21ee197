import Architecture
import Files
import Foundation
import JSON
import Safetensors
import Tensors

/// A folder with a small random model: `config.json` and `model.safetensors` in fp32.
package enum RandomModel {
  /// A model of two layers of the family, without a tokenizer.
  package static func configuration(_ family: String, _ changes: [(String, JSONValue)] = []) -> JSONValue {
    var object = JSONObject([
      ("model_type", .string(family)), ("hidden_size", 64), ("intermediate_size", 96),
      ("num_hidden_layers", 2),
      ("num_attention_heads", 4), ("num_key_value_heads", 2), ("vocab_size", 80), ("rms_norm_eps", 1e-5),
      ("hidden_act", "silu"), ("max_position_embeddings", 64),
    ])
    for (key, value) in changes { object[key] = value }
    return .object(object)
  }

  /// The same configuration gives the same values in the order of the family's table, whatever the tensors' names.
  /// - Parameter change: what stands in the file instead.
  package static func write(
    _ json: JSONValue, families: [ModelFamily] = ModelFamily.builtIn, to path: String,
    change: (inout [(name: String, shape: [Int], values: [Float])]) -> Void = { _ in }
  ) throws {
    try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    try AtomicFile.write(json.serialized(), to: "\(path)/config.json")
    let index = TensorIndex(try ModelConfiguration(json, label: "config.json", families: families))
    var random = SplitMix64(seed: 360)
    var tensors: [(name: String, shape: [Int], values: [Float])] = index.required.map { tensor in
      let center: Float = tensor.role == .norm ? 1 : 0
      let values = (0..<tensor.shape.reduce(1, *)).map { _ in
        center + Float.random(in: -0.1...0.1, using: &random)
      }
      return (index.name(of: tensor.id), tensor.shape, values)
    }
    change(&tensors)
    let values = Dictionary(uniqueKeysWithValues: tensors.map { ($0.name, $0.values) })
    try SafetensorsWriter.write(
      to: "\(path)/model.safetensors", tensors: tensors.map { TensorPlan($0.name, .f32, $0.shape) },
      metadata: []
    ) { plan, emit in
      try (values[plan.name] ?? []).withUnsafeBytes { try emit($0) }
    }
  }
}
