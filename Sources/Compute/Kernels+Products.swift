// Products of floats. Shapes: C is `[m, n]`, A is `[m, k]`, B is `[n, k]` in panels of 16 outputs, so that element (n, k) is at
// `n / 16 * bPanelStride + k * 16 + n % 16`. Every stride counts elements.

extension Kernels {
  /// C = / += / −= A·Bᵀ. Every element of C is one chain of fused multiply-adds in ascending k.
  /// - Parameters:
  ///   - a: element (i, k) is at `i * aRowStride + k * aKStride`.
  ///   - c: element (i, n) is at `n / 16 * cPanelStride + i * cRowStride + n % 16`; an ordinary row-major C has 16 as its panel
  ///     stride.
  package func gemm(
    m: Int, n: Int, k: Int, a: UnsafePointer<Float>, aRowStride: Int, aKStride: Int, b: UnsafePointer<Float>,
    bPanelStride: Int, c: UnsafeMutablePointer<Float>, cRowStride: Int, cPanelStride: Int, mode: ProductMode
  ) {
    checkProduct(m, n, k, bPanelStride, cRowStride, cPanelStride)
    table.pointee.gemm(
      Int64(m), Int64(n), Int64(k), a, Int64(aRowStride), Int64(aKStride), b, Int64(bPanelStride), c,
      Int64(cRowStride), Int64(cPanelStride), mode.code)
  }

  /// ``gemm`` with A as ``packRows(_:from:rowStride:kStride:m:k:)`` leaves it.
  package func gemmPacked(
    m: Int, n: Int, k: Int, packedA: UnsafePointer<Float>, b: UnsafePointer<Float>, bPanelStride: Int,
    c: UnsafeMutablePointer<Float>, cRowStride: Int, cPanelStride: Int, mode: ProductMode
  ) {
    checkProduct(m, n, k, bPanelStride, cRowStride, cPanelStride)
    table.pointee.gemm_packed(
      Int64(m), Int64(n), Int64(k), packedA, b, Int64(bPanelStride), c, Int64(cRowStride),
      Int64(cPanelStride),
      mode.code)
  }

  private func checkProduct(
    _ m: Int, _ n: Int, _ k: Int, _ bPanelStride: Int, _ cRowStride: Int, _ cPanelStride: Int
  ) {
    precondition(m >= 0 && n >= 0 && k >= 0, "a product has a negative size")
    precondition(n <= panelWidth || bPanelStride >= k * panelWidth, "panels of B overlap")
    precondition(m <= 1 || cRowStride >= min(n, panelWidth), "rows of C overlap")
    precondition(n <= panelWidth || cPanelStride >= panelWidth, "panels of C overlap")
  }

  /// A `[m, k]` with any strides → tiles of ``tileRows`` rows, k-major: tile t is at `t * tileRows * k`, element (i, k) of it at
  /// `k * tileRows + i`. The missing rows of the last tile become zero.
  package func packRows(
    _ packed: UnsafeMutablePointer<Float>, from a: UnsafePointer<Float>, rowStride: Int, kStride: Int, m: Int,
    k: Int
  ) {
    precondition(m >= 0 && k >= 0, "a matrix has a negative size")
    table.pointee.pack_rows(packed, a, Int64(rowStride), Int64(kStride), Int64(m), Int64(k))
  }

  /// y[i, n] = Σₖ x[i, k] · B[n, k] for one row or a few, with `panels` whole panels of any element type; the same bits as
  /// ``gemm``.
  /// - Parameters:
  ///   - y: rows of `16 * panels` floats.
  ///   - adding: the chains go on from what y holds.
  package func gemvPanels(
    rows: Int, y: UnsafeMutablePointer<Float>, yRowStride: Int, x: UnsafePointer<Float>, xRowStride: Int,
    b: UnsafeRawPointer, type: KernelType, panelStride: Int, panels: Int, k: Int, adding: Bool = false
  ) {
    precondition(rows >= 0 && panels >= 0 && k >= 0, "a product has a negative size")
    precondition(panels <= 1 || panelStride >= k * panelWidth, "panels of B overlap")
    precondition(rows <= 1 || yRowStride >= panels * panelWidth, "rows of y overlap")
    table.pointee.gemv_panels(
      Int64(rows), y, Int64(yRowStride), x, Int64(xRowStride), b, type.code, Int64(panelStride),
      Int64(panels),
      Int64(k), adding)
  }
}

// MARK: Both sides rounded to bf16

