import Architecture
import Compute
import Tensors

/// Products with a side that is as narrow as a rank: too narrow for it to pay to pack the other side.
enum LowRankProducts {
  /// Rows that are summed in one chain before they are added.
  private static let depth = 512

  /// c `[rows, n]`, rows `cRowStride` apart, = x `[rows, k]` · Bᵀ.
  /// - Parameter b: B `[n, k]` in panels, `k` lines each.
  static func multiply(
    x: UnsafePointer<Float>, xRowStride: Int, rows: Int, k: Int, b: AlignedBuffer<Float>, n: Int,
    into c: UnsafeMutablePointer<Float>, cRowStride: Int, pool: WorkerPool
  ) {
    let (x, c) = (SharedPointer(x), DisjointWrites(c))
    pool.runRanges(rows, grain: 2 * pool.kernels.tileRows) { range in
      pool.kernels.gemm(
        m: range.count, n: n, k: k, a: x + range.lowerBound * xRowStride, aRowStride: xRowStride, aKStride: 1,
        b: b.pointer, bPanelStride: k * panelWidth, c: c + range.lowerBound * cRowStride,
        cRowStride: cRowStride,
        cPanelStride: panelWidth, mode: .overwrite)
    }
  }

  /// sum `[rank, width]` += leftᵀ · right, over rows.
  /// - Parameters:
  ///   - left: rows of `rank` floats, `leftRowStride` apart.
  ///   - right: rows of `width` floats, `rightRowStride` apart.
  static func addGram(
    left: UnsafePointer<Float>, leftRowStride: Int, rank: Int, right: UnsafePointer<Float>,
    rightRowStride: Int, width: Int,
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
            m: rank, n: columns, k: some, a: left + row * leftRowStride, aRowStride: 1,
            aKStride: leftRowStride, b: block,
            bPanelStride: some * panelWidth, c: sum + first, cRowStride: width, cPanelStride: panelWidth,
            mode: .addBlock)
        }
      }
    }
  }
}

/// The updates that see one input: their matrices A one below the other, in the orders in which a step multiplies with them.
struct PreparedGroup: Sendable {
  /// One update and where its columns of h begin.
  struct Member: Sendable {
    let update: TrainedAdapter.Update
    let first: Int
    let rank: Int
    /// Of the projection, not of the update: outputs without a row of B have zeros.
    let outputs: Int
    /// B `[outputs, rank]` in panels of outputs: y += h · Bᵀ.
    let b: AlignedBuffer<Float>
    /// Bᵀ in panels of the rank: dh = dy · B.
    let bTransposed: AlignedBuffer<Float>
  }

  let members: [Member]
  let kinds: Set<ModuleKind>
  /// Of all members, added.
  let rank: Int
  let inputs: Int
  /// A `[rank, inputs]` in panels of rows: h = x · Aᵀ.
  let a: AlignedBuffer<Float>
  /// Aᵀ in panels of inputs: dx = dh · A.
  let aTransposed: AlignedBuffer<Float>
  /// Tells the group's dropout from that of the others.
  var number: UInt64 { members[0].update.number }

  private static func padded(_ count: Int) -> Int { (count + panelWidth - 1) / panelWidth * panelWidth }

  /// Floats that one update adds.
  static func floatCount(rank: Int, inputs: Int, outputs: Int) -> Int {
    padded(rank) * (inputs + outputs) + rank * (inputs + padded(inputs) + padded(outputs) + outputs)
  }

  /// - Parameter updates: with their projections' numbers of outputs; they have as many inputs.
  init(_ updates: [(update: TrainedAdapter.Update, outputs: Int)], pool: WorkerPool) {
    let kernels = pool.kernels
    var rank = 0
    members = updates.map { update, outputs in
      let own = update.a.shape[0]
      defer { rank += own }
      var values = update.b.values
      if let rows = update.rows {
        values = AlignedBuffer(zeros: outputs * own)
        for (row, output) in rows.enumerated() {
          (values.pointer + output * own).update(from: update.b.values.pointer + row * own, count: own)
        }
      }
      let b = AlignedBuffer<Float>(count: PreparedGroup.padded(outputs) * own)
      for first in stride(from: 0, to: outputs, by: panelWidth) {
        kernels.packPanel(
          b.pointer + first * own, from: values.pointer + first * own, type: .f32, rowStride: own,
          rows: min(panelWidth, outputs - first), k: own)
      }
      let bTransposed = AlignedBuffer<Float>(count: PreparedGroup.padded(own) * outputs)
      kernels.copyPanels(
        bTransposed.pointer, panelStride: outputs * panelWidth, from: values.pointer, rowStride: own,
        columns: own, k: outputs)
      return Member(
        update: update, first: rank, rank: own, outputs: outputs, b: b, bTransposed: bTransposed)
    }
    kinds = Set(updates.map(\.update.kind))
    self.rank = rank
    inputs = updates[0].update.a.shape[1]
    let inputs = inputs
    var all = updates[0].update.a.values
    if updates.count > 1 {
      all = AlignedBuffer(count: rank * inputs)
      for member in members {
        (all.pointer + member.first * inputs).update(
          from: member.update.a.values.pointer, count: member.rank * inputs)
      }
    }
    a = AlignedBuffer(count: PreparedGroup.padded(rank) * inputs)
    aTransposed = AlignedBuffer(count: PreparedGroup.padded(inputs) * rank)
    for first in stride(from: 0, to: rank, by: panelWidth) {
      kernels.packPanel(
        a.pointer + first * inputs, from: all.pointer + first * inputs, type: .f32, rowStride: inputs,
        rows: min(panelWidth, rank - first), k: inputs)
    }
    kernels.copyPanels(
      aTransposed.pointer, panelStride: rank * panelWidth, from: all.pointer, rowStride: inputs,
      columns: inputs, k: rank)
  }
}
