import Architecture
import Compute
import Tensors
import Transformer

/// The steps of ``BlockStep`` backwards, for the gradients of activations. Weights are frozen. Buffers are row-major, one row a token;
/// dx stands for the gradient of the loss with respect to x.
package struct BackwardSteps: Sendable {
  package let forward: LayerSteps
  package var configuration: DecoderConfiguration { forward.configuration }
  package var pool: WorkerPool { forward.pool }

  package init(_ forward: LayerSteps) { self.forward = forward }

  /// dx += the gradient through y = RMSNorm(x) · weight; `rows` rows of `hiddenSize`.
  package func normalize(
    _ dy: UnsafePointer<Float>, x: UnsafePointer<Float>, weight: AlignedBuffer<Float>, rows: Int,
    addingTo dx: UnsafeMutablePointer<Float>
  ) {
    let width = configuration.hiddenSize
    let kernels = pool.kernels
    let epsilon = configuration.rmsNormEps
    let (dy, x, dx) = (SharedPointer(dy), SharedPointer(x), DisjointWrites(dx))
    pool.runRanges(rows, grain: 4) { range in
      for row in range {
        kernels.addRMSNormGradient(
          to: dx + row * width, gradient: dy + row * width, x: x + row * width, weight: weight.pointer,
          count: width, epsilon: epsilon)
      }
    }
  }

  /// The gradients through y = silu(gate) · up take the places of gate and up; `rows` rows of `intermediateSize`.
  package func activate(
    _ dy: UnsafePointer<Float>, gate: UnsafeMutablePointer<Float>, up: UnsafeMutablePointer<Float>, rows: Int
  ) {
    let width = configuration.intermediateSize
    let kernels = pool.kernels
    let (dy, gate, up) = (SharedPointer(dy), DisjointWrites(gate), DisjointWrites(up))
    pool.runRanges(rows) { range in
      let offset = range.lowerBound * width
      kernels.siluMultiplyGradient(
        gate: gate + offset, up: up + offset, gradient: dy + offset, count: range.count * width)
    }
  }

  /// dx = dy · W through y = x · Wᵀ.
  /// - Parameters:
  ///   - dy: rows `rowStride` floats apart.
  ///   - transposed: Wᵀ.
  ///   - dx: `[rows, inputs of W]`.
  package func project(
    _ dy: UnsafePointer<Float>, rowStride: Int, rows: Int, by transposed: WeightMatrix,
    arithmetic: FloatArithmetic, into dx: UnsafeMutablePointer<Float>
  ) {
    LinearAlgebra.multiply(
      x: dy, rows: rows, xRowStride: rowStride, by: transposed, into: dx, yRowStride: transposed.outFeatures,
      arithmetic: arithmetic, pool: pool)
  }
}
