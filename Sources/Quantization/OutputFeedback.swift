import Compute
import Tensors

/// What rounding one output asks of the outputs after it: for an output Hessian H_O = R·Rᵀ, R upper triangular, an error in output i
/// moves the target of a later output k by F[i, k] = R[i, k] / R[k, k].
///
/// This is GPTQ's own feedback on the other side of the matrix (LDLQ on both sides: YAQA, arXiv 2505.22988). With H_O = 1, F is 0 and the
/// codes are GPTQ's.
struct OutputFeedback: Sendable {
  /// The module's output at each place, from the largest diagonal of H_O down.
  let outputs: [Int]
  /// F, rows ``stride`` apart: whole panels, so that outputs that do not exist have no part in it.
  private let values: AlignedBuffer<Float>
  let stride: Int

  /// Share of the mean of the diagonal that is added to the diagonal: gradients of some thousand tokens leave much of H_O to chance.
  static let damping: Float = 0.1

  /// - Parameter hessian: its upper triangle is read.
  init(_ hessian: OutputHessian.Block, pool: WorkerPool) {
    let n = hessian.order
    let diagonal = (0..<n).map { hessian.values[$0 * n + $0] }
    let order = diagonal.indices.sorted { (diagonal[$1], $0) < (diagonal[$0], $1) }
    outputs = order.map { hessian.outputs.lowerBound + $0 }
    let stride = (n + panelWidth - 1) / panelWidth * panelWidth
    self.stride = stride
    let mean = Float(diagonal.reduce(0.0) { $0 + Double($1) } / Double(max(1, n)))
    let values = AlignedBuffer<Float>(zeros: stride * stride)
    self.values = values
    // Outputs whose gradients are all zero, or not finite, say nothing about each other.
    guard mean.isFinite, mean > 0 else { return }
    var damping = OutputFeedback.damping
    while damping < 100 {
      let h = OutputFeedback.permuted(hessian.values, order: order, adding: damping * mean, pool: pool)
      if let factor = Factorization.cholesky(ofUpperTriangle: h, order: n, pool: pool) {
        pool.runRanges(n) { range in
          for i in range {
            for k in i + 1..<max(n, i + 1) { values[i * stride + k] = factor[i, k] / factor[k, k] }
          }
        }
        return
      }
      damping *= 2
    }
  }

  private static func permuted(
    _ h: AlignedBuffer<Float>, order: [Int], adding damping: Float, pool: WorkerPool
  ) -> AlignedBuffer<Float> {
    let n = order.count
    let result = AlignedBuffer<Float>(count: n * n)
    pool.runRanges(n) { range in
      for i in range {
        for j in i..<n {
          let (a, b) = (min(order[i], order[j]), max(order[i], order[j]))
          result[i * n + j] = h[a * n + b]
        }
        result[i * n + i] += damping
      }
    }
    return result
  }

  func pointer(row: Int, column: Int) -> UnsafePointer<Float> {
    UnsafePointer(values.pointer + row * stride + column)
  }
}

/// H_O = Σ g·gᵀ of the gradients g of the loss with respect to a module's outputs: the whole square, or blocks on its diagonal.
package struct OutputHessian: Sendable {
  package struct Block: Sendable {
    package var outputs: Range<Int>
    /// `[order, order]` row-major; the upper triangle holds the sums.
    package var values: AlignedBuffer<Float>
    package var order: Int { outputs.count }

    package init(outputs: Range<Int>, values: AlignedBuffer<Float>) {
      self.outputs = outputs
      self.values = values
    }
  }
  package var blocks: [Block]

  /// No outputs.
  init() { blocks = [] }

  /// - Parameter blockSize: outputs of a block at most; a multiple of ``panelWidth``.
  package init(outputs: Int, blockSize: Int) {
    blocks = OutputHessian.ranges(outputs: outputs, blockSize: blockSize).map {
      Block(outputs: $0, values: AlignedBuffer(zeros: $0.count * $0.count))
    }
  }

  /// The outputs of each block.
  static func ranges(outputs: Int, blockSize: Int) -> [Range<Int>] {
    let count = (outputs + blockSize - 1) / blockSize
    // Equal blocks of whole panels.
    let size = (outputs + count * panelWidth - 1) / (count * panelWidth) * panelWidth
    return stride(from: 0, to: outputs, by: size).map { $0..<min(outputs, $0 + size) }
  }

  /// Of a matrix that has only these outputs, which are those of whole blocks.
  func outputs(_ range: Range<Int>) -> OutputHessian {
    var result = OutputHessian()
    result.blocks = blocks.filter { range.contains($0.outputs.lowerBound) }.map {
      Block(
        outputs: $0.outputs.lowerBound - range.lowerBound..<$0.outputs.upperBound - range.lowerBound,
        values: $0.values)
    }
    return result
  }

  /// - Parameter gradients: rows `rowStride` floats apart, each with one float for each output.
  package func add(_ gradients: UnsafePointer<Float>, rows: Int, rowStride: Int, pool: WorkerPool) {
    for block in blocks {
      LinearAlgebra.accumulateGram(
        block.values.pointer, order: block.order, x: gradients + block.outputs.lowerBound, rows: rows,
        rowStride: rowStride, pool: pool)
    }
  }
}
