import CKernels
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
    let source = RawPointer(rows)
    let target = MutableRawPointer(panels)
    let size = MemoryLayout<Element>.size
    let count = (out + panelWidth - 1) / panelWidth
    pool.runRanges(count) { range in
      for panel in range {
        let height = min(panelWidth, out - panel * panelWidth)
        let from = source.pointer + panel * panelWidth * inFeatures * size
        for first in stride(from: 0, to: inFeatures, by: step) {
          let width = min(step, inFeatures - first)
          let to = target.pointer + (panel * inFeatures + first) * panelWidth * size
          transpose(
            from + first * size, as: Element.self, rows: height, columns: width, rowStride: inFeatures,
            into: to)
        }
      }
    }
  }

  private static func unpack<Element: FixedWidthInteger & Sendable & BitwiseCopyable>(
    _ panels: UnsafeRawPointer, as: Element.Type, out: Int, in inFeatures: Int,
    into rows: UnsafeMutableRawPointer,
    pool: WorkerPool
  ) {
    let source = RawPointer(panels)
    let target = MutableRawPointer(rows)
    let size = MemoryLayout<Element>.size
    let count = (out + panelWidth - 1) / panelWidth
    pool.runRanges(count) { range in
      Scratch.withFloats(panelWidth * panelWidth) { scratch in
        let block = UnsafeMutableRawPointer(scratch)
        for panel in range {
          let height = min(panelWidth, out - panel * panelWidth)
          let to = target.pointer + panel * panelWidth * inFeatures * size
          for first in stride(from: 0, to: inFeatures, by: panelWidth) {
            let width = min(panelWidth, inFeatures - first)
            // Sixteen inputs are the rows here: [input][output] becomes [output][input].
            transpose(
              source.pointer + (panel * inFeatures + first) * panelWidth * size, as: Element.self,
              rows: width,
              columns: panelWidth, rowStride: panelWidth, into: block)
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
    into out: UnsafeMutableRawPointer
  ) {
    let table = Kernels.best.table
    if MemoryLayout<Element>.size == 4 {
      // The kernels move floats without looking at them.
      table.pointee.pack_panel(
        out.assumingMemoryBound(to: Float.self), rows, ZN_F32, Int64(rowStride), Int64(height), Int64(columns)
      )
    } else {
      table.pointee.transpose16(
        out.assumingMemoryBound(to: UInt16.self), Int64(panelWidth),
        rows.assumingMemoryBound(to: UInt16.self), Int64(rowStride), Int64(height), Int64(columns))
    }
  }
}

package struct RawPointer: @unchecked Sendable {
  package let pointer: UnsafeRawPointer
  package init(_ pointer: UnsafeRawPointer) { self.pointer = pointer }
}
struct MutableRawPointer: @unchecked Sendable {
  let pointer: UnsafeMutableRawPointer
  init(_ pointer: UnsafeMutableRawPointer) { self.pointer = pointer }
}
