import Compute

/// How products with integer weights are computed.
package enum Int4Arithmetic: String, CaseIterable, Sendable {
  /// Activations stay fp32; every product equals the one with the dequantized weights, bit for bit.
  case exact
  /// Activations are rounded to 8 bits in blocks of inputs, except the outliers of each row, which are
  /// multiplied as they are (the idea of LLM.int8(), arXiv 2208.07339); several times faster, its extra loss is measured,
  /// not hidden.
  case fast
  /// All activations are rounded to 8 bits in blocks of inputs, with scales in half precision, as llama.cpp does: for
  /// comparisons with it.
  case q8 = "q8_0"
}

extension Int8Activations {
  /// Rounds activations into this thread's scratch memory, where they are during `body`.
  /// - Parameters:
  ///   - x: `rows` rows of `inFeatures` (a multiple of 32) floats, `rowStride` apart.
  ///   - groupSize: inputs of one group of the weights they will be multiplied with.
  ///   - keepsOutliers: inputs beyond 8 times the root mean square of their row are not rounded.
  package static func with<Result>(
    _ x: UnsafePointer<Float>, rows: Int, rowStride: Int, inFeatures: Int, groupSize: Int,
    permutation: SharedPointer<UInt32>?, keepsOutliers: Bool = true, pool: WorkerPool = .shared,
    _ body: (Int8Activations) -> Result
  ) -> Result {
    withScratch(
      rows: rows, inFeatures: inFeatures, groupSize: groupSize, keepsOutliers: keepsOutliers,
      kernels: pool.kernels
    ) { activations in
      activations.round(x, rowStride: rowStride, permutation: permutation, pool: pool)
      return body(activations)
    }
  }

  private func round(
    _ x: UnsafePointer<Float>, rowStride: Int, permutation: SharedPointer<UInt32>?, pool: WorkerPool
  ) {
    let source = SharedPointer(x)
    pool.runRanges((rows + tile - 1) / tile) { range in
      let first = range.lowerBound * tile
      let count = min(rows, range.upperBound * tile) - first
      func quantize(_ from: UnsafePointer<Float>, stride: Int) {
        pool.kernels.quantizeRows(into: self, from: from, rowStride: stride, first: first, count: count)
      }
      guard let permutation else { return quantize(source + first * rowStride, stride: rowStride) }
      Scratch.withFloats(count * inFeatures) { ordered in
        for row in 0..<count {
          let from = source + (first + row) * rowStride
          for k in 0..<inFeatures { ordered[row * inFeatures + k] = from[Int(permutation[k])] }
        }
        quantize(ordered, stride: inFeatures)
      }
    }
  }
}

/// One of several matrices that the same activations are multiplied with, and where its outputs go.
package struct Int8Product: Sendable {
  package let matrix: IntPanelMatrix
  package let y: DisjointWrites<Float>
  /// Floats from one row of y to the next.
  package let yRowStride: Int

  package init(_ matrix: IntPanelMatrix, into y: UnsafeMutablePointer<Float>, yRowStride: Int) {
    (self.matrix, self.y, self.yRowStride) = (matrix, DisjointWrites(y), yRowStride)
  }
}

/// A product without what keeps its matrix alive: threads would count references to it, in one cache line, for every range of
/// every product.
private struct BareProduct: Sendable {
  let matrix: IntPanelView
  let outFeatures: Int
  let y: DisjointWrites<Float>
  let yRowStride: Int
  /// Its units of work among those of all products.
  let units: Range<Int>

  init(_ product: Int8Product, unit: Int, firstUnit: Int) {
    matrix = product.matrix.panels
    outFeatures = product.matrix.outFeatures
    (y, yRowStride) = (product.y, product.yRowStride)
    units = firstUnit..<firstUnit + (matrix.panelCount + unit - 1) / unit
  }
}

extension LinearAlgebra {
  /// Up to this many rows, reading the weights takes longer than multiplying with them.
  private static let fewRows = 24

  /// y `[rows, outFeatures]` ≈ x · Wᵀ in `fast` arithmetic, for each of `products`, in one parallel region. The result for
  /// a row does not depend on the other rows, nor on the other products.
  package static func multiply(
    _ x: Int8Activations, _ products: [Int8Product], pool: WorkerPool = .shared
  ) {
    // A unit of work: some neighbouring panels of one matrix. Few outputs in a unit keep the shares even; for a few rows,
    // where memory sets the pace, neighbouring units are joined again, so that a thread reads it in order.
    let panels = products.reduce(0) { $0 + $1.matrix.panelCount }
    let unit = x.rows <= fewRows || panels >= 64 * pool.threadCount ? 4 : 2
    withUnsafeTemporaryAllocation(of: BareProduct.self, capacity: products.count) { bare in
      var units = 0
      for (index, product) in products.enumerated() {
        bare.initializeElement(at: index, to: BareProduct(product, unit: unit, firstUnit: units))
        units = bare[index].units.upperBound
      }
      guard let first = bare.baseAddress, units > 0 else { return }
      withExtendedLifetime(products) {
        multiply(x, SharedPointer(first), count: products.count, unit: unit, units: units, pool: pool)
      }
    }
  }

