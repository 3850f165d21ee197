import CKernels

/// Activations as signed bytes, a scale for each block of 64 inputs (32 where groups or rows are no multiple of 64, and where
/// all inputs are rounded): `x ≈ scale · q`, `scale = max|x| / 127`, and those that were kept out.
///
/// Their order in memory is the kernels' (`CKernels.h`, `quantize_rows`).
package struct Int8Activations: Sendable {
  let packed: DisjointWrites<Int8>
  let scales: DisjointWrites<Float>
  let sums: DisjointWrites<Float>
  /// Of row i from `i * zn_outlier_most(inFeatures)` on; nil: all inputs are rounded.
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
    let blocks = inFeatures / block
    let spans = Int(zn_int8_spans(Int64(inFeatures), Int64(groupSize)))
    let outliers = 2 * Int(zn_outlier_most(Int64(inFeatures)))
    var starts = [0]
    for floats in [inFeatures / 4, blocks, 2 * spans, outliers, 1] {
      starts.append(starts[starts.count - 1] + (tiles * tile * floats + 15) / 16 * 16)
    }
    return Scratch.withFloats(starts[5]) { memory in
      func part<Element>(_ index: Int, as type: Element.Type) -> DisjointWrites<Element> {
        DisjointWrites(UnsafeMutableRawPointer(memory + starts[index]).assumingMemoryBound(to: type))
      }
      return body(
        Int8Activations(
          packed: part(0, as: Int8.self), scales: part(1, as: Float.self), sums: part(2, as: Float.self),
          outliers: keepsOutliers ? part(3, as: zn_outlier.self) : nil,
          outlierCounts: part(4, as: Int32.self),
          rows: rows, inFeatures: inFeatures, groupSize: groupSize, block: block, tile: tile))
    }
  }

  /// How many inputs of a row were kept out of its rounding.
  package func outlierCount(row: Int) -> Int { outliers == nil ? 0 : Int(outlierCounts[row]) }
}
