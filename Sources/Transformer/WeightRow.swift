import Compute
import Tensors

extension WeightMatrix {
  /// Row `row` as floats: what an embedding lookup needs. `[inFeatures]`
  package func copyRow(_ row: Int, into out: UnsafeMutablePointer<Float>, kernels: Kernels) {
    precondition(row >= 0 && row < outFeatures, "token id beyond the embedding")
    switch self {
    case .rows(let m):
      kernels.widen(
        out, from: m.elements + row * m.inFeatures * m.dtype.byteCount, type: m.dtype.kernelType,
        count: m.inFeatures)
    case .panels(let m):
      let first =
        m.elements + (row / panelWidth * m.inFeatures * panelWidth + row % panelWidth) * m.dtype.byteCount
      let stride = panelWidth * m.dtype.byteCount
      for k in 0..<m.inFeatures {
        let element = first + k * stride
        switch m.dtype {
        case .f32: out[k] = element.loadUnaligned(as: Float.self)
        case .f16: out[k] = HalfPrecision.widened(element.loadUnaligned(as: UInt16.self))
        default: out[k] = Float(bitPattern: UInt32(element.loadUnaligned(as: UInt16.self)) << 16)
        }
      }
    case .intPanels(let m):
      // Unpack the panel that holds the row; embeddings are not stored like this today, heads may be.
      Scratch.withFloats(m.inFeatures * panelWidth) { panel in
        kernels.dequantizePanel(panel, from: m.panels, panel: row / panelWidth, inputs: 0..<m.inFeatures)
        for k in 0..<m.inFeatures {
          let channel = m.permutation.map { Int($0[k]) } ?? k
          out[channel] = panel[k * panelWidth + row % panelWidth]
        }
      }
    }
  }
}