extension Kernels {
  /// A `[m, k]`, rows `rowStride` floats apart, rounded to bf16 → tiles as ``packRows(_:from:rowStride:kStride:m:k:)`` makes
  /// them, of words that hold two successive k: word w of row i of a tile is at `w * tileRows + i`.
  package func packRowsBF16(
    _ packed: UnsafeMutablePointer<UInt32>, from a: UnsafePointer<Float>, rowStride: Int, m: Int, k: Int
  ) {
    precondition(m >= 0 && k >= 0, "a matrix has a negative size")
    table.pointee.pack_rows_bf16(packed, a, Int64(rowStride), Int64(m), Int64(k))
  }

  /// A panel `[k][16]` of floats, rounded to bf16 → words `[(k + 1) / 2][16]`.
  package func narrowPanelBF16(
    _ words: UnsafeMutablePointer<UInt32>, from panel: UnsafePointer<Float>, k: Int
  ) {
    precondition(k >= 0, "a panel has a negative size")
    table.pointee.narrow_panel_bf16(words, panel, Int64(k))
  }

  /// C = (with `adding`: +=) A·Bᵀ, row-major, of sides in bf16, summed in fp32 as VDPBF16PS sums them.
  /// - Parameter words: pairs of summed indices.
  package func gemmBF16(
    m: Int, n: Int, words: Int, packedA: UnsafePointer<UInt32>, b: UnsafePointer<UInt32>, bPanelStride: Int,
    c: UnsafeMutablePointer<Float>, cRowStride: Int, adding: Bool
  ) {
    checkProduct(m, n, words, bPanelStride, cRowStride, panelWidth)
    table.pointee.gemm_bf16(
      Int64(m), Int64(n), Int64(words), packedA, b, Int64(bPanelStride), c, Int64(cRowStride), adding)
  }
}

// MARK: Panels

extension Kernels {
  /// At most 16 rows of a row-major B `[rows, k]` of any element type → one panel `[k][16]` of floats; missing rows are zero.
  package func packPanel(
    _ panel: UnsafeMutablePointer<Float>, from b: UnsafeRawPointer, type: KernelType, rowStride: Int,
    rows: Int, k: Int
  ) {
    precondition(rows >= 0 && rows <= panelWidth && k >= 0, "a panel has at most 16 rows")
    table.pointee.pack_panel(panel, b, type.code, Int64(rowStride), Int64(rows), Int64(k))
  }

  /// Panels of a B whose summed index runs over rows: `panels[n / 16 * panelStride + k * 16 + n % 16] = b[k * rowStride + n]` for
  /// `n < columns`; columns that fill the last panel up are zero.
  package func copyPanels(
    _ panels: UnsafeMutablePointer<Float>, panelStride: Int, from b: UnsafePointer<Float>, rowStride: Int,
    columns: Int, k: Int
  ) {
    copyPanels(
      panels, panelStride: panelStride, from: UnsafeRawPointer(b), type: .f32, rowStride: rowStride,
      columns: columns, k: k)
  }

  /// The same from a B of any float type.
  package func copyPanels(
    _ panels: UnsafeMutablePointer<Float>, panelStride: Int, from b: UnsafeRawPointer, type: KernelType,
    rowStride: Int, columns: Int, k: Int
  ) {
    precondition(columns >= 0 && k >= 0, "a matrix has a negative size")
    precondition(columns <= panelWidth || panelStride >= k * panelWidth, "panels overlap")
    precondition(type != .int8, "panels are copied from floats")
    table.pointee.copy_panels(
      panels, Int64(panelStride), b, type.code, Int64(rowStride), Int64(columns), Int64(k))
  }

  /// At most 16 rows of 16-bit elements → `columns` lines of 16; missing rows are zero.
  package func transpose16(
    _ to: UnsafeMutablePointer<UInt16>, stride toStride: Int, from: UnsafePointer<UInt16>, rowStride: Int,
    rows: Int, columns: Int
  ) {
    precondition(rows >= 0 && rows <= panelWidth && columns >= 0, "a panel has at most 16 rows")
    precondition(columns <= 1 || toStride >= panelWidth, "lines overlap")
    table.pointee.transpose16(to, Int64(toStride), from, Int64(rowStride), Int64(rows), Int64(columns))
  }

  /// One panel `[k][16]` of any element type → floats.
  package func widenPanel(
    _ panel: UnsafeMutablePointer<Float>, from source: UnsafeRawPointer, type: KernelType, k: Int
  ) {
    precondition(k >= 0, "a panel has a negative size")
    table.pointee.widen_panel(panel, source, type.code, Int64(k))
  }
}
