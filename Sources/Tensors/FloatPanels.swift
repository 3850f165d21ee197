import Compute

/// Float matrices between Hugging Face's row-major order and panels of 16 outputs (`PanelMatrix`), without touching a bit
/// of any element.
package enum FloatPanels {
  /// Row-major `[out, in]` → panels; rows that fill the last panel up are zero.
  package static func pack(
    _ rows: UnsafeRawPointer, dtype: DType, out: Int, in inFeatures: Int,
    into panels: UnsafeMutableRawPointer,
    pool: WorkerPool = .shared
  ) {
    if dtype.byteCount == 2 {
      pack(rows, as: UInt16.self, out: out, in: inFeatures, into: panels, pool: pool)
    } else {
      pack(rows, as: UInt32.self, out: out, in: inFeatures, into: panels, pool: pool)
    }
  }

  /// Panels → row-major `[out, in]`.
  package static func unpack(
    _ panels: UnsafeRawPointer, dtype: DType, out: Int, in inFeatures: Int,
    into rows: UnsafeMutableRawPointer,
    pool: WorkerPool = .shared
  ) {
    if dtype.byteCount == 2 {
      unpack(panels, as: UInt16.self, out: out, in: inFeatures, into: rows, pool: pool)
    } else {
      unpack(panels, as: UInt32.self, out: out, in: inFeatures, into: rows, pool: pool)
    }
  }

  /// Inputs handled at a time, so that 16 rows' worth of them and their panel stay in the first-level cache.
  private static let step = 256

  private static func pack<Element: FixedWidthInteger & Sendable & BitwiseCopyable>(
    _ rows: UnsafeRawPointer, as: Element.Type, out: Int, in inFeatures: Int,
    into panels: UnsafeMutableRawPointer,
    pool: WorkerPool
  ) {
    let source = SharedPointer(bytes: rows)
    let target = DisjointWrites(bytes: panels)
    let size = MemoryLayout<Element>.size
    let count = (out + panelWidth - 1) / panelWidth
    pool.runRanges(count) { range in
      for panel in range {
        let height = min(panelWidth, out - panel * panelWidth)
        let from = source.raw + panel * panelWidth * inFeatures * size
        for first in stride(from: 0, to: inFeatures, by: step) {
          let width = min(step, inFeatures - first)
          let to = target.raw + (panel * inFeatures + first) * panelWidth * size
          transpose(
            from + first * size, as: Element.self, rows: height, columns: width, rowStride: inFeatures,
            into: to, kernels: pool.kernels)
        }
      }
    }
  }

  private static func unpack<Element: FixedWidthInteger & Sendable & BitwiseCopyable>(
    _ panels: UnsafeRawPointer, as: Element.Type, out: Int, in inFeatures: Int,
    into rows: UnsafeMutableRawPointer,
    pool: WorkerPool
  ) {
    let source = SharedPointer(bytes: panels)
    let target = DisjointWrites(bytes: rows)
    let size = MemoryLayout<Element>.size
    let count = (out + panelWidth - 1) / panelWidth
    pool.runRanges(count) { range in
      Scratch.withFloats(panelWidth * panelWidth) { scratch in
        let block = UnsafeMutableRawPointer(scratch)
        for panel in range {
          let height = min(panelWidth, out - panel * panelWidth)
          let to = target.raw + panel * panelWidth * inFeatures * size
          for first in stride(from: 0, to: inFeatures, by: panelWidth) {
            let width = min(panelWidth, inFeatures - first)
            // Sixteen inputs are the rows here: [input][output] becomes [output][input].
            transpose(
              source.raw + (panel * inFeatures + first) * panelWidth * size, as: Element.self,
              rows: width,
              columns: panelWidth, rowStride: panelWidth, into: block, kernels: pool.kernels)
            for r in 0..<height {
              (to + (r * inFeatures + first) * size).copyMemory(
                from: block + r * panelWidth * size, byteCount: width * size)
            }
          }
        }
      }
    }
  }

  /// At most 16 rows of `columns` elements → `columns` lines of 16; missing rows are zero.
  private static func transpose<Element: FixedWidthInteger & Sendable & BitwiseCopyable>(
    _ rows: UnsafeRawPointer, as: Element.Type, rows height: Int, columns: Int, rowStride: Int,
    into out: UnsafeMutableRawPointer, kernels: Kernels
  ) {
    if MemoryLayout<Element>.size == 4 {
      // The kernels move floats without looking at them.
      kernels.packPanel(
        out.assumingMemoryBound(to: Float.self), from: rows, type: .f32, rowStride: rowStride, rows: height,
        k: columns)
    } else {
      kernels.transpose16(
        out.assumingMemoryBound(to: UInt16.self), stride: panelWidth,
        from: rows.assumingMemoryBound(to: UInt16.self), rowStride: rowStride, rows: height, columns: columns)
    }
  }
}
