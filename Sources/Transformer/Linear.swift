import Numerics

/// y = x · Wᵀ + b. The weight is floats or integer codes; what it is stored as does not concern the caller.
package struct Linear: Sendable {
  package var weight: WeightMatrix
  /// `[outFeatures]`
  package var bias: AlignedBuffer<Float>?

  package init(weight: WeightMatrix, bias: AlignedBuffer<Float>? = nil) {
    precondition(bias == nil || bias!.count == weight.outFeatures)
    self.weight = weight
    self.bias = bias
  }

  package var inFeatures: Int { weight.inFeatures }
  package var outFeatures: Int { weight.outFeatures }

  /// Writes `rows` outputs, `yRowStride` floats apart, from as many contiguous inputs.
  package func apply(
    _ x: UnsafePointer<Float>, rows: Int, into y: UnsafeMutablePointer<Float>, yRowStride: Int,
    pool: WorkerPool = .shared
  ) {
    LinearAlgebra.multiply(
      x: x, rows: rows, xRowStride: inFeatures, by: weight, into: y, yRowStride: yRowStride, pool: pool)
    guard let bias else { return }
    let table = Kernels.best.table
    pool.runRanges(rows, grain: 8) { range in
      for row in range { table.pointee.add(y + row * yRowStride, bias.pointer, Int64(outFeatures)) }
    }
  }
}
