import Compute

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
  ///   - weights: of each row: XᵀWX with W = diag(weights) is added; nil: all are 1.
  package static func accumulateGram(
    _ h: UnsafeMutablePointer<Float>, order n: Int, x: UnsafePointer<Float>, rows: Int, rowStride: Int,
    weights: UnsafePointer<Float>? = nil, pool: WorkerPool = .shared
  ) {
    guard n > 0, rows > 0 else { return }
    let kernels = pool.kernels
    let tileRows = kernels.tileRows
    let panels = (n + panelWidth - 1) / panelWidth
    let share = (panels + pool.threadCount * 6 - 1) / (pool.threadCount * 6)
    let panelsPerTask = max(2, min(12, (share + 1) / 2 * 2))
    let tasks = (panels + panelsPerTask - 1) / panelsPerTask
    let diagonalPanels = max(2, kernels.tilePanels)
    let tiles = (n + tileRows - 1) / tileRows
    let h = DisjointWrites(h)
    Scratch.withFloats(tiles * tileRows * min(gramDepth, rows)) { memory in
      let left = DisjointWrites(memory)
      for first in stride(from: 0, to: rows, by: gramDepth) {
        let step = min(gramDepth, rows - first)
        let block = SharedPointer(x + first * rowStride)
        let factors = weights.map { SharedPointer($0 + first) }
        // Xᵀ in row tiles: element (i, t) of A is x[t][i].
        pool.runRanges(tiles) { range in
          let first = range.lowerBound * tileRows
          kernels.packRows(
            left.pointer + first * step, from: block.pointer + first, rowStride: 1, kStride: rowStride,
            m: min(range.count * tileRows, n - first), k: step)
        }
        // The widest blocks (those furthest right) first, for an even finish.
        pool.run(tasks) { task in
          let panel = (tasks - 1 - task) * panelsPerTask
          let count = min(panelsPerTask, panels - panel)
          let firstColumn = panel * panelWidth
          let columns = min(count * panelWidth, n - firstColumn)
          Scratch.withFloats(count * step * panelWidth) { right in
            kernels.copyPanels(
              right, panelStride: step * panelWidth, from: block.pointer + firstColumn, rowStride: rowStride,
              columns: columns, k: step)
            if let factors {
              for line in 0..<count * step {
                let at = UnsafeMutableRawPointer(right + line * panelWidth)
                at.storeBytes(
                  of: at.loadUnaligned(as: SIMD16<Float>.self) * factors[line % step], as: SIMD16<Float>.self)
              }
            }
            // A few panels further right, the diagonal is that much further down.
            var top = 0
            for piece in stride(from: 0, to: count, by: diagonalPanels) {
              let isLast = piece + diagonalPanels >= count
              let end = firstColumn + (isLast ? columns : (piece + diagonalPanels) * panelWidth)
              let bottom =
                isLast ? end : min(firstColumn + columns, (end + tileRows - 1) / tileRows * tileRows)
              kernels.gemmPacked(
                m: bottom - top, n: columns - piece * panelWidth, k: step, packedA: left.pointer + top * step,
                b: right + piece * step * panelWidth, bPanelStride: step * panelWidth,
                c: h.pointer + top * n + firstColumn + piece * panelWidth, cRowStride: n,
                cPanelStride: panelWidth, mode: .addBlock)
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
    let kernels = pool.kernels
    let block = 64
    let h = DisjointWrites(h)
    let blocks = (n + block - 1) / block
    pool.run(blocks) { index in
      let rows = index * block..<min(n, (index + 1) * block)
      for i in rows {
        for j in i + 1..<max(i + 1, rows.upperBound) { h.pointer[j * n + i] = h.pointer[i * n + j] }
      }
      // Sixteen rows become a panel, whose lines are columns; a column's lines of the whole block lie side by side.
      Scratch.withFloats(block * block) { panels in
        for column in stride(from: rows.upperBound, to: n, by: block) {
          let width = min(block, n - column)
          for row in stride(from: rows.lowerBound, to: rows.upperBound, by: panelWidth) {
            kernels.packPanel(
              panels + (row - rows.lowerBound) * block, from: h.pointer + row * n + column, type: .f32,
              rowStride: n, rows: min(panelWidth, rows.upperBound - row), k: width)
          }
          for j in 0..<width {
            for row in stride(from: rows.lowerBound, to: rows.upperBound, by: panelWidth) {
              (h.pointer + (column + j) * n + row).update(
                from: panels + (row - rows.lowerBound) * block + j * panelWidth,
                count: min(panelWidth, rows.upperBound - row))
            }
          }
        }
      }
    }
  }
}
