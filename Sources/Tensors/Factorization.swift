import Compute
import Foundation

/// R upper triangular with R·Rᵀ = H, in the memory that held H's upper triangle, and the inverses of its diagonal blocks.
package struct CholeskyFactor: Sendable {
  package let order: Int
  /// `[n, n]` row-major; what is below the diagonal is not R's.
  private let values: AlignedBuffer<Float>
  /// Of the diagonal blocks: block b is `[size][size]` row-major at b · block².
  fileprivate let inverses: AlignedBuffer<Float>

  fileprivate init(order: Int, values: AlignedBuffer<Float>, inverses: AlignedBuffer<Float>) {
    self.order = order
    self.values = values
    self.inverses = inverses
  }

  /// R[row, column], `row <= column`.
  package subscript(row: Int, column: Int) -> Float { values[row * order + column] }

  /// Where R[row, column] is; rows are ``order`` floats apart.
  package func pointer(row: Int, column: Int) -> UnsafePointer<Float> {
    UnsafePointer(values.pointer + row * order + column)
  }

  /// (R[columns, columns])⁻¹.
  /// - Parameter columns: from a multiple of ``Factorization/block`` up to another or to the end. All columns give U with
  ///   UᵀU = H⁻¹.
  package func inverse(
    ofColumns columns: Range<Int>, pool: WorkerPool = .shared
  ) -> InverseFactor {
    let block = Factorization.block
    precondition(columns.lowerBound % block == 0)
    precondition(columns.upperBound % block == 0 || columns.upperBound == order)
    return TriangularInverse(
      r: SharedPointer(pointer(row: columns.lowerBound, column: columns.lowerBound)), order: columns.count,
      rowStride: order,
      inverses: SharedPointer(inverses.pointer + columns.lowerBound * block), pool: pool
    ).computed()
  }
}

