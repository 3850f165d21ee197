import Numerics

/// y = x · Wᵀ + b. The weight is floats or integer codes; what it is stored as does not concern the caller.
package struct Linear: Sendable {
  package var weight: WeightMatrix
  /// `[outFeatures]`
  package var bias: AlignedBuffer<Float>?
  /// How products with integer weights are computed; without effect on floats.
  package var arithmetic: Int4Arithmetic

  package init(weight: WeightMatrix, bias: AlignedBuffer<Float>? = nil, arithmetic: Int4Arithmetic = .exact) {
    self.arithmetic = arithmetic
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
    if arithmetic == .fast, case .intPanels(let matrix) = weight {
      let activations = Int8Activations(
        x, rows: rows, rowStride: inFeatures, inFeatures: inFeatures,
        block: Int8Activations.block(forGroupSize: matrix.groupSize), permutation: matrix.permutation,
        pool: pool)
      LinearAlgebra.multiply(activations, by: matrix, into: y, yRowStride: yRowStride, pool: pool)
    } else {
      LinearAlgebra.multiply(
        x: x, rows: rows, xRowStride: inFeatures, by: weight, into: y, yRowStride: yRowStride, pool: pool)
    }
    guard let bias else { return }
    let table = Kernels.best.table
    pool.runRanges(rows, grain: 8) { range in
      for row in range { table.pointee.add(y + row * yRowStride, bias.pointer, Int64(outFeatures)) }
    }
  }
}
