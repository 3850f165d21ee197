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
  /// What adapters add: y = x · Wᵀ + b + update(x).
  package var update: LowRankUpdate? {
    didSet {
      precondition(
        update.map { $0.inFeatures == inFeatures && $0.outFeatures == outFeatures } ?? true,
        "the update is of another shape")
    }
  }

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

  /// A projection and where its outputs go.
  package typealias Projection = (linear: Linear, y: UnsafeMutablePointer<Float>, yRowStride: Int)

  /// Several projections of the same `rows` contiguous inputs; with bytes they share the rounding of the inputs
  /// and one parallel region.
  /// - Parameter addsBias: false leaves biases to a later step.
  package static func apply(
    _ projections: [Projection], to x: UnsafePointer<Float>, rows: Int, addsBias: Bool = true,
    pool: WorkerPool = .shared
  ) {
    multiply(x, rows: rows, by: projections, pool: pool)
    addUpdates(projections, to: x, rows: rows, pool: pool)
    if addsBias { addBiases(projections, rows: rows, pool: pool) }
  }

  /// Several projections of contiguous inputs of which parts have weights of their own, as when sequences with different adapters
  /// run together. Successive parts that have the same matrices are multiplied together.
  /// - Parameter parts: successive ranges of rows, each with its projections; `y` is where row 0 goes.
  static func apply(
    _ parts: [(rows: Range<Int>, projections: [Projection])], to x: UnsafePointer<Float>, pool: WorkerPool
  ) {
    func shifted(_ part: (rows: Range<Int>, projections: [Projection])) -> [Projection] {
      part.projections.map { ($0.linear, $0.y + part.rows.lowerBound * $0.yRowStride, $0.yRowStride) }
    }
    func haveSameMatrices(_ a: [Projection], _ b: [Projection]) -> Bool {
      zip(a, b).allSatisfy { $0.linear.weight.sharesMemory(with: $1.linear.weight) }
    }
    func input(_ rows: Range<Int>, _ projections: [Projection]) -> UnsafePointer<Float> {
      x + rows.lowerBound * (projections.first?.linear.inFeatures ?? 0)
    }
    var first = 0
    while first < parts.count {
      var end = first + 1
      while end < parts.count, haveSameMatrices(parts[first].projections, parts[end].projections) { end += 1 }
      let rows = parts[first].rows.lowerBound..<parts[end - 1].rows.upperBound
      multiply(
        input(rows, parts[first].projections), rows: rows.count, by: shifted(parts[first]), pool: pool)
      first = end
    }
    for part in parts {
      let projections = shifted(part)
      addUpdates(
        projections, to: input(part.rows, projections), rows: part.rows.count, pool: pool)
      addBiases(projections, rows: part.rows.count, pool: pool)
    }
  }

  private static func multiply(
    _ x: UnsafePointer<Float>, rows: Int, by projections: [Projection], pool: WorkerPool
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
  }

  private static func addUpdates(
    _ projections: [Projection], to x: UnsafePointer<Float>, rows: Int, pool: WorkerPool
  ) {
    for (linear, y, yRowStride) in projections {
      linear.update?.add(x, rows: rows, to: y, yRowStride: yRowStride, pool: pool)
    }
  }

  private static func addBiases(_ projections: [Projection], rows: Int, pool: WorkerPool) {
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