/// Cholesky from the last row up, and the inverse of its factor.
///
/// GPTQ is defined by the upper Cholesky factor U of H⁻¹. Factor H = R·Rᵀ with R upper triangular; then
/// H⁻¹ = R⁻ᵀ·R⁻¹ = UᵀU with U = R⁻¹, which is upper triangular too: half the work of Cholesky → inverse → Cholesky, and fewer
/// digits lost. The column sweep needs of U only blocks on the diagonal, and R in its place elsewhere (`ColumnSweep`).
package enum Factorization {
  /// Columns handled at a time; a multiple of the panel width.
  package static let block = 128

  /// - Parameters:
  ///   - h: `[n, n]` row-major; its upper triangle is read and overwritten, what is below the diagonal is left alone.
  /// - Returns: nil when H is not positive definite in this arithmetic.
  package static func cholesky(
    ofUpperTriangle h: AlignedBuffer<Float>, order n: Int, pool: WorkerPool = .shared
  ) -> CholeskyFactor? {
    let blocks = (n + block - 1) / block
    let inverses = AlignedBuffer<Float>(zeros: blocks * block * block)
    // Products write the whole of a block that the diagonal crosses; what lay below the diagonal is put back.
    let band = AlignedBuffer<Float>(count: n * block)
    for i in 0..<n {
      let width = min(i, block)
      (band.pointer + i * block).update(from: h.pointer + i * n + i - width, count: width)
    }
    defer {
      for i in 0..<n {
        let width = min(i, block)
        (h.pointer + i * n + i - width).update(from: band.pointer + i * block, count: width)
      }
    }
    guard factorize(h.pointer, n, inverses: inverses, pool: pool) else { return nil }
    return CholeskyFactor(order: n, values: h, inverses: inverses)
  }

  // MARK: H = R·Rᵀ

  /// Blocks whose products are subtracted from the rest of H together. Every element is then read and written a quarter as
  /// often, and still subtracts its products in the order of the blocks.
  private static let spanBlocks = 4
  /// Rows of H that meet one block of columns in a task, in tiles.
  private static let tilesOfTask = 160

  private static func factorize(
    _ h: UnsafeMutablePointer<Float>, _ n: Int, inverses: AlignedBuffer<Float>, pool: WorkerPool
  ) -> Bool {
    let panel = AlignedBuffer<Float>(count: n * block)
    var span = PackedSpan(order: n, blocks: spanBlocks, kernels: pool.kernels)
    for b in stride(from: (n + block - 1) / block - 1, through: 0, by: -1) {
      let first = b * block
      let size = min(block, n - first)
      let inverse = inverses.pointer + b * block * block
      guard factorizeDiagonal(h + first * n + first, stride: n, size: size, inverse: inverse) else {
        return false
      }
      guard first > 0 else { break }
      // Above the diagonal block: X = H[0 ..< first, block] · V ᵀ, V the block's inverse.
      let right = packedRows(inverse, rows: size, width: size, rowStride: size, kernels: pool.kernels)
      LinearAlgebra.gemm(
        m: first, n: size, k: size, a: h + first, aRowStride: n, aKStride: 1, bPanels: right.pointer,
        bPanelStride: size * panelWidth, c: panel.pointer, cRowStride: size, cPanelStride: panelWidth,
        mode: .overwrite, pool: pool)
      let start = b / spanBlocks * spanBlocks * block
      if span.isEmpty { span.begin(depth: first + size - start) }
      span.append(panel.pointer, rows: first, width: size, copyingTo: h + first, rowStride: n, pool: pool)
      if first == start {
        subtract(span, from: h, n, columns: 0..<first, pool: pool)
        span.removeAll()
      } else {
        subtract(span, last: size, from: h, n, columns: start..<first, pool: pool)
      }
    }
    return true
  }

  /// H[0 ... j, j] −= (X·Xᵀ)[0 ... j, j] for the columns j of `columns`, X being what the span has.
  /// - Parameter last: so many columns of X, those that came last; nil: all.
  private static func subtract(
    _ span: PackedSpan, last: Int? = nil, from h: UnsafeMutablePointer<Float>, _ n: Int, columns: Range<Int>,
    pool: WorkerPool
  ) {
    let rowsOfTask = tilesOfTask * span.tileRows
    let parts = (columns.upperBound + rowsOfTask - 1) / rowsOfTask
    // No wider than a block, whose width below the diagonal `cholesky` puts back.
    let groups = (columns.count + block - 1) / block
    let h = DisjointWrites(h)
    pool.run(groups * parts) { task in
      let column = columns.lowerBound + (groups - 1 - task / parts) * block
      let width = min(block, columns.upperBound - column)
      let firstRow = task % parts * rowsOfTask
      let end = min(column + width, firstRow + rowsOfTask)
      guard firstRow < end else { return }
      span.subtract(
        rows: firstRow..<end, columns: column..<column + width, last: last,
        from: h.pointer + firstRow * n + column, rowStride: n)
    }
  }

  /// Factorizes one diagonal block in double precision and inverts the factor.
  private static func factorizeDiagonal(
    _ h: UnsafeMutablePointer<Float>, stride n: Int, size: Int, inverse: UnsafeMutablePointer<Float>
  ) -> Bool {
    // Plain pointers, and a column of R beside itself in a row: the loops over k become vectors, element by element the
    // same operations.
    let buffer = AlignedBuffer<Double>(zeros: (2 * size + 1) * size)
    let (r, v, column) = (buffer.pointer, buffer.pointer + size * size, buffer.pointer + 2 * size * size)
    for i in 0..<size { for j in i..<size { r[i * size + j] = Double(h[i * n + j]) } }
    for j in stride(from: size - 1, through: 0, by: -1) {
      let pivot = r[j * size + j]
      // A pivot at the level of single-precision noise is as good as negative.
      guard pivot.isFinite, pivot > 0 else { return false }
      let root = pivot.squareRoot()
      r[j * size + j] = root
      for i in 0..<j {
        r[i * size + j] /= root
        column[i] = r[i * size + j]
      }
      for i in 0..<j { subtract(column + i, times: column[i], from: r + i * size + i, count: j - i) }
    }
    for i in stride(from: size - 1, through: 0, by: -1) {
      let reciprocal = 1 / r[i * size + i]
      v[i * size + i] = reciprocal
      for k in i + 1..<max(size, i + 1) {
        subtract(
          v + k * size + k, times: r[i * size + k] * reciprocal, from: v + i * size + k, count: size - k)
      }
    }
    for i in 0..<size {
      for j in i..<size {
        h[i * n + j] = Float(r[i * size + j])
        inverse[i * size + j] = Float(v[i * size + j])
      }
    }
    return inverse[0].isFinite
  }

  /// y −= factor · x, rounding twice.
  private static func subtract(
    _ x: UnsafePointer<Double>, times factor: Double, from y: UnsafeMutablePointer<Double>, count: Int
  ) {
    let whole = count / 8 * 8
    for at in stride(from: 0, to: whole, by: 8) {
      let product = UnsafeRawPointer(x + at).loadUnaligned(as: SIMD8<Double>.self) * factor
      let sum = UnsafeRawPointer(y + at).loadUnaligned(as: SIMD8<Double>.self) - product
      UnsafeMutableRawPointer(y + at).storeBytes(of: sum, as: SIMD8<Double>.self)
    }
    for at in whole..<count { y[at] -= factor * x[at] }
  }

  /// Row-major rows → panels, the right-hand side of a product.
  private static func packedRows(
    _ rows: UnsafePointer<Float>, rows count: Int, width: Int, rowStride: Int, kernels: Kernels
  ) -> AlignedBuffer<Float> {
    let panels = (count + panelWidth - 1) / panelWidth
    let packed = AlignedBuffer<Float>(count: panels * panelWidth * width)
    for panel in 0..<panels {
      kernels.packPanel(
        packed.pointer + panel * panelWidth * width, from: rows + panel * panelWidth * rowStride, type: .f32,
        rowStride: rowStride, rows: min(panelWidth, count - panel * panelWidth), k: width)
    }
    return packed
  }
}

