import Compute

/// The inverse of R or of a block on its diagonal, upper triangular, in groups of ``groupWidth`` columns. A group holds panels of
/// 16 columns with as many rows as its last column needs, so the whole takes little more than half of a square.
package struct InverseFactor: @unchecked Sendable {
  package let order: Int
  package let values: AlignedBuffer<Float>

  static let groupWidth = Factorization.block

  /// Zero everywhere.
  init(order: Int) {
    self.order = order
    let groups = (order + Self.groupWidth - 1) / Self.groupWidth
    values = AlignedBuffer(zeros: groups * (groups + 1) / 2 * Self.groupWidth * Self.groupWidth)
  }

  /// Element (row, column) of a panel's first column; rows are 16 floats apart.
  func panel(ofColumn column: Int, row: Int) -> UnsafeMutablePointer<Float> {
    let group = column / Self.groupWidth
    let panel = column % Self.groupWidth / panelWidth
    return values.pointer + group * (group + 1) / 2 * Self.groupWidth * Self.groupWidth
      + panel * panelStride(ofColumn: column) + row * panelWidth
  }

  /// Floats from one panel of the column's group to the next.
  func panelStride(ofColumn column: Int) -> Int {
    min(order, (column / Self.groupWidth + 1) * Self.groupWidth) * panelWidth
  }

  package subscript(row: Int, column: Int) -> Float {
    row > column ? 0 : panel(ofColumn: column, row: row)[column % panelWidth]
  }

  /// The same, `[order, order]` row-major.
  package func rows() -> AlignedBuffer<Float> {
    let rows = AlignedBuffer<Float>(zeros: order * order)
    for column in stride(from: 0, to: order, by: panelWidth) {
      let width = min(panelWidth, order - column)
      for row in 0..<column + width {
        (rows.pointer + row * order + column).update(from: panel(ofColumn: column, row: row), count: width)
      }
    }
    return rows
  }
}

/// U = R⁻¹ from the last rows up: U[rows, later] = −U[rows, rows] · (R[rows, later] · U[later, later]), for a few blocks of rows at a
/// time, so that later columns of U are read a few times less often.
struct TriangularInverse: @unchecked Sendable {
  private static let block = Factorization.block
  private static let rowsAtOnce = 4 * block
  /// Summed indices of one product.
  private static let depth = 3 * block

  /// R[0, 0], rows ``rowStride`` floats apart.
  let r: UnsafePointer<Float>
  let order: Int
  let rowStride: Int
  /// The inverses of R's diagonal blocks.
  let inverses: UnsafePointer<Float>
  let pool: WorkerPool

  func computed() -> InverseFactor {
    let u = InverseFactor(order: order)
    let last = (order - 1) / Self.rowsAtOnce * Self.rowsAtOnce
    // The last rows have no later columns; a small factor has only them.
    let left = PackedRows(
      count: Self.rowsAtOnce, depth: max(0, order - Self.rowsAtOnce), kernels: pool.kernels)
    for first in stride(from: last, through: 0, by: -Self.rowsAtOnce) {
      let rows = first..<min(order, first + Self.rowsAtOnce)
      invertDiagonal(rows, of: u)
      if rows.upperBound < order { invert(rows, of: u, left: left) }
    }
    return u
  }

  /// U[rows, rows], block by block from the last.
  private func invertDiagonal(_ rows: Range<Int>, of u: InverseFactor) {
    let kernels = pool.kernels
    let block = Self.block
    for first in stride(from: (rows.upperBound - 1) / block * block, through: rows.lowerBound, by: -block) {
      let size = min(block, rows.upperBound - first)
      let inverse = inverses + first * block
      for i in 0..<size {
        for j in i..<size {
          u.panel(ofColumn: first + j, row: first + i)[j % panelWidth] = inverse[i * size + j]
        }
      }
      let later = first + size
      pool.run((rows.upperBound - later + block - 1) / block) { group in
        let column = later + group * block
        let width = min(block, rows.upperBound - column)
        let stride = u.panelStride(ofColumn: column)
        Scratch.withFloats(block * block) { product in
          kernels.gemm(
            m: size, n: width, k: column + width - later, a: r + first * rowStride + later,
            aRowStride: rowStride, aKStride: 1, b: u.panel(ofColumn: column, row: later),
            bPanelStride: stride, c: product, cRowStride: panelWidth, cPanelStride: size * panelWidth,
            mode: .overwrite)
          kernels.gemm(
            m: size, n: width, k: size, a: inverse, aRowStride: size, aKStride: 1, b: product,
            bPanelStride: size * panelWidth, c: u.panel(ofColumn: column, row: first), cRowStride: panelWidth,
            cPanelStride: stride, mode: .subtract)
        }
      }
    }
  }

