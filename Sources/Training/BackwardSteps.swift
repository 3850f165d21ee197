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

  /// gradient += the gradient of the weight of y = RMSNorm(x) · weight, Σ dy · x / √(mean(x²) + epsilon) over the rows.
  package func addNormGradient(
    _ dy: UnsafePointer<Float>, x: UnsafePointer<Float>, rows: Int, to gradient: AlignedBuffer<Float>
  ) {
    let width = configuration.hiddenSize
    let kernels = pool.kernels
    let epsilon = configuration.rmsNormEps
    // Sums of so many rows are added, one after the other, whatever the threads.
    let rowsOfSum = 64
    let blocks = (rows + rowsOfSum - 1) / rowsOfSum
    let ones = AlignedBuffer([Float](repeating: 1, count: width))
    let sums = AlignedBuffer<Float>(zeros: max(1, blocks * width))
    let (dy, x) = (SharedPointer(dy), SharedPointer(x))
    pool.run(blocks) { block in
      Scratch.withFloats(width) { line in
        for row in block * rowsOfSum..<min(rows, (block + 1) * rowsOfSum) {
          kernels.rmsNorm(
            line, x: x + row * width, weight: ones.pointer, count: width, epsilon: epsilon)
          kernels.multiply(line, by: dy + row * width, count: width)
          kernels.add(sums.pointer + block * width, line, count: width)
        }
      }
    }
    for block in 0..<blocks { kernels.add(gradient.pointer, sums.pointer + block * width, count: width) }
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
  ///   - dx: `[rows, inputs of W]`.
  package func project(
    _ dy: UnsafePointer<Float>, rowStride: Int, rows: Int, by weight: WeightMatrix,
    arithmetic: FloatArithmetic, into dx: UnsafeMutablePointer<Float>
  ) {
    LinearAlgebra.multiply(
      dy: dy, rows: rows, dyRowStride: rowStride, byTransposeOf: weight, into: dx,
      dxRowStride: weight.inFeatures, arithmetic: arithmetic, pool: pool)
  }
}
