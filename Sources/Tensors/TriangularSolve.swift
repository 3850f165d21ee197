import Compute

extension CholeskyFactor {
  /// X ← X·(R·Rᵀ)⁻¹, that is X·H⁻¹, without the inverse of H or R: X·R⁻ᵀ from the last columns down, then that times R⁻¹ from the
  /// first columns up, a block of columns at a time.
  /// - Parameters:
  ///   - panels: of 16 rows of X each.
  ///   - x: `[panels][order][16]`, changed in place.
  package func divide(panels: Int, at x: UnsafeMutablePointer<Float>, pool: WorkerPool = .shared) {
    let block = Factorization.block
    let memory = AlignedBuffer<Float>(
      count: PackedLeftSide.count(rows: min(block, order), k: order, kernels: pool.kernels))
    let x = DisjointWrites(x)
    let blocks = stride(from: 0, to: order, by: block).map { $0..<min(order, $0 + block) }
    for columns in blocks.reversed() {
      let later = columns.upperBound..<order
      step(
        columns, inverseIsTransposed: true, after: later,
        left: later.isEmpty
          ? nil
          : PackedLeftSide(
            rows: columns.count, k: later.count,
            a: pointer(row: columns.lowerBound, column: later.lowerBound), rowStride: order, kStride: 1,
            memory: memory, pool: pool), of: x, panels: panels, pool: pool)
    }
    for columns in blocks {
      let earlier = 0..<columns.lowerBound
      step(
        columns, inverseIsTransposed: false, after: earlier,
        left: earlier.isEmpty
          ? nil
          : PackedLeftSide(
            rows: columns.count, k: earlier.count, a: pointer(row: 0, column: columns.lowerBound),
            rowStride: 1, kStride: order, memory: memory, pool: pool), of: x, panels: panels, pool: pool)
    }
  }

  /// X[columns] ← (X[columns] − X[others]·leftᵀ)·V, V being R[columns, columns]⁻¹ or its transpose.
  private func step(
    _ columns: Range<Int>, inverseIsTransposed: Bool, after others: Range<Int>, left: PackedLeftSide?,
    of x: DisjointWrites<Float>, panels: Int, pool: WorkerPool
  ) {
    let width = columns.count
    let inverse = inverse(ofColumns: columns, pool: pool).rows()
    let diagonal = PackedLeftSide(
      rows: width, k: width, a: inverse.pointer, rowStride: inverseIsTransposed ? width : 1,
      kStride: inverseIsTransposed ? 1 : width, pool: pool)
    let stride = order * panelWidth
    pool.runRanges(panels, grain: 4) { range in
      let base = x.pointer + range.lowerBound * stride
      let target = base + columns.lowerBound * panelWidth
      left?.multiply(
        panels: range.count, by: base + others.lowerBound * panelWidth, bPanelStride: stride, into: target,
        cPanelStride: stride, mode: .subtract)
      let size = width * panelWidth
      Scratch.withFloats(range.count * size) { product in
        diagonal.multiply(
          panels: range.count, by: target, bPanelStride: stride, into: product, cPanelStride: size,
          mode: .overwrite)
        for panel in 0..<range.count {
          (target + panel * stride).update(from: product + panel * size, count: size)
        }
      }
    }
  }
}
