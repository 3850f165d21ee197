import Compute
import Tensors

/// H = (2 / n) · XᵀX of the inputs a module sees, n being the number of sequences, as AutoGPTQ scales it. With weights of tokens
/// it is (2 / n) · XᵀWX, W's mean being 1.
package final class Hessian {
  package let order: Int
  /// `[order, order]` row-major; the upper triangle holds the sums until ``finish(sequences:)``.
  package let values: AlignedBuffer<Float>
  package private(set) var rows = 0
  /// Of the weights of all rows.
  private var weightSum = 0.0

  package init(order: Int) {
    self.order = order
    values = AlignedBuffer(zeros: order * order)
  }

  /// - Parameter weights: of each row, not negative; nil: all are 1. Only their ratios count.
  package func add(
    _ x: UnsafePointer<Float>, rows count: Int, weights: [Float]? = nil, pool: WorkerPool
  ) {
    precondition(weights?.count ?? count == count, "a weight for each row")
    LinearAlgebra.accumulateGram(
      values.pointer, order: order, x: x, rows: count, rowStride: order, weights: weights, pool: pool)
    rows += count
    weightSum += weights?.reduce(0.0) { $0 + Double($1) } ?? Double(count)
  }

  /// What brings sums of products to the units of H.
  package func factor(sequences: Int) -> Float {
    let mean = weightSum > 0 ? weightSum / Double(rows) : 1
    return Float(2 / (Double(sequences) * mean))
  }

  /// Scales the sums and fills the lower triangle in.
  package func finish(sequences: Int, pool: WorkerPool) {
    let factor = factor(sequences: sequences)
    let h = values
    let n = order
    pool.runRanges(n) { range in
      for row in range {
        pool.kernels.scale(h.pointer + row * n + row, by: factor, count: n - row)
      }
    }
    LinearAlgebra.mirrorUpperTriangle(values.pointer, order: order, pool: pool)
  }

  // MARK: Shards

  /// What was added, apart from the sums of products.
  struct Counts {
    var rows = 0
    var weightSum = 0.0
  }

  /// Starts a new sum.
  /// - Returns: what the last one was of.
  func startNextShard(pool: WorkerPool) -> Counts {
    let counts = Counts(rows: rows, weightSum: weightSum)
    (rows, weightSum) = (0, 0)
    values.clear(pool: pool)
    return counts
  }

  /// Says what the sums are of that ``values`` has now.
  func setCounts(_ counts: Counts) { (rows, weightSum) = (counts.rows, counts.weightSum) }

  package var diagonal: [Float] { (0..<order).map { values[$0 * order + $0] } }
}

extension AlignedBuffer<Float> {
  /// Makes every element 0.
  func clear(pool: WorkerPool) {
    pool.runRanges(count, grain: 1 << 16) {
      (pointer + $0.lowerBound).update(repeating: 0, count: $0.count)
    }
  }
}
