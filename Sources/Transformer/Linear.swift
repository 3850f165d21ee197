import Compute
import Tensors

/// y = x · Wᵀ + b. The weight is floats or integer codes; what it is stored as does not concern the caller.
package struct Linear: Sendable {
  package var weight: WeightMatrix
  /// `[outFeatures]`
  package var bias: AlignedBuffer<Float>?
  /// How products with integer weights are computed; without effect on floats.
  package var arithmetic: Int4Arithmetic
  /// How products with floats, and with integer weights in `exact` arithmetic, are computed.
  package var floatArithmetic = FloatArithmetic.fp32

  package init(weight: WeightMatrix, bias: AlignedBuffer<Float>? = nil, arithmetic: Int4Arithmetic = .exact) {
    self.arithmetic = arithmetic
    precondition(bias == nil || bias!.count == weight.outFeatures)
    self.weight = weight
    self.bias = bias
  }

  package var inFeatures: Int { weight.inFeatures }
  package var outFeatures: Int { weight.outFeatures }

  /// Lets threads that wait read `first` ahead, which will be applied to a row or a few, together with others: `outputs` in
  /// all.
  package static func announce(_ first: Linear, outputs: Int, pool: WorkerPool) {
    guard case .intPanels(let matrix) = first.weight else { return }
    pool.announce(matrix.codes, bytes: outputs / panelWidth * matrix.panelCodeByteCount)
  }

  /// Writes `rows` outputs, `yRowStride` floats apart, from as many contiguous inputs.
  package func apply(
    _ x: UnsafePointer<Float>, rows: Int, into y: UnsafeMutablePointer<Float>, yRowStride: Int,
    pool: WorkerPool = .shared
  ) {
    Linear.apply([(self, y, yRowStride)], to: x, rows: rows, pool: pool)
  }

  /// Several projections of the same `rows` contiguous inputs; with bytes they share the rounding of the inputs
  /// and one parallel region.
  /// - Parameter addsBias: false leaves biases to a later step.
  package static func apply(
    _ projections: [(linear: Linear, y: UnsafeMutablePointer<Float>, yRowStride: Int)],
    to x: UnsafePointer<Float>, rows: Int, addsBias: Bool = true, pool: WorkerPool = .shared
  ) {
    var products: [Int8Product] = []
    func finish() {
      guard let first = products.first?.matrix else { return }
      Int8Activations.with(
        x, rows: rows, rowStride: first.inFeatures, inFeatures: first.inFeatures, groupSize: first.groupSize,
        permutation: first.permutation, keepsOutliers: projections[0].linear.arithmetic != .q8, pool: pool
      ) { LinearAlgebra.multiply($0, products, pool: pool) }
      products.removeAll(keepingCapacity: true)
    }
    for (linear, y, yRowStride) in projections {
      if linear.arithmetic != .exact, case .intPanels(let matrix) = linear.weight {
        if let first = products.first?.matrix,
          first.groupSize != matrix.groupSize || first.permutation != matrix.permutation
        {
          finish()
        }
        products.append(Int8Product(matrix, into: y, yRowStride: yRowStride))
      } else {
        LinearAlgebra.multiply(
          x: x, rows: rows, xRowStride: linear.inFeatures, by: linear.weight, into: y, yRowStride: yRowStride,
          arithmetic: linear.floatArithmetic, pool: pool)
      }
    }
    finish()
    guard addsBias else { return }
    let kernels = pool.kernels
    for (linear, y, yRowStride) in projections {
      guard let bias = linear.bias else { continue }
      let y = DisjointWrites(y)
      pool.runRanges(rows, grain: 8) { range in
        for row in range { kernels.add(y + row * yRowStride, bias.pointer, count: linear.outFeatures) }
      }
    }
  }
}
