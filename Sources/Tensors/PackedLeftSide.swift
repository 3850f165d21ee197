import Compute

/// The left side A `[rows, k]` of products, packed once for all threads, each of which multiplies it by panels of its own.
package struct PackedLeftSide: @unchecked Sendable {
  package let rows: Int
  package let k: Int
  private let kernels: Kernels
  /// Blocks of ``depth`` summed indices, each in tiles of rows.
  private let memory: AlignedBuffer<Float>
  private let depth: Int
  private let paddedRows: Int

  /// Floats of A that stay in a second-level cache while panels pass by it: half of the smallest there is
  /// (`STREAMED_FLOATS` of the kernels).
  private static let cachedFloats = 64 << 10

  private static func padded(_ rows: Int, _ kernels: Kernels) -> Int {
    let tile = kernels.tileRows
    return (rows + tile - 1) / tile * tile
  }

  /// Floats of memory that A takes.
  package static func count(rows: Int, k: Int, kernels: Kernels) -> Int {
    padded(rows, kernels) * k
  }

  /// - Parameters:
  ///   - a: element (i, k) is at `i * rowStride + k * kStride`.
  ///   - memory: of ``count(rows:k:kernels:)`` floats, or new.
  package init(
    rows: Int, k: Int, a: UnsafePointer<Float>, rowStride: Int, kStride: Int,
    memory: AlignedBuffer<Float>? = nil, pool: WorkerPool = .shared
  ) {
    let kernels = pool.kernels
    let padded = PackedLeftSide.padded(rows, kernels)
    let most = min(kernels.blockDepth, max(64, PackedLeftSide.cachedFloats / padded))
    let blocks = max(1, (k + most - 1) / most)
    let depth = max(16, ((k + blocks - 1) / blocks + 15) / 16 * 16)
    precondition(rows > 0 && k > 0 && (memory == nil || memory!.count >= padded * k))
    let memory = memory ?? AlignedBuffer<Float>(count: padded * k)
    let tileRows = kernels.tileRows
    let source = SharedPointer(a)
    pool.runRanges(padded / tileRows) { tiles in
      let first = tiles.lowerBound * tileRows
      for start in stride(from: 0, to: k, by: depth) {
        let step = min(depth, k - start)
        kernels.packRows(
          memory.pointer + padded * start + first * step,
          from: source.pointer + first * rowStride + start * kStride, rowStride: rowStride, kStride: kStride,
          m: min(tiles.count * tileRows, rows - first), k: step)
      }
    }
    self.rows = rows
    self.k = k
    self.kernels = kernels
    self.memory = memory
    self.depth = depth
    paddedRows = padded
  }

  /// C `[rows, 16 * panels]` = / += / −= A·Bᵀ on the calling thread; strides as in ``LinearAlgebra/gemm``.
  package func multiply(
    panels: Int, by b: UnsafePointer<Float>, bPanelStride: Int, into c: UnsafeMutablePointer<Float>,
    cRowStride: Int = panelWidth, cPanelStride: Int, mode: ProductMode
  ) {
    for start in stride(from: 0, to: k, by: depth) {
      let step = min(depth, k - start)
      kernels.gemmPacked(
        m: rows, n: panels * panelWidth, k: step, packedA: memory.pointer + paddedRows * start,
        b: b + start * panelWidth, bPanelStride: bPanelStride, c: c, cRowStride: cRowStride,
        cPanelStride: cPanelStride, mode: mode == .overwrite && start > 0 ? .add : mode)
    }
  }
}
