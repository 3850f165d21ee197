import Compute
import Tensors

/// Products with a side that is as narrow as a rank: too narrow for it to pay to pack the other side.
enum LowRankProducts {
  /// Rows that are summed in one chain before they are added.
  private static let depth = 512

  /// c `[rows, n]` = x `[rows, k]` · Bᵀ.
  /// - Parameter b: B `[n, k]` in panels, `k` lines each.
  static func multiply(
    x: UnsafePointer<Float>, xRowStride: Int, rows: Int, k: Int, b: AlignedBuffer<Float>, n: Int,
    into c: UnsafeMutablePointer<Float>, pool: WorkerPool
  ) {
    let (x, c) = (SharedPointer(x), DisjointWrites(c))
    pool.runRanges(rows, grain: 2 * pool.kernels.tileRows) { range in
      pool.kernels.gemm(
        m: range.count, n: n, k: k, a: x + range.lowerBound * xRowStride, aRowStride: xRowStride, aKStride: 1,
        b: b.pointer, bPanelStride: k * panelWidth, c: c + range.lowerBound * n, cRowStride: n,
        cPanelStride: panelWidth, mode: .overwrite)
    }
  }

  /// sum `[rank, width]` += leftᵀ · right, over rows.
  /// - Parameters:
  ///   - left: `[rows, rank]`.
  ///   - right: rows of `width` floats, `rightRowStride` apart.
  static func addGram(
    left: UnsafePointer<Float>, rank: Int, right: UnsafePointer<Float>, rightRowStride: Int, width: Int,
    rows: Int, to sum: UnsafeMutablePointer<Float>, pool: WorkerPool
  ) {
    let (left, right, sum) = (SharedPointer(left), SharedPointer(right), DisjointWrites(sum))
    let kernels = pool.kernels
    let panels = (width + panelWidth - 1) / panelWidth
    pool.runRanges(panels, grain: max(1, kernels.tilePanels)) { range in
      let first = range.lowerBound * panelWidth
      let columns = min(range.count * panelWidth, width - first)
      Scratch.withFloats(range.count * panelWidth * depth) { block in
        for row in stride(from: 0, to: rows, by: depth) {
          let some = min(depth, rows - row)
          kernels.copyPanels(
            block, panelStride: some * panelWidth, from: right + (row * rightRowStride + first),
            rowStride: rightRowStride, columns: columns, k: some)
          kernels.gemm(
            m: rank, n: columns, k: some, a: left + row * rank, aRowStride: 1, aKStride: rank, b: block,
            bPanelStride: some * panelWidth, c: sum + first, cRowStride: width, cPanelStride: panelWidth,
            mode: .addBlock)
        }
      }
    }
  }
}

/// The matrices of one update in the orders in which a step multiplies with them.
struct PreparedUpdate: Sendable {
  let update: TrainedAdapter.Update
  let rank: Int
  let inputs: Int
  /// Of the projection, not of the update: rows of B without an output do not exist, outputs without a row have zeros.
  let outputs: Int
  /// A `[rank, inputs]` in panels of rows: h = x · Aᵀ.
  let a: AlignedBuffer<Float>
  /// Aᵀ in panels of inputs: dx = dh · A.
  let aTransposed: AlignedBuffer<Float>
  /// B `[outputs, rank]` in panels of outputs: y += h · Bᵀ.
  let b: AlignedBuffer<Float>
  /// Bᵀ in panels of the rank: dh = dy · B.
  let bTransposed: AlignedBuffer<Float>

  private static func padded(_ count: Int) -> Int { (count + panelWidth - 1) / panelWidth * panelWidth }

  /// Floats of the four.
  static func floatCount(rank: Int, inputs: Int, outputs: Int) -> Int {
    padded(rank) * (inputs + outputs) + rank * (padded(inputs) + padded(outputs)) + rank * outputs
  }

  init(_ update: TrainedAdapter.Update, outputs: Int, pool: WorkerPool) {
    self.update = update
    self.outputs = outputs
    rank = update.a.shape[0]
    inputs = update.a.shape[1]
    let kernels = pool.kernels
    let (rank, inputs) = (rank, inputs)
    a = AlignedBuffer(count: PreparedUpdate.padded(rank) * inputs)
    aTransposed = AlignedBuffer(count: PreparedUpdate.padded(inputs) * rank)
    b = AlignedBuffer(count: PreparedUpdate.padded(outputs) * rank)
    bTransposed = AlignedBuffer(count: PreparedUpdate.padded(rank) * outputs)
    let values = update.a.values.pointer
    var ofB = update.b.values
    if let rows = update.rows {
      ofB = AlignedBuffer(count: outputs * rank)
      ofB.pointer.update(repeating: 0, count: ofB.count)
      for (row, output) in rows.enumerated() {
        (ofB.pointer + output * rank).update(from: update.b.values.pointer + row * rank, count: rank)
      }
    }
    for first in stride(from: 0, to: rank, by: panelWidth) {
      kernels.packPanel(
        a.pointer + first * inputs, from: values + first * inputs, type: .f32, rowStride: inputs,
        rows: min(panelWidth, rank - first), k: inputs)
    }
    for first in stride(from: 0, to: outputs, by: panelWidth) {
      kernels.packPanel(
        b.pointer + first * rank, from: ofB.pointer + first * rank, type: .f32, rowStride: rank,
        rows: min(panelWidth, outputs - first), k: rank)
    }
    kernels.copyPanels(
      aTransposed.pointer, panelStride: rank * panelWidth, from: values, rowStride: inputs, columns: inputs,
      k: rank)
    kernels.copyPanels(
      bTransposed.pointer, panelStride: outputs * panelWidth, from: ofB.pointer, rowStride: rank,
      columns: rank, k: outputs)
  }
}
