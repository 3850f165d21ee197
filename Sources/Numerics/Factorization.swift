import CKernels
import Foundation

/// The inverse of R or of a block on its diagonal, upper triangular, in panels of 16 columns: element (k, n) at
/// `panels[(n / 16 * order + k) * 16 + n % 16]`.
package struct InverseFactor {
  package let order: Int
  package let panels: AlignedBuffer<Float>

  package subscript(row: Int, column: Int) -> Float {
    panels[(column / panelWidth * order + row) * panelWidth + column % panelWidth]
  }

  /// The same, `[order, order]` row-major.
  package func rows() -> AlignedBuffer<Float> {
    let rows = AlignedBuffer<Float>(count: order * order)
    for column in stride(from: 0, to: order, by: panelWidth) {
      let width = min(panelWidth, order - column)
      for row in 0..<order {
        (rows.pointer + row * order + column).update(
          from: panels.pointer + (column / panelWidth * order + row) * panelWidth, count: width)
      }
    }
    return rows
  }
}

/// R upper triangular with R·Rᵀ = H, in the memory that held H's upper triangle, and the inverses of its diagonal blocks.
package struct CholeskyFactor: @unchecked Sendable {
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
    ofColumns columns: Range<Int>, pool: WorkerPool = .shared, kernels: Kernels = .best
  ) -> InverseFactor {
    let block = Factorization.block
    precondition(columns.lowerBound % block == 0)
    precondition(columns.upperBound % block == 0 || columns.upperBound == order)
    return Factorization.invert(
      pointer(row: columns.lowerBound, column: columns.lowerBound), order: columns.count, rowStride: order,
      inverses: inverses.pointer + columns.lowerBound * block, pool: pool, kernels: kernels)
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
    ofUpperTriangle h: AlignedBuffer<Float>, order n: Int, pool: WorkerPool = .shared,
    kernels: Kernels = .best
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
    guard factorize(h.pointer, n, inverses: inverses, pool: pool, kernels: kernels) else { return nil }
    return CholeskyFactor(order: n, values: h, inverses: inverses)
  }

  // MARK: H = R·Rᵀ

  private static func factorize(
    _ h: UnsafeMutablePointer<Float>, _ n: Int, inverses: AlignedBuffer<Float>, pool: WorkerPool,
    kernels: Kernels
  ) -> Bool {
    let panel = AlignedBuffer<Float>(count: n * block)
    for b in stride(from: (n + block - 1) / block - 1, through: 0, by: -1) {
      let first = b * block
      let size = min(block, n - first)
      let inverse = inverses.pointer + b * block * block
      guard factorizeDiagonal(h + first * n + first, stride: n, size: size, inverse: inverse) else {
        return false
      }
      guard first > 0 else { break }
      // Above the diagonal block: X = H[0 ..< first, block] · V ᵀ, V the block's inverse.
      let right = packedRows(inverse, rows: size, width: size, rowStride: size, kernels: kernels)
      LinearAlgebra.gemm(
        m: first, n: size, k: size, a: h + first, aRowStride: n, aKStride: 1, bPanels: right.pointer,
        bPanelStride: size * panelWidth, c: panel.pointer, cRowStride: size, cPanelStride: panelWidth,
        mode: ZN_OVERWRITE, pool: pool, kernels: kernels)
      for row in 0..<first { (h + row * n + first).update(from: panel.pointer + row * size, count: size) }
      subtractOuterProduct(panel.pointer, rows: first, width: size, from: h, n, pool: pool, kernels: kernels)
    }
    return true
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

  /// Upper triangle of the leading `rows` × `rows` part of H −= X·Xᵀ.
  private static func subtractOuterProduct(
    _ x: UnsafePointer<Float>, rows: Int, width: Int, from h: UnsafeMutablePointer<Float>, _ n: Int,
    pool: WorkerPool,
    kernels: Kernels
  ) {
    let table = kernels.table
    let tileRows = Int(table.pointee.tile_rows)
    let tiles = (rows + tileRows - 1) / tileRows
    let panels = (rows + panelWidth - 1) / panelWidth
    let left = AlignedBuffer<Float>(count: tiles * tileRows * width)
    let right = AlignedBuffer<Float>(count: panels * panelWidth * width)
    let source = Shared(x)
    pool.runRanges(tiles) { range in
      for tile in range {
        table.pointee.pack_rows(
          left.pointer + tile * tileRows * width, source.pointer + tile * tileRows * width, Int64(width), 1,
          Int64(min(tileRows, rows - tile * tileRows)), Int64(width))
      }
    }
    pool.runRanges(panels) { range in
      for panel in range {
        table.pointee.pack_panel(
          right.pointer + panel * panelWidth * width, source.pointer + panel * panelWidth * width, ZN_F32,
          Int64(width), Int64(min(panelWidth, rows - panel * panelWidth)), Int64(width))
      }
    }
    let h = SharedMutable(h)
    // No wider than a block, whose width below the diagonal `cholesky` puts back.
    let widest = block / panelWidth
    let perTask = max(2, min(widest, (panels + pool.threadCount * 6 - 1) / (pool.threadCount * 6) / 2 * 2))
    let tasks = (panels + perTask - 1) / perTask
    pool.run(tasks) { task in
      let panel = (tasks - 1 - task) * perTask
      let count = min(perTask, panels - panel)
      let column = panel * panelWidth
      let columns = min(count * panelWidth, rows - column)
      table.pointee.gemm_packed(
        Int64(column + columns), Int64(columns), Int64(width), left.pointer, right.pointer + column * width,
        Int64(width * panelWidth), h.pointer + column, Int64(n), Int64(panelWidth), ZN_SUBTRACT)
    }
  }

  /// Row-major rows → panels, the right-hand side of a product.
  private static func packedRows(
    _ rows: UnsafePointer<Float>, rows count: Int, width: Int, rowStride: Int, kernels: Kernels
  ) -> AlignedBuffer<Float> {
    let panels = (count + panelWidth - 1) / panelWidth
    let packed = AlignedBuffer<Float>(count: panels * panelWidth * width)
    for panel in 0..<panels {
      kernels.table.pointee.pack_panel(
        packed.pointer + panel * panelWidth * width, rows + panel * panelWidth * rowStride, ZN_F32,
        Int64(rowStride),
        Int64(min(panelWidth, count - panel * panelWidth)), Int64(width))
    }
    return packed
  }

  // MARK: U = R⁻¹

  /// - Parameters:
  ///   - r: `[n, n]`, its rows `rowStride` floats apart.
  ///   - inverses: of its diagonal blocks.
  fileprivate static func invert(
    _ r: UnsafePointer<Float>, order n: Int, rowStride: Int, inverses: UnsafePointer<Float>, pool: WorkerPool,
    kernels: Kernels
  ) -> InverseFactor {
    let panels = (n + panelWidth - 1) / panelWidth
    let u = AlignedBuffer<Float>(zeros: panels * panelWidth * n)
    let stride = n * panelWidth
    let product = AlignedBuffer<Float>(count: panels * panelWidth * block)
    let (source, target, middle) = (Shared(r), SharedMutable(u.pointer), SharedMutable(product.pointer))
    let table = kernels.table
    for b in Swift.stride(from: (n + block - 1) / block - 1, through: 0, by: -1) {
      let first = b * block
      let size = min(block, n - first)
      let inverse = Shared(inverses + b * block * block)
      for i in 0..<size {
        for j in i..<size {
          let column = first + j
          u[column / panelWidth * stride + (first + i) * panelWidth + column % panelWidth] =
            inverse.pointer[i * size + j]
        }
      }
      let trailing = first + size
      guard trailing < n else { continue }
      // U[block, n'] = −V · (R[block, trailing ... n'] · U[trailing ... n', n']): beyond column n' U has only zeros.
      let perTask = 4
      let firstPanel = trailing / panelWidth
      let tasks = (panels - firstPanel + perTask - 1) / perTask
      pool.run(tasks) { task in
        let panel = firstPanel + (tasks - 1 - task) * perTask
        let count = min(perTask, panels - panel)
        let columns = min(count * panelWidth, n - panel * panelWidth)
        let depth = panel * panelWidth + columns - trailing
        let t = middle.pointer + panel * panelWidth * block
        table.pointee.gemm(
          Int64(size), Int64(columns), Int64(depth), source.pointer + first * rowStride + trailing,
          Int64(rowStride), 1,
          target.pointer + panel * stride + trailing * panelWidth, Int64(stride), t, Int64(panelWidth),
          Int64(block * panelWidth), ZN_OVERWRITE)
        table.pointee.gemm(
          Int64(size), Int64(columns), Int64(size), inverse.pointer, Int64(size), 1, t,
          Int64(block * panelWidth),
          target.pointer + panel * stride + first * panelWidth, Int64(panelWidth), Int64(stride), ZN_SUBTRACT)
      }
    }
    return InverseFactor(order: n, panels: u)
  }
}
