import Numerics

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
    let count = (out + panelWidth - 1) / panelWidth
    pool.runRanges(count) { range in
      for panel in range {
        // Mapped files give no alignment promise beyond the element's.
        let to = (target.pointer + panel * inFeatures * panelWidth * MemoryLayout<Element>.size)
          .assumingMemoryBound(to: Element.self)
        let from = source.pointer + panel * panelWidth * inFeatures * MemoryLayout<Element>.size
        let height = min(panelWidth, out - panel * panelWidth)
        for first in stride(from: 0, to: inFeatures, by: step) {
          let end = min(inFeatures, first + step)
          for r in 0..<height {
            let line = from + r * inFeatures * MemoryLayout<Element>.size
            for k in first..<end {
              to[k * panelWidth + r] = line.loadUnaligned(
                fromByteOffset: k * MemoryLayout<Element>.size, as: Element.self)
            }
          }
          for r in height..<panelWidth { for k in first..<end { to[k * panelWidth + r] = 0 } }
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
    let count = (out + panelWidth - 1) / panelWidth
    pool.runRanges(count) { range in
      for panel in range {
        let from = source.pointer + panel * inFeatures * panelWidth * MemoryLayout<Element>.size
        let to = target.pointer + panel * panelWidth * inFeatures * MemoryLayout<Element>.size
        let height = min(panelWidth, out - panel * panelWidth)
        for first in stride(from: 0, to: inFeatures, by: step) {
          let end = min(inFeatures, first + step)
          for r in 0..<height {
            let line = to + r * inFeatures * MemoryLayout<Element>.size
            for k in first..<end {
              let element = from.loadUnaligned(
                fromByteOffset: (k * panelWidth + r) * MemoryLayout<Element>.size, as: Element.self)
              line.storeBytes(of: element, toByteOffset: k * MemoryLayout<Element>.size, as: Element.self)
            }
          }
        }
      }
    }
  }
}

struct RawPointer: @unchecked Sendable {
  let pointer: UnsafeRawPointer
  init(_ pointer: UnsafeRawPointer) { self.pointer = pointer }
}
struct MutableRawPointer: @unchecked Sendable {
  let pointer: UnsafeMutableRawPointer
  init(_ pointer: UnsafeMutableRawPointer) { self.pointer = pointer }
}