  /// U[rows, later columns].
  private func invert(_ rows: Range<Int>, of u: InverseFactor, left: PackedRows) {
    let kernels = pool.kernels
    let block = Self.block
    let size = rows.count
    let later = rows.upperBound
    let steps = order - later
    // R[rows, later...] in pieces of `depth` columns.
    pool.run((steps + Self.depth - 1) / Self.depth) { piece in
      let k = piece * Self.depth
      kernels.packRows(
        left.pointer(depth: k), from: r + rows.lowerBound * rowStride + later + k, rowStride: rowStride,
        kStride: 1, m: size, k: min(Self.depth, steps - k))
    }
    let diagonal = packedDiagonal(rows, of: u)
    let groups = (steps + block - 1) / block
    pool.run(groups) { task in
      let column = later + (groups - 1 - task) * block
      let width = min(block, order - column)
      let stride = u.panelStride(ofColumn: column)
      Scratch.withFloats(size * block) { product in
        // Beyond a column's own row U has only zeros.
        let end = column + width - later
        for k in Swift.stride(from: 0, to: end, by: Self.depth) {
          let packed = min(Self.depth, steps - k)
          let count = min(Self.depth, end - k)
          let right = u.panel(ofColumn: column, row: later + k)
          let mode = k == 0 ? ProductMode.overwrite : .add
          if count == packed {
            kernels.gemmPacked(
              m: size, n: width, k: count, packedA: left.pointer(depth: k), b: right, bPanelStride: stride,
              c: product, cRowStride: panelWidth, cPanelStride: size * panelWidth, mode: mode)
            continue
          }
          // Part of a piece, whose tiles lie further apart than these steps take.
          for row in Swift.stride(from: 0, to: size, by: left.tileRows) {
            kernels.gemm(
              m: min(left.tileRows, size - row), n: width, k: count, a: left.pointer(depth: k) + row * packed,
              aRowStride: 1, aKStride: left.tileRows, b: right, bPanelStride: stride,
              c: product + row * panelWidth, cRowStride: panelWidth, cPanelStride: size * panelWidth,
              mode: mode)
          }
        }
        for row in Swift.stride(from: 0, to: size, by: block) {
          kernels.gemmPacked(
            m: min(block, size - row), n: width, k: size - row,
            packedA: diagonal.pointer(depth: row / block * size), b: product + row * panelWidth,
            bPanelStride: size * panelWidth, c: u.panel(ofColumn: column, row: rows.lowerBound + row),
            cRowStride: panelWidth, cPanelStride: stride, mode: .subtract)
        }
      }
    }
  }

  /// U[rows, rows] as the left side of products: block b of rows, from its own column on, starts at depth b · rows.count.
  private func packedDiagonal(_ rows: Range<Int>, of u: InverseFactor) -> PackedRows {
    let size = rows.count
    let blocks = (size + Self.block - 1) / Self.block
    let packed = PackedRows(count: Self.block, depth: blocks * size, kernels: pool.kernels)
    pool.run(blocks) { index in
      let start = index * Self.block
      let count = min(Self.block, size - start)
      for row in stride(from: 0, to: count, by: packed.tileRows) {
        let tile = packed.pointer(depth: index * size) + row * (size - start)
        for k in stride(from: start, to: size, by: panelWidth) {
          pool.kernels.packRows(
            tile + (k - start) * packed.tileRows,
            from: u.panel(ofColumn: rows.lowerBound + k, row: rows.lowerBound + start + row),
            rowStride: panelWidth, kStride: 1, m: min(packed.tileRows, count - row),
            k: min(panelWidth, size - k))
        }
      }
    }
    return packed
  }
}

/// Room for rows packed in tiles.
private struct PackedRows: @unchecked Sendable {
  let tileRows: Int
  private let floatsPerStep: Int
  private let memory: AlignedBuffer<Float>

  /// - Parameter depth: summed indices of all pieces.
  init(count: Int, depth: Int, kernels: Kernels) {
    tileRows = kernels.tileRows
    floatsPerStep = (count + tileRows - 1) / tileRows * tileRows
    memory = AlignedBuffer(count: floatsPerStep * depth)
  }

  /// Where the piece starts that follows pieces of `depth` summed indices together.
  func pointer(depth: Int) -> UnsafeMutablePointer<Float> { memory.pointer + floatsPerStep * depth }
}
