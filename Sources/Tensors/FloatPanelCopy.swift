import Compute

extension WeightMatrix {
  /// The matrix as floats in panels of 16 outputs, `[panel][in][16]`, in `memory`, which has room for them, or in new memory.
  package func floatPanels(
    into memory: AlignedBuffer<Float>? = nil, pool: WorkerPool = .shared, kernels: Kernels = .best
  ) -> AlignedBuffer<Float> {
    let panels = (outFeatures + panelWidth - 1) / panelWidth
    let size = inFeatures * panelWidth
    precondition(memory == nil || memory!.count >= panels * size)
    let result = memory ?? AlignedBuffer<Float>(count: panels * size)
    let table = kernels.table
    pool.runRanges(panels) { range in
      for panel in range {
        let to = result.pointer + panel * size
        switch self {
        case .rows(let m):
          table.pointee.pack_panel(
            to, m.elements + panel * panelWidth * m.inFeatures * m.dtype.byteCount, m.dtype.kernelType,
            Int64(m.inFeatures), Int64(min(panelWidth, m.outFeatures - panel * panelWidth)),
            Int64(m.inFeatures))
        case .panels(let m):
          table.pointee.widen_panel(
            to, m.elements + panel * size * m.dtype.byteCount, m.dtype.kernelType, Int64(m.inFeatures))
        case .intPanels(let m):
          func dequantize(_ into: UnsafeMutablePointer<Float>) {
            table.pointee.dequantize_panel(
              into, m.codes + panel * m.panelCodeByteCount, Int32(m.bits),
              m.scales + panel * m.groupCount * panelWidth,
              m.zeros.map { $0 + panel * m.groupCount * panelWidth },
              Int64(m.groupSize), 0, Int64(m.inFeatures))
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
  /// The matrix as row-major floats, `[out, in]`, in memory of its own.
  package func rowMajorFloats(pool: WorkerPool = .shared) -> AlignedBuffer<Float> {
    let panels = floatPanels(pool: pool)
    let result = AlignedBuffer<Float>(count: outFeatures * inFeatures)
    let width = inFeatures
    pool.runRanges(outFeatures) { range in
      for n in range {
        let source = panels.pointer + n / panelWidth * width * panelWidth + n % panelWidth
        for k in 0..<width { result.pointer[n * width + k] = source[k * panelWidth] }
      }
    }
    return result
  }
}