  private static func multiply(
    _ x: Int8Activations, _ products: SharedPointer<BareProduct>, count: Int, unit: Int, units: Int,
    pool: WorkerPool
  ) {
    @Sendable func forEachPart(of range: Range<Int>, _ body: (BareProduct, _ panels: Range<Int>) -> Void) {
      for index in 0..<count {
        let product = products[index]
        let some = range.clamped(to: product.units)
        guard !some.isEmpty else { continue }
        let first = some.lowerBound - product.units.lowerBound
        body(product, first * unit..<min((first + some.count) * unit, product.matrix.panelCount))
      }
    }
    let kernels = pool.kernels
    if x.rows == 1 {
      pool.runShrinkingRanges(units) { range in
        forEachPart(of: range) { multiplyRow(x, $0, panels: $1, kernels: kernels) }
      }
    } else if x.rows <= fewRows {
      pool.runShrinkingRanges(units) { range in
        forEachPart(of: range) { product, panels in
          for first in stride(from: panels.lowerBound, to: panels.upperBound, by: unit) {
            let some = first..<min(first + unit, panels.upperBound)
            multiplyRows(x, product, panels: some, kernels: kernels)
          }
        }
      }
    } else {
      pool.run(units) { index in
        forEachPart(of: index..<index + 1) { multiplyRows(x, $0, panels: $1, kernels: kernels) }
      }
    }
  }

  private static func multiplyRow(
    _ x: Int8Activations, _ product: BareProduct, panels: Range<Int>, kernels: Kernels
  ) {
    let hasOutliers = x.outlierCount(row: 0) > 0
    func some(_ panels: Range<Int>, _ out: UnsafeMutablePointer<Float>) {
      kernels.gemvInt8(out, x: x, by: product.matrix, panels: panels)
      if hasOutliers {
        kernels.addOutliers(out, yRowStride: panelWidth, x: x, by: product.matrix, panels: panels)
      }
    }
    // Kernels write whole panels: a last panel that the outputs do not fill goes through a buffer.
    let whole = min(panels.upperBound, product.outFeatures / panelWidth)
    // With outliers a few panels at a time, so that their codes are still in a cache.
    let step = hasOutliers ? 8 : max(1, panels.count)
    for first in stride(from: panels.lowerBound, to: whole, by: step) {
      some(first..<min(first + step, whole), product.y + first * panelWidth)
    }
    if panels.upperBound > whole {
      Scratch.withFloats(panelWidth) { last in
        some(whole..<whole + 1, last)
        (product.y + whole * panelWidth).update(from: last, count: product.outFeatures - whole * panelWidth)
      }
    }
  }

  private static func multiplyRows(
    _ x: Int8Activations, _ product: BareProduct, panels: Range<Int>, kernels: Kernels
  ) {
    let scratchFloats = Kernels.int8ScratchByteCount(rows: x.rows, panels: panels.count) / 4
    Scratch.withFloats(scratchFloats) { memory in
      let scratch = UnsafeMutableRawPointer(memory).assumingMemoryBound(to: UInt8.self)
      func some(_ panels: Range<Int>, _ y: UnsafeMutablePointer<Float>, rowStride: Int) {
        kernels.gemmInt8(y, yRowStride: rowStride, x: x, by: product.matrix, panels: panels, scratch: scratch)
        kernels.addOutliers(y, yRowStride: rowStride, x: x, by: product.matrix, panels: panels)
      }
      // Kernels write whole panels: a last panel that the outputs do not fill goes through a buffer.
      let whole = min(panels.upperBound, product.outFeatures / panelWidth)
      let first = panels.lowerBound
      if whole > first {
        some(first..<whole, product.y + first * panelWidth, rowStride: product.yRowStride)
      }
      if panels.upperBound > whole {
        let columns = product.outFeatures - whole * panelWidth
        Scratch.withFloats(x.rows * panelWidth) { last in
          some(whole..<whole + 1, last, rowStride: panelWidth)
          for row in 0..<x.rows {
            (product.y + row * product.yRowStride + whole * panelWidth).update(
              from: last + row * panelWidth, count: columns)
          }
        }
      }
    }
  }
}
