// Kernels for codes and scales that a solver has found: lines of 16 outputs. Strides count elements.

extension Kernels {
  /// centered = codes − zeros: columns of one group.
  /// - Parameters:
  ///   - codes: `[columns][16]`.
  ///   - zeros: `[16]`.
  ///   - centered: `[columns][16]`, written.
  package func centerCodes(
    columns: Int, codes: UnsafePointer<UInt8>, zeros: UnsafePointer<Float>,
    centered: UnsafeMutablePointer<Float>
  ) {
    precondition(columns >= 0)
    table.pointee.center_codes(Int64(columns), codes, zeros, centered)
  }

  /// errors = w − scales · (codes − zeros): columns of one group.
  /// - Parameters:
  ///   - weights, codes: `[columns][16]`.
  ///   - scales, zeros: `[16]`.
  ///   - errors: `[columns][16]`, written.
  package func residuals(
    columns: Int, weights: UnsafePointer<Float>, codes: UnsafePointer<UInt8>, scales: UnsafePointer<Float>,
    zeros: UnsafePointer<Float>, errors: UnsafeMutablePointer<Float>
  ) {
    precondition(columns >= 0)
    table.pointee.residuals(Int64(columns), weights, codes, scales, zeros, errors)
  }

  /// sums[lane] += Σ a[i][lane] · b[i][lane] in double precision.
  /// - Parameters:
  ///   - a, b: `[columns][16]`.
  ///   - sums: `[16]`.
  package func dotLanes(
    columns: Int, _ a: UnsafePointer<Float>, _ b: UnsafePointer<Float>, sums: UnsafeMutablePointer<Double>
  ) {
    precondition(columns >= 0)
    table.pointee.dot_lanes(Int64(columns), a, b, sums)
  }

  /// Coordinate descent over one block of columns: each code moves to where the loss (w − q)·H·(w − q)ᵀ is smallest while all
  /// others stay, `code + g[j] / (H[j, j] · scale)` rounded and clamped.
  /// - Parameters:
  ///   - gradients: `[panels][columns][16]`: (w − q)·H of the block's columns; used up.
  ///   - errors: w − q, `[columns][16]` of panel p at `p * errorStride`; follows the codes.
  ///   - h: the block of H, rows `hStride` apart.
  ///   - scales: `[groups][16]` of panel p at `p * scaleStride`.
  ///   - groupOf: the group whose scale each column uses.
  ///   - codes: `[columns][16]` of panel p at `p * codeStride`.
  package func descendBlock(
    panels: Int, columns: Int, gradients: UnsafeMutablePointer<Float>, errors: UnsafeMutablePointer<Float>,
    errorStride: Int, h: UnsafePointer<Float>, hStride: Int, scales: UnsafePointer<Float>, scaleStride: Int,
    groupOf: [Int32], maximumCode: Float, codes: UnsafeMutablePointer<UInt8>, codeStride: Int
  ) {
    precondition(panels >= 0 && columns >= 0 && groupOf.count == columns, "a group for each column")
    precondition(hStride >= columns, "rows of H overlap")
    precondition(
      panels <= 1
        || errorStride >= columns * panelWidth && codeStride >= columns * panelWidth
          && scaleStride >= panelWidth,
      "panels overlap")
    precondition(maximumCode >= 1 && maximumCode <= 255, "codes are bytes")
    table.pointee.descend_block(
      Int64(panels), Int64(columns), gradients, errors, Int64(errorStride), h, Int64(hStride), scales,
      Int64(scaleStride), groupOf, maximumCode, codes, Int64(codeStride))
  }
}
