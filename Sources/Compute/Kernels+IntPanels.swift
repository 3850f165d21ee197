import CKernels

/// Panels of 16 outputs of integer codes, with a scale and a zero point for every group of inputs
/// (`Formats/packed-model.md`): `w[n][k] = scale[g][n] * (code[n][k] - zero[g][n])`, `g = k / groupSize`.
///
/// Only where they are: a copy counts no references, unlike the matrix that owns the memory. Threads that count references to the
/// same object wait for each other.
package struct IntPanelView: Sendable {
  /// Width of a field: 2, 4 or 8.
  package let bits: Int
  package let codes: SharedPointer<UInt8>
  /// Half precision, `[panel][group][16]`.
  package let scales: SharedPointer<UInt16>
  /// `[panel][group][16]`; nil: every zero point is `2^(bits - 1)`.
  package let zeros: SharedPointer<UInt8>?
  /// A multiple of 32; the last group may be shorter.
  package let groupSize: Int
  /// A multiple of 32.
  package let inFeatures: Int
  package let panelCount: Int

  package init(
    bits: Int, codes: SharedPointer<UInt8>, scales: SharedPointer<UInt16>, zeros: SharedPointer<UInt8>?,
    groupSize: Int, inFeatures: Int, panelCount: Int
  ) {
    precondition([2, 4, 8].contains(bits) && inFeatures % 32 == 0 && groupSize > 0 && groupSize % 32 == 0)
    precondition(panelCount >= 0)
    (self.bits, self.codes, self.scales, self.zeros) = (bits, codes, scales, zeros)
    (self.groupSize, self.inFeatures, self.panelCount) = (groupSize, inFeatures, panelCount)
  }

  package var groupCount: Int { (inFeatures + groupSize - 1) / groupSize }
  /// Bytes of the codes of one panel.
  package var panelCodeByteCount: Int { inFeatures * bits * panelWidth / 8 }

  /// Where the panels from `first` on start.
  fileprivate func parts(from first: Int) -> (
    codes: UnsafePointer<UInt8>, scales: UnsafePointer<UInt16>, zeros: UnsafePointer<UInt8>?
  ) {
    let parameters = first * groupCount * panelWidth
    return (codes + first * panelCodeByteCount, scales + parameters, zeros.map { $0 + parameters })
  }

  fileprivate func check(_ range: Range<Int>) {
    precondition(range.lowerBound >= 0 && range.upperBound <= panelCount, "panels beyond the matrix")
  }
}

extension Kernels {
  /// Some inputs of one panel → weights as floats `[k][16]`. The product of code and scale is exact.
  /// - Parameter inputs: from a multiple of 16 on.
  package func dequantizePanel(
    _ panel: UnsafeMutablePointer<Float>, from matrix: IntPanelView, panel index: Int, inputs: Range<Int>
  ) {
    matrix.check(index..<index + 1)
    precondition(
      inputs.lowerBound >= 0 && inputs.lowerBound % 16 == 0 && inputs.upperBound <= matrix.inFeatures,
      "inputs beyond the matrix")
    let (codes, scales, zeros) = matrix.parts(from: index)
    table.pointee.dequantize_panel(
      panel, codes, Int32(matrix.bits), scales, zeros, Int64(matrix.groupSize), Int64(inputs.lowerBound),
      Int64(inputs.count))
  }

  /// y `[16 * panels.count]` = x · Wᵀ with some panels of W; the same bits as ``gemm`` with the dequantized panels.
  /// - Parameter x: `matrix.inFeatures` floats.
  package func gemvIntPanels(
    _ y: UnsafeMutablePointer<Float>, x: UnsafePointer<Float>, by matrix: IntPanelView, panels: Range<Int>
  ) {
    matrix.check(panels)
    let (codes, scales, zeros) = matrix.parts(from: panels.lowerBound)
    table.pointee.gemv_int_panels(
      y, x, codes, Int32(matrix.bits), scales, zeros, Int64(matrix.groupSize), Int64(matrix.groupCount),
      Int64(matrix.panelCodeByteCount), Int64(panels.count), Int64(matrix.inFeatures))
  }
}

// MARK: Activations as signed bytes

