import Architecture
import Compute
import Files
import JSON
import Tensors

extension ModelContents {
  /// The same model with every integer matrix dequantized to floats, `scale · (code − zero)` in fp32. Only one matrix is in
  /// memory at a time.
  package func dequantized(pool: WorkerPool = .shared) -> ModelContents {
    var result = self
    result.quantization = nil
    let hasIntegerHead = entries.contains { $0.key == .known(TensorID(.head)) && $0.isInteger }
    for i in entries.indices {
      let name = index.name(of: entries[i].key)
      let make: @Sendable () throws -> IntPanelMatrix
      switch entries[i].form {
      case .intPanels(let layout, let stored):
        make = { [path] in
          guard let base = stored.bytes.baseAddress else {
            throw ModelError(.empty, path: path, tensor: name)
          }
          return layout.matrix(at: base, owner: stored.owner)
        }
      case .quantized(_, let read): make = { IntPanels.inMemory(try read(), pool: pool) }
      default: continue
      }
      result.entries[i].form = .made(.f32) {
        let floats = WeightMatrix.intPanels(try make()).rowMajorFloats()
        return UnsafeBytes(UnsafeRawBufferPointer(floats.buffer), owner: floats)
      }
    }
    if hasIntegerHead { result.untie() }
    return result
  }

  /// A head in integers is a matrix of its own, also where the configuration ties it to the embedding. In floats it is one only if the
  /// configuration says so.
  private mutating func untie() {
    guard configuration.tieWordEmbeddings else { return }
    configuration.untie()
    let json = JSONValue.object(configuration.json).serialized(indent: 2) + "\n"
    files = OverlaidFiles(files, changes: ["config.json": Array(json.utf8)])
  }
}

extension ModelEntry {
  fileprivate var isInteger: Bool {
    switch form {
    case .intPanels, .quantized: true
    default: false
    }
  }
}
