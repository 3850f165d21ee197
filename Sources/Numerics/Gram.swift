import CKernels

extension LinearAlgebra {
  /// Rows whose products are summed in one chain before they are added to H. Part of the result, not a tuning knob.
  static let gramDepth = 512

  /// Adds XᵀX to the upper triangle of H: `h[i][j] += Σ_t x[t][i] · x[t][j]` for `i <= j`. Blocks of ``gramDepth`` rows are
  /// summed each in one chain of fused multiply-adds, then added to H: over the tens of thousands of rows of a
  /// calibration set that keeps more digits than one long chain.
  ///
  /// What lies below the diagonal is left undefined inside the blocks the diagonal crosses and untouched elsewhere; use
  /// ``mirrorUpperTriangle(_:order:)`` when both halves are wanted.
  /// - Parameters:
  ///   - h: `[n, n]`, row-major.
  ///   - x: `rows` rows of `n` floats, `rowStride` floats apart.
  package static func accumulateGram(
    _ h: UnsafeMutablePointer<Float>, order n: Int, x: UnsafePointer<Float>, rows: Int, rowStride: Int,
    pool: WorkerPool = .shared, kernels: Kernels = .best
  ) {
    guard n > 0, rows > 0 else { return }
    let table = kernels.table
    let tileRows = Int(table.pointee.tile_rows)
    let panels = (n + panelWidth - 1) / panelWidth
    let share = (panels + pool.threadCount * 6 - 1) / (pool.threadCount * 6)
    let panelsPerTask = max(2, min(8, (share + 1) / 2 * 2))
    let tasks = (panels + panelsPerTask - 1) / panelsPerTask
    let tiles = (n + tileRows - 1) / tileRows
    let h = SharedMutable(h)
    Scratch.withFloats(tiles * tileRows * min(gramDepth, rows)) { memory in
      let left = SharedMutable(memory)
      for first in stride(from: 0, to: rows, by: gramDepth) {
        let step = min(gramDepth, rows - first)
        let block = Shared(x + first * rowStride)
        // Xᵀ in row tiles: element (i, t) of A is x[t][i].
        pool.runRanges(tiles) { range in
          let first = range.lowerBound * tileRows
          table.pointee.pack_rows(
            left.pointer + first * step, block.pointer + first, 1, Int64(rowStride),
            Int64(min(range.count * tileRows, n - first)), Int64(step))
        }
        // The widest blocks (those furthest right) first, for an even finish.
        pool.run(tasks) { task in
          let panel = (tasks - 1 - task) * panelsPerTask
          let count = min(panelsPerTask, panels - panel)
          let firstColumn = panel * panelWidth
          let columns = min(count * panelWidth, n - firstColumn)
          Scratch.withFloats(count * step * panelWidth) { right in
            for t in 0..<step {
              let source = block.pointer + t * rowStride + firstColumn
              for index in 0..<columns / panelWidth {
                let values = UnsafeRawPointer(source + index * panelWidth).loadUnaligned(
                  as: SIMD16<Float>.self)
                UnsafeMutableRawPointer(right + (index * step + t) * panelWidth)
                  .storeBytes(of: values, as: SIMD16<Float>.self)
              }
              // The last panel may have fewer columns.
              for j in columns / panelWidth * panelWidth..<count * panelWidth {
                right[(j / panelWidth * step + t) * panelWidth + j % panelWidth] = j < columns ? source[j] : 0
              }
            }
            // Four panels further right, the diagonal is that much further down.
            var top = 0
            for piece in stride(from: 0, to: count, by: 4) {
              let isLast = piece + 4 >= count
              let end = firstColumn + (isLast ? columns : (piece + 4) * panelWidth)
              let bottom =
                isLast ? end : min(firstColumn + columns, (end + tileRows - 1) / tileRows * tileRows)
              table.pointee.gemm_packed(
                Int64(bottom - top), Int64(columns - piece * panelWidth), Int64(step),
                left.pointer + top * step, right + piece * step * panelWidth, Int64(step * panelWidth),
                h.pointer + top * n + firstColumn + piece * panelWidth, Int64(n), Int64(panelWidth),
                ZN_ADD_BLOCK)
              top = bottom
            }
          }
        }
      }
    }
  }

  /// Copies the upper triangle of a row-major `[n, n]` matrix onto the lower one.
  package static func mirrorUpperTriangle(
    _ h: UnsafeMutablePointer<Float>, order n: Int, pool: WorkerPool = .shared
  ) {
    let block = 64
    let h = SharedMutable(h)
    pool.run((n + block - 1) / block) { index in
      let i0 = index * block
      for j0 in stride(from: i0, to: n, by: block) {
        for i in i0..<min(i0 + block, n) {
          for j in max(i + 1, j0)..<max(i + 1, min(j0 + block, n)) {
            h.pointer[j * n + i] = h.pointer[i * n + j]
          }
        }
      }
    }
  }
}