extension Kernels {
  /// Rounds `count` rows of activations from row `first` on, a whole number of tiles.
  /// - Parameters:
  ///   - x: the first of the rows; rows are `rowStride` floats apart.
  package func quantizeRows(
    into activations: Int8Activations, from x: UnsafePointer<Float>, rowStride: Int, first: Int, count: Int
  ) {
    precondition(first % activations.tile == 0 && first >= 0 && count >= 0)
    precondition(first + count <= activations.rows, "rows beyond the activations")
    table.pointee.quantize_rows(
      activations.packed.pointer, activations.scales.pointer, activations.sums.pointer, x, Int64(rowStride),
      Int64(first), Int64(count), Int64(activations.rows), Int64(activations.inFeatures),
      Int64(activations.groupSize), Int64(activations.block), Int64(activations.tile),
      activations.outliers?.pointer, activations.outlierCounts.pointer)
  }

  /// Bytes of scratch memory that ``gemmInt8`` needs.
  package static func int8ScratchByteCount(rows: Int, panels: Int) -> Int {
    Int(zn_int8_scratch(Int64(rows), Int64(panels)))
  }

  /// y = x · Wᵀ with all rows of x and some panels of W; outliers are added by ``addOutliers``.
  /// - Parameters:
  ///   - y: panel p of row i is at `i * yRowStride + p * 16`, counted from the first of the panels.
  ///   - scratch: ``int8ScratchByteCount(rows:panels:)`` bytes, aligned to 64.
  package func gemmInt8(
    _ y: UnsafeMutablePointer<Float>, yRowStride: Int, x: Int8Activations, by matrix: IntPanelView,
    panels: Range<Int>, scratch: UnsafeMutablePointer<UInt8>
  ) {
    check(x, matrix, panels, yRowStride)
    precondition(UInt(bitPattern: scratch) % 64 == 0, "scratch memory is not aligned")
    precondition(x.rows == 1 || x.tile == int8TileRows, "activations are packed for other kernels")
    let (codes, scales, zeros) = matrix.parts(from: panels.lowerBound)
    table.pointee.gemm_int8(
      Int64(x.rows), x.packed.pointer, x.scales.pointer, x.sums.pointer, Int64(x.block), codes,
      Int32(matrix.bits), scales, zeros, Int64(matrix.groupSize), Int64(matrix.groupCount),
      Int64(matrix.panelCodeByteCount), Int64(panels.count), Int64(matrix.inFeatures), y, Int64(yRowStride),
      scratch)
  }

  /// ``gemmInt8`` for one row: y `[16 * panels.count]`; the same bits.
  package func gemvInt8(
    _ y: UnsafeMutablePointer<Float>, x: Int8Activations, by matrix: IntPanelView, panels: Range<Int>
  ) {
    check(x, matrix, panels, panels.count * panelWidth)
    precondition(x.rows == 1 && x.tile == 1, "activations are packed for several rows")
    let (codes, scales, zeros) = matrix.parts(from: panels.lowerBound)
    table.pointee.gemv_int8(
      x.packed.pointer, x.scales.pointer, x.sums.pointer, Int64(x.block), codes, Int32(matrix.bits), scales,
      zeros, Int64(matrix.groupSize), Int64(matrix.groupCount), Int64(matrix.panelCodeByteCount),
      Int64(panels.count), Int64(matrix.inFeatures), y)
  }

  /// Adds what rows of x keep out of their rounding to some panels of y, in fp32; nothing when all inputs were rounded.
  package func addOutliers(
    _ y: UnsafeMutablePointer<Float>, yRowStride: Int, x: Int8Activations, by matrix: IntPanelView,
    panels: Range<Int>
  ) {
    guard let outliers = x.outliers else { return }
    check(x, matrix, panels, yRowStride)
    let (codes, scales, zeros) = matrix.parts(from: panels.lowerBound)
    table.pointee.add_outliers(
      Int64(x.rows), y, Int64(yRowStride), outliers.pointer, x.outlierCounts.pointer, codes,
      Int32(matrix.bits), scales, zeros, Int64(matrix.groupSize), Int64(matrix.groupCount),
      Int64(matrix.panelCodeByteCount), Int64(panels.count), Int64(matrix.inFeatures))
  }

  private func check(_ x: Int8Activations, _ matrix: IntPanelView, _ panels: Range<Int>, _ yRowStride: Int) {
    matrix.check(panels)
    precondition(
      x.inFeatures == matrix.inFeatures && x.groupSize == matrix.groupSize, "sides of other shapes")
    precondition(x.rows <= 1 || yRowStride >= panels.count * panelWidth, "rows of y overlap")
  }
}
