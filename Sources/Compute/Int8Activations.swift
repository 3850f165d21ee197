import CKernels

/// Activations as signed bytes, a scale for each block of 64 inputs (32 where groups or rows are no multiple of 64, and where
/// all inputs are rounded): `x ≈ scale · q`, `scale = max|x| / 127`, and those that were kept out.
///
/// Their order in memory is the kernels' (`CKernels.h`, `quantize_rows`).
package struct Int8Activations: Sendable {
  let packed: DisjointWrites<Int8>
  let scales: DisjointWrites<Float>
  let sums: DisjointWrites<Float>
  /// The outliers of row i start at `i * zn_outlier_most(inFeatures)`; nil when all inputs are rounded.
  let outliers: DisjointWrites<zn_outlier>?
  let outlierCounts: DisjointWrites<Int32>
  package let rows: Int
  package let inFeatures: Int
  package let groupSize: Int
  /// Inputs that share a scale.
  let block: Int
  /// Rows that are packed together.
  package let tile: Int

  /// Calls `body` with room for activations in this thread's scratch memory; memory of their own would be cleared by the
  /// operating system for each product anew. ``Kernels/quantizeRows(into:from:rowStride:first:count:)`` fills them.
  /// - Parameters:
  ///   - inFeatures: a multiple of 32.
  ///   - groupSize: inputs of one group of the weights they will be multiplied with, a multiple of 32.
  ///   - keepsOutliers: inputs beyond 8 times the root mean square of their row are not rounded.
  package static func withScratch<Result>(
    rows: Int, inFeatures: Int, groupSize: Int, keepsOutliers: Bool, kernels: Kernels,
    _ body: (Int8Activations) -> Result
  ) -> Result {
    precondition(rows >= 0 && inFeatures % 32 == 0 && groupSize > 0 && groupSize % 32 == 0)
    let tile = rows == 1 ? 1 : kernels.int8TileRows
    let tiles = (rows + tile - 1) / tile
    // Without outliers it is llama.cpp's Q8_0, whose blocks are 32 inputs.
    let longest = Int(ZN_INT8_BLOCK_MOST)
    let isWhole = inFeatures % longest == 0 && groupSize % longest == 0
    let block = keepsOutliers && isWhole ? longest : Int(ZN_INT8_PART)
    // Parts of whole cache lines, each of so many floats for every row of whole tiles.
    func part(_ floatsOfRow: Int) -> Int { (tiles * tile * floatsOfRow + 15) / 16 * 16 }
    let packed = part(inFeatures / 4)
    let scales = part(inFeatures / block)
    let sums = part(2 * Int(zn_int8_spans(Int64(inFeatures), Int64(groupSize))))
    let outliers = part(2 * Int(zn_outlier_most(Int64(inFeatures))))
    let counts = part(1)
    return Scratch.withFloats(packed + scales + sums + outliers + counts) { memory in
      let firstSum = memory + packed + scales
      let firstOutlier = UnsafeMutableRawPointer(firstSum + sums)
      let firstCount = UnsafeMutableRawPointer(firstSum + sums + outliers)
      return body(
        Int8Activations(
          packed: DisjointWrites(UnsafeMutableRawPointer(memory).assumingMemoryBound(to: Int8.self)),
          scales: DisjointWrites(memory + packed), sums: DisjointWrites(firstSum),
          outliers: keepsOutliers
            ? DisjointWrites(firstOutlier.assumingMemoryBound(to: zn_outlier.self)) : nil,
          outlierCounts: DisjointWrites(firstCount.assumingMemoryBound(to: Int32.self)), rows: rows,
          inFeatures: inFeatures, groupSize: groupSize, block: block, tile: tile))
    }
  }

  /// How many inputs of a row were kept out of its rounding.
  package func outlierCount(row: Int) -> Int { outliers == nil ? 0 : Int(outlierCounts[row]) }
}
