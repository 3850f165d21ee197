import CKernels

extension Kernels {
  /// One block of GPTQ's column sweep on some panels of 16 output rows (`Formats/autogptq-int4.md`, "The algorithm"):
  /// `q = scale * (clamp(round(w / scale) + zero, 0, maximumCode) - zero)`, `e = (w - q) / U[i, i]`, then `w[j] -= e * U[i, j]` for
  /// the later columns j of the block. Every stride counts elements.
  /// - Parameters:
  ///   - weights: `[columns][16]` of panel p at `p * weightStride`; corrected in place.
  ///   - original: the same weights before any correction, `[columns][16]` at `p * originalStride`; becomes `original - q`.
  ///   - u: the block's part of the upper triangle of U, rows `uStride` apart.
  ///   - scales, zeros: `[groups][16]` of panel p at `p * parameterStride`.
  ///   - groupOf: the group whose parameters each column uses.
  ///   - codes: `[panels][columns][16]`, written.
  ///   - errors: `[panels][columns][16]`, written: e.
  ///   - losses: `[panels][16]`; `(w - q)² / U[i, i]² / 2` is added.
  package func gptqBlock(
    panels: Int, columns: Int, weights: UnsafeMutablePointer<Float>, weightStride: Int,
    original: UnsafeMutablePointer<Float>, originalStride: Int, u: UnsafePointer<Float>, uStride: Int,
    scales: UnsafePointer<Float>, zeros: UnsafePointer<Float>, parameterStride: Int, groupOf: [Int32],
    maximumCode: Float, codes: UnsafeMutablePointer<UInt8>, errors: UnsafeMutablePointer<Float>,
    losses: UnsafeMutablePointer<Double>
  ) {
    checkSweep(
      panels, columns, weightStride, originalStride, uStride, parameterStride, groupOf, maximumCode)
    table.pointee.gptq_block(
      Int64(panels), Int64(columns), weights, Int64(weightStride), original, Int64(originalStride), u,
      Int64(uStride), scales, zeros, Int64(parameterStride), groupOf, maximumCode, codes, errors, losses)
  }

  /// Most panels of ``gptqRows(panels:columns:weights:weightStride:original:originalStride:u:uStride:scales:zeros:parameterStride:groupOf:maximumCode:codes:errors:losses:before:beforeStride:feedback:feedbackStride:differences:differenceStride:)``.
  package static let rowPanels = Int(ZN_ROW_PANELS)

  /// ``gptqBlock(panels:columns:weights:weightStride:original:originalStride:u:uStride:scales:zeros:parameterStride:groupOf:maximumCode:codes:errors:losses:)``
  /// with feedback between output rows: a row's weight is rounded to the code nearest to `w + before + Σ F[k, row] · (w - q)` of the
  /// rows k before it, at most ``rowPanels`` panels at a time.
  /// - Parameters:
  ///   - before: what the rows of earlier panels add, `[16 * panels][columns]`.
  ///   - feedback: F, strictly upper, `[16 * panels][16 * panels]`.
  ///   - differences: `w - q`, written: row r, column i at `r * 16 + i / 16 * differenceStride + i % 16`.
  package func gptqRows(
    panels: Int, columns: Int, weights: UnsafeMutablePointer<Float>, weightStride: Int,
    original: UnsafeMutablePointer<Float>, originalStride: Int, u: UnsafePointer<Float>, uStride: Int,
    scales: UnsafePointer<Float>, zeros: UnsafePointer<Float>, parameterStride: Int, groupOf: [Int32],
    maximumCode: Float, codes: UnsafeMutablePointer<UInt8>, errors: UnsafeMutablePointer<Float>,
    losses: UnsafeMutablePointer<Double>, before: UnsafePointer<Float>, beforeStride: Int,
    feedback: UnsafePointer<Float>, feedbackStride: Int, differences: UnsafeMutablePointer<Float>,
    differenceStride: Int
  ) {
    checkSweep(
      panels, columns, weightStride, originalStride, uStride, parameterStride, groupOf, maximumCode)
    precondition(panels <= Kernels.rowPanels, "more panels than a task takes")
    precondition(beforeStride >= columns, "rows overlap")
    precondition(feedbackStride >= panels * panelWidth, "rows of F overlap")
    precondition(
      columns <= panelWidth || differenceStride >= panels * panelWidth * panelWidth, "panels overlap")
    table.pointee.gptq_rows(
      Int64(panels), Int64(columns), weights, Int64(weightStride), original, Int64(originalStride), u,
      Int64(uStride), scales, zeros, Int64(parameterStride), groupOf, maximumCode, codes, errors, losses,
      before, Int64(beforeStride), feedback, Int64(feedbackStride), differences, Int64(differenceStride))
  }

  private func checkSweep(
    _ panels: Int, _ columns: Int, _ weightStride: Int, _ originalStride: Int, _ uStride: Int,
    _ parameterStride: Int, _ groupOf: [Int32], _ maximumCode: Float
  ) {
    precondition(panels >= 0 && columns >= 0 && groupOf.count == columns, "a group for each column")
    precondition(uStride >= columns, "rows of U overlap")
    precondition(
      panels <= 1
        || weightStride >= columns * panelWidth && originalStride >= columns * panelWidth
          && parameterStride >= panelWidth,
      "panels overlap")
    precondition(maximumCode >= 1 && maximumCode <= 255, "codes are bytes")
  }

  /// What rounding a group of 16 outputs loses with each of some scales: `Σ importance[i] · (w[i] − s · code)²`, the code being
  /// `round(w[i] / s)` between `low` and `high`.
  /// - Parameters:
  ///   - weights: `[columns][16]`.
  ///   - importance: of each column.
  ///   - scales, low, high: `[candidates][16]`; the codes are counted from the zero point.
  ///   - losses: `[candidates][16]`, written.
  package func roundingLosses(
    columns: Int, weights: UnsafePointer<Float>, importance: UnsafePointer<Float>, candidates: Int,
    scales: UnsafePointer<Float>, low: UnsafePointer<Float>, high: UnsafePointer<Float>,
    losses: UnsafeMutablePointer<Float>
  ) {
    precondition(columns >= 0 && candidates >= 0)
    table.pointee.rounding_losses(
      Int64(columns), weights, importance, Int64(candidates), scales, low, high, losses)
  }
}
