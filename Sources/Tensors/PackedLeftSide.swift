import CKernels
import Compute

/// The left side A `[rows, k]` of products, packed once for all threads, each of which multiplies it by panels of its own.
package struct PackedLeftSide: @unchecked Sendable {
  package let rows: Int
  package let k: Int
  private let table: UnsafePointer<zn_kernels>
  /// Blocks of ``depth`` summed indices, each in tiles of rows.
  private let memory: AlignedBuffer<Float>
  private let depth: Int
  private let paddedRows: Int

  /// Floats of A that stay in a second-level cache while panels pass by it: half of the smallest there is
  /// (`STREAMED_FLOATS` of the kernels).
  private static let cachedFloats = 64 << 10

  private static func padded(_ rows: Int, _ table: UnsafePointer<zn_kernels>) -> Int {
    let tile = Int(table.pointee.tile_rows)
    return (rows + tile - 1) / tile * tile
  }

  /// Floats of memory that A takes.
  package static func count(rows: Int, k: Int, kernels: Kernels = .best) -> Int {
    padded(rows, kernels.table) * k
  }

  /// - Parameters:
  ///   - a: element (i, k) is at `i * rowStride + k * kStride`.
  ///   - memory: of ``count(rows:k:kernels:)`` floats, or new.
  package init(
    rows: Int, k: Int, a: UnsafePointer<Float>, rowStride: Int, kStride: Int,
    memory: AlignedBuffer<Float>? = nil, pool: WorkerPool = .shared, kernels: Kernels = .best
  ) {
    let table = kernels.table
    let padded = PackedLeftSide.padded(rows, table)
    let most = min(Int(table.pointee.block_depth), max(64, PackedLeftSide.cachedFloats / padded))
    let blocks = max(1, (k + most - 1) / most)
    let depth = max(16, ((k + blocks - 1) / blocks + 15) / 16 * 16)
    precondition(rows > 0 && k > 0 && (memory == nil || memory!.count >= padded * k))
    let memory = memory ?? AlignedBuffer<Float>(count: padded * k)
    let tileRows = Int(table.pointee.tile_rows)
    let source = Shared(a)
    pool.runRanges(padded / tileRows) { tiles in
      let first = tiles.lowerBound * tileRows
      for start in stride(from: 0, to: k, by: depth) {
        let step = min(depth, k - start)
        table.pointee.pack_rows(
          memory.pointer + padded * start + first * step,
          source.pointer + first * rowStride + start * kStride,
          Int64(rowStride), Int64(kStride), Int64(min(tiles.count * tileRows, rows - first)), Int64(step))
      }
    }
    self.rows = rows
    self.k = k
    self.table = table
    self.memory = memory
    self.depth = depth
    paddedRows = padded
  }

  /// C `[rows, 16 * panels]` = / += / −= A·Bᵀ on the calling thread; strides as in ``LinearAlgebra/gemm``.
  package func multiply(
    panels: Int, by b: UnsafePointer<Float>, bPanelStride: Int, into c: UnsafeMutablePointer<Float>,
    cRowStride: Int = panelWidth, cPanelStride: Int, mode: zn_gemm_mode
  ) {
    for start in stride(from: 0, to: k, by: depth) {
      let step = min(depth, k - start)
      table.pointee.gemm_packed(
        Int64(rows), Int64(panels * panelWidth), Int64(step), memory.pointer + paddedRows * start,
        b + start * panelWidth, Int64(bPanelStride), c, Int64(cRowStride), Int64(cPanelStride),
        mode == ZN_OVERWRITE && start > 0 ? ZN_ADD : mode)
    }
  }
}