/// The columns of some blocks of R as both sides of a product of their rows.
private struct PackedSpan: Sendable {
  let kernels: Kernels
  let tileRows: Int
  /// Rows in whole tiles and panels.
  private let unit: Int
  /// Tiles of rows, and panels of them; each holds all columns of the span.
  private let left: DisjointWrites<Float>
  private let right: DisjointWrites<Float>
  private let memory: AlignedBuffer<Float>
  /// Columns that the span will have, and those it has.
  private var depth = 0
  private var width = 0

  init(order: Int, blocks: Int, kernels: Kernels) {
    self.kernels = kernels
    tileRows = kernels.tileRows
    unit = tileRows * panelWidth
    let paddedRows = (order + unit - 1) / unit * unit
    memory = AlignedBuffer(count: 2 * paddedRows * Factorization.block * blocks)
    left = DisjointWrites(memory.pointer)
    right = DisjointWrites(memory.pointer + paddedRows * Factorization.block * blocks)
  }

  var isEmpty: Bool { width == 0 }

  mutating func begin(depth: Int) { self.depth = depth }

  mutating func removeAll() { width = 0 }

  /// Packs `x` `[rows, width]` and copies it to where R is.
  mutating func append(
    _ x: UnsafePointer<Float>, rows: Int, width count: Int, copyingTo r: UnsafeMutablePointer<Float>,
    rowStride: Int, pool: WorkerPool
  ) {
    let (span, x, r) = (self, SharedPointer(x), DisjointWrites(r))
    pool.runRanges((rows + unit - 1) / unit) { range in
      let some = range.lowerBound * span.unit..<min(rows, range.upperBound * span.unit)
      for row in some { (r + row * rowStride).update(from: x + row * count, count: count) }
      span.pack(x, rows: some, width: count)
    }
    width += count
  }

  /// Packs some rows of `x` behind the columns that the span has.
  private func pack(_ x: SharedPointer<Float>, rows: Range<Int>, width count: Int) {
    for row in stride(from: rows.lowerBound, to: rows.upperBound, by: tileRows) {
      kernels.packRows(
        left + (row * depth + width * tileRows), from: x + row * count, rowStride: count, kStride: 1,
        m: min(tileRows, rows.upperBound - row), k: count)
    }
    for row in stride(from: rows.lowerBound, to: rows.upperBound, by: panelWidth) {
      kernels.packPanel(
        right + (row * depth + width * panelWidth), from: x + row * count, type: .f32, rowStride: count,
        rows: min(panelWidth, rows.upperBound - row), k: count)
    }
  }

  /// `h` −= what rows and columns of X·Xᵀ give, on the calling thread.
  /// - Parameters:
  ///   - rows: from a whole tile on; columns: from a whole panel on.
  ///   - last: so many columns of X, those that came last; nil: all.
  func subtract(
    rows: Range<Int>, columns: Range<Int>, last: Int?, from h: UnsafeMutablePointer<Float>, rowStride: Int
  ) {
    // Tiles lie as far apart as the whole span takes: of a part of it, one at a time.
    let step = last == nil ? rows.count : tileRows
    let skipped = last.map { width - $0 } ?? 0
    for row in stride(from: rows.lowerBound, to: rows.upperBound, by: step) {
      kernels.gemmPacked(
        m: min(step, rows.upperBound - row), n: columns.count, k: width - skipped,
        packedA: left + (row * depth + skipped * tileRows),
        b: right + (columns.lowerBound * depth + skipped * panelWidth), bPanelStride: depth * panelWidth,
        c: h + (row - rows.lowerBound) * rowStride, cRowStride: rowStride, cPanelStride: panelWidth,
        mode: .subtract)
    }
  }
}
