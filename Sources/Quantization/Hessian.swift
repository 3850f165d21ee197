import Compute
import Tensors

/// H = (2 / n) · XᵀX of the inputs a module sees, n being the number of sequences, as AutoGPTQ scales it.
package final class Hessian {
  package let order: Int
  /// `[order, order]` row-major; the upper triangle holds the sums until ``finish(sequences:)``.
  package let values: AlignedBuffer<Float>
  package private(set) var rows = 0

  package init(order: Int) {
    self.order = order
    values = AlignedBuffer(zeros: order * order)
  }

  package func add(_ x: UnsafePointer<Float>, rows count: Int, pool: WorkerPool) {
    LinearAlgebra.accumulateGram(
      values.pointer, order: order, x: x, rows: count, rowStride: order, pool: pool)
    rows += count
  }

  /// Scales the sums and fills the lower triangle in.
  package func finish(sequences: Int, pool: WorkerPool) {
    let factor = 2 / Float(sequences)
    let h = values
    let n = order
    pool.runRanges(n) { range in
      for row in range {
        pool.kernels.scale(h.pointer + row * n + row, by: factor, count: n - row)
      }
    }
    LinearAlgebra.mirrorUpperTriangle(values.pointer, order: order, pool: pool)
  }

  package var diagonal: [Float] { (0..<order).map { values[$0 * order + $0] } }
}
