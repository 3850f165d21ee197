import AutoGPTQ
import Compute
import Safetensors
import Synchronization
import Tensors

/// Weights of a Hugging Face folder: floats are read where they are mapped; AutoGPTQ's integers are brought into the
/// kernels' order in memory.
package final class FolderWeights: WeightSource {
  package let table: TensorTable
  package let quantization: QuantizeConfiguration?
  private let foundWarnings = Mutex<[String]>([])

  package var path: String { table.path }
  /// What reading met that contradicts the configuration without making the file unusable.
  package var warnings: [String] { foundWarnings.withLock { $0 } }

  package init(table: TensorTable, quantization: QuantizeConfiguration?) {
    self.table = table
    self.quantization = quantization
  }

  package func releasePages() { for file in table.files { file.file.releasePages() } }

  package func matrix(_ module: String, out: Int, in inFeatures: Int) throws -> WeightMatrix {
    if let quantization, table["\(module).qweight"] != nil {
      return .intPanels(IntPanels.inMemory(try quantized(module, quantization, out: out, in: inFeatures)))
    }
    let tensor = try table.required("\(module).weight", shape: [out, inFeatures])
    guard [.f32, .f16, .bf16].contains(tensor.dtype), let base = tensor.bytes.baseAddress else {
      throw CheckpointError(
        path: tensor.file.path, tensor: tensor.name,
        detail: "is \(tensor.dtype.rawValue), expected BF16, F16 or F32")
    }
    return .rows(
      RowMatrix(
        elements: base, dtype: tensor.dtype, outFeatures: out, inFeatures: inFeatures, owner: tensor.file))
  }

  package func quantized(_ module: String, _ c: QuantizeConfiguration, out: Int, in inFeatures: Int) throws
    -> QuantizedMatrix
  {
    let (matrix, warning) = try AutoGPTQModule.read(
      module, from: table, configuration: c, out: out, in: inFeatures)
    if let warning { foundWarnings.withLock { $0.append(warning) } }
    if let obstacle = IntPanelLayout.obstacle(bits: matrix.bits, groupSize: matrix.groupSize, in: inFeatures)
    {
      throw CheckpointError(path: path, tensor: module, detail: "cannot be run: \(obstacle)")
    }
    return matrix
  }

  package func vector(_ name: String, count: Int) throws -> AlignedBuffer<Float>? {
    guard table[name] != nil else { return nil }
    let tensor = try table.required(name, shape: [count])
    guard [.f32, .f16, .bf16].contains(tensor.dtype) else {
      throw CheckpointError(
        path: tensor.file.path, tensor: name, detail: "is \(tensor.dtype.rawValue), expected BF16, F16 or F32"
      )
    }
    return try widened(tensor.bytes, dtype: tensor.dtype, count: count, tensor: name, path: tensor.file.path)
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
    throw ModelError(path: path, tensor: tensor, detail: "element \(index) is \(result[index])")
  }
  return result
}
