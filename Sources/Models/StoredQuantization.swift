import AutoGPTQ
import Files
import Safetensors

/// How a folder's weights are quantized: what its files say, if there are integer codes.
package struct StoredQuantization {
  package private(set) var configuration: QuantizeConfiguration?
  package private(set) var discrepancy: Discrepancy?

  /// - Throws: for codes that nothing describes.
  package init(_ declared: QuantizeConfiguration?, _ table: TensorTable) throws {
    let codes = table.names.first { $0.bytes.hasSuffix(".qweight") }
    switch (declared, codes) {
    case (let declared?, _?): configuration = declared
    case (nil, let codes?): throw ModelError(.codesWithoutSettings, path: table.path, tensor: codes)
    case (_?, nil):
      discrepancy = Discrepancy(
        .quantization, path: table.path,
        "is described as a GPTQ checkpoint, but all its weights are floats; they are read as they are")
    case (nil, nil): break
    }
  }
}
