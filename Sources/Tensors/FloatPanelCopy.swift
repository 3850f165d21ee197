import Compute

extension WeightMatrix {
  /// The matrix as floats in panels of 16 outputs, `[panel][in][16]`, in `memory`, which has room for them, or in new memory.
  package func floatPanels(
    into memory: AlignedBuffer<Float>? = nil, pool: WorkerPool = .shared
  ) -> AlignedBuffer<Float> {
    let panels = (outFeatures + panelWidth - 1) / panelWidth
    let size = inFeatures * panelWidth
    precondition(memory == nil || memory!.count >= panels * size)
    let result = memory ?? AlignedBuffer<Float>(count: panels * size)
    let kernels = pool.kernels
    pool.runRanges(panels) { range in
      for panel in range {
        let to = result.pointer + panel * size
        switch self {
        case .rows(let m):
          kernels.packPanel(
            to, from: m.elements + panel * panelWidth * m.inFeatures * m.dtype.byteCount,
            type: m.dtype.kernelType, rowStride: m.inFeatures,
            rows: min(panelWidth, m.outFeatures - panel * panelWidth), k: m.inFeatures)
        case .panels(let m):
          kernels.widenPanel(
            to, from: m.elements + panel * size * m.dtype.byteCount, type: m.dtype.kernelType, k: m.inFeatures
          )
        case .intPanels(let m):
          func dequantize(_ into: UnsafeMutablePointer<Float>) {
            kernels.dequantizePanel(into, from: m.panels, panel: panel, inputs: 0..<m.inFeatures)
          }
          guard let permutation = m.permutation else {
            dequantize(to)
            continue
          }
          Scratch.withFloats(size) { ordered in
            dequantize(ordered)
            for k in 0..<m.inFeatures {
              (to + Int(permutation[k]) * panelWidth).update(
                from: ordered + k * panelWidth, count: panelWidth)
            }
          }
        }
      }
    }
    return result
  }
}

extension WeightMatrix {
  /// Some outputs as floats, in the order of `outputs`.
  package func floatRows(_ outputs: [Int], pool: WorkerPool = .shared) -> WeightMatrix {
    let floats = rowFloats(outputs, pool: pool)
    return .rows(
      RowMatrix(
        elements: floats.pointer, dtype: .f32, outFeatures: outputs.count, inFeatures: inFeatures,
        owner: floats))
  }

  private func rowFloats(_ outputs: [Int], pool: WorkerPool) -> AlignedBuffer<Float> {
    let panels = floatPanels(pool: pool)
    let width = inFeatures
    let result = AlignedBuffer<Float>(count: outputs.count * width)
    pool.runRanges(outputs.count) { range in
      for place in range {
        let n = outputs[place]
        let source = panels.pointer + n / panelWidth * width * panelWidth + n % panelWidth
        for k in 0..<width { result.pointer[place * width + k] = source[k * panelWidth] }
      }
    }
    return result
  }

  /// The matrix as row-major floats, `[out, in]`, in memory of its own.
  package func rowMajorFloats(pool: WorkerPool = .shared) -> AlignedBuffer<Float> {
    rowFloats(Array(0..<outFeatures), pool: pool)
  }
}
