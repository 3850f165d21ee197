import CKernels
import Compute

/// How products with integer weights are computed.
package enum Int4Arithmetic: String, CaseIterable, Sendable {
  /// Activations stay fp32; every product equals the one with the dequantized weights, bit for bit.
  case exact
  /// Activations are rounded to 8 bits in blocks of inputs, save the few that stand out of their row, which are
  /// multiplied as they are (the idea of LLM.int8(), arXiv 2208.07339); several times faster, its extra loss is measured,
  /// not hidden.
  case fast
  /// All activations are rounded to 8 bits in blocks of inputs, with scales in half precision, as llama.cpp does: for
  /// comparisons with it.
  case q8 = "q8_0"
}

/// Activations as signed bytes, a scale for each block of 64 inputs (32 where groups or rows are no multiple of 64, and where
/// all inputs are rounded): `x ≈ scale · q`, `scale = max|x| / 127`, and those that were kept out.
package struct Int8Activations: @unchecked Sendable {
  let packed: UnsafeMutablePointer<Int8>
  let scales: UnsafeMutablePointer<Float>
  let sums: UnsafeMutablePointer<Float>
  /// Of row i from `i * zn_outlier_most(inFeatures)` on; nil: all inputs are rounded.
  let outliers: UnsafeMutablePointer<zn_outlier>?
  let outlierCounts: UnsafeMutablePointer<Int32>
  package let rows: Int
  package let inFeatures: Int
  let groupSize: Int
  /// Inputs that share a scale.
  let block: Int
  let tile: Int

  /// Rounds activations into this thread's scratch memory, where they are during `body`: memory of their own would be cleared by
  /// the kernel for each product anew.
  /// - Parameters:
  ///   - x: `rows` rows of `inFeatures` (a multiple of 32) floats, `rowStride` apart.
  ///   - groupSize: inputs of one group of the weights they will be multiplied with.
  ///   - keepsOutliers: inputs beyond 8 times the root mean square of their row are not rounded.
  package static func with<Result>(
    _ x: UnsafePointer<Float>, rows: Int, rowStride: Int, inFeatures: Int, groupSize: Int,
    permutation: UnsafePointer<UInt32>?, keepsOutliers: Bool = true, pool: WorkerPool = .shared,
    kernels: Kernels = .best, _ body: (Int8Activations) -> Result
  ) -> Result {
    let table = kernels.table
    let tile = rows == 1 ? 1 : Int(table.pointee.int8_rows)
    let tiles = (rows + tile - 1) / tile
    // Without outliers it is llama.cpp's Q8_0, whose blocks are 32 inputs.
    let longest = Int(ZN_INT8_BLOCK_MOST)
    let isWhole = inFeatures % longest == 0 && groupSize % longest == 0
    let block = keepsOutliers && isWhole ? longest : Int(ZN_INT8_PART)
    let blocks = inFeatures / block
    let spans = Int(zn_int8_spans(Int64(inFeatures), Int64(groupSize)))
    let outliers = 2 * Int(zn_outlier_most(Int64(inFeatures)))
    var starts = [0]
    for floats in [inFeatures / 4, blocks, 2 * spans, outliers, 1] {
      starts.append(starts[starts.count - 1] + (tiles * tile * floats + 15) / 16 * 16)
    }
    return Scratch.withFloats(starts[5]) { memory in
      let activations = Int8Activations(
        packed: UnsafeMutableRawPointer(memory).assumingMemoryBound(to: Int8.self),
        scales: memory + starts[1], sums: memory + starts[2],
        outliers: keepsOutliers
          ? UnsafeMutableRawPointer(memory + starts[3]).assumingMemoryBound(to: zn_outlier.self) : nil,
        outlierCounts: UnsafeMutableRawPointer(memory + starts[4]).assumingMemoryBound(to: Int32.self),
        rows: rows, inFeatures: inFeatures, groupSize: groupSize, block: block, tile: tile)
      activations.round(x, rowStride: rowStride, permutation: permutation, pool: pool, table: table)
      return body(activations)
    }
  }

  private func round(
    _ x: UnsafePointer<Float>, rowStride: Int, permutation: UnsafePointer<UInt32>?, pool: WorkerPool,
    table: UnsafePointer<zn_kernels>
  ) {
    let source = Shared(x)
    pool.runRanges((rows + tile - 1) / tile) { range in
      let first = range.lowerBound * tile
      let count = min(rows, range.upperBound * tile) - first
      func quantize(_ from: UnsafePointer<Float>, stride: Int) {
        table.pointee.quantize_rows(
          packed, scales, sums, from, Int64(stride), Int64(first), Int64(count), Int64(rows),
          Int64(inFeatures), Int64(groupSize), Int64(block), Int64(tile), outliers, outlierCounts)
      }
      guard let permutation else { return quantize(source.pointer + first * rowStride, stride: rowStride) }
      Scratch.withFloats(count * inFeatures) { ordered in
        for row in 0..<count {
          let from = source.pointer + (first + row) * rowStride
          for k in 0..<inFeatures { ordered[row * inFeatures + k] = from[Int(permutation[k])] }
        }
        quantize(ordered, stride: inFeatures)
      }
    }
  }
}

/// One of several matrices that the same activations are multiplied with, and where its outputs go.
package struct Int8Product: @unchecked Sendable {
  package let matrix: IntPanelMatrix
  package let y: UnsafeMutablePointer<Float>
  /// Floats from one row of y to the next.
  package let yRowStride: Int

  package init(_ matrix: IntPanelMatrix, into y: UnsafeMutablePointer<Float>, yRowStride: Int) {
    (self.matrix, self.y, self.yRowStride) = (matrix, y, yRowStride)
  }
}

/// A product's pointers without what keeps them alive: threads would count references to it, in one cache line, for every
/// range of every product.
private struct BareProduct: @unchecked Sendable {
  let codes: UnsafePointer<UInt8>
  let scales: UnsafePointer<UInt16>
  let zeros: UnsafePointer<UInt8>?
  let bits, groupSize, groupCount, panelCount, panelCodeByteCount, outFeatures, inFeatures: Int
  let y: UnsafeMutablePointer<Float>
  let yRowStride: Int
  /// Its units of work among those of all products.
  let units: Range<Int>

  init(_ product: Int8Product, unit: Int, firstUnit: Int) {
    let matrix = product.matrix
    units = firstUnit..<firstUnit + (matrix.panelCount + unit - 1) / unit
    (codes, scales, zeros) = (matrix.codes, matrix.scales, matrix.zeros)
    (bits, groupSize, groupCount) = (matrix.bits, matrix.groupSize, matrix.groupCount)
    (panelCount, panelCodeByteCount) = (matrix.panelCount, matrix.panelCodeByteCount)
    (outFeatures, inFeatures) = (matrix.outFeatures, matrix.inFeatures)
    (y, yRowStride) = (product.y, product.yRowStride)
  }
}

extension LinearAlgebra {
  /// Up to so many rows, reading the weights takes longer than multiplying with them.
  private static let fewRows = 24

  /// y `[rows, outFeatures]` ≈ x · Wᵀ in `fast` arithmetic, for each of `products`, in one parallel region. The result for
  /// a row does not depend on the other rows, nor on the other products.
  package static func multiply(
    _ x: Int8Activations, _ products: [Int8Product], pool: WorkerPool = .shared, kernels: Kernels = .best
  ) {
    // A unit of work: some neighbouring panels of one matrix. Few outputs in a unit keep the shares even; for a few rows,
    // where memory sets the pace, neighbouring units are joined again, so that a thread reads it in order.
    let panels = products.reduce(0) { $0 + $1.matrix.panelCount }
    let unit = x.rows <= fewRows || panels >= 64 * pool.threadCount ? 4 : 2
    withUnsafeTemporaryAllocation(of: BareProduct.self, capacity: products.count) { bare in
      var units = 0
      for (index, product) in products.enumerated() {
        precondition(x.inFeatures == product.matrix.inFeatures && x.groupSize == product.matrix.groupSize)
        bare.initializeElement(at: index, to: BareProduct(product, unit: unit, firstUnit: units))
        units = bare[index].units.upperBound
      }
      withExtendedLifetime(products) {
        multiply(x, UnsafeBufferPointer(bare), unit: unit, units: units, pool: pool, kernels: kernels)
      }
    }
  }

  private static func multiply(
    _ x: Int8Activations, _ products: UnsafeBufferPointer<BareProduct>, unit: Int, units: Int,
    pool: WorkerPool,
    kernels: Kernels
  ) {
    func forEachPart(of range: Range<Int>, _ body: (BareProduct, _ panels: Range<Int>) -> Void) {
      for product in products {
        let some = range.clamped(to: product.units)
        guard !some.isEmpty else { continue }
        let first = some.lowerBound - product.units.lowerBound
        body(product, first * unit..<min((first + some.count) * unit, product.panelCount))
      }
    }
    if x.rows == 1 {
      pool.runShrinkingRanges(units) { range in
        forEachPart(of: range) { multiplyRow(x, $0, panels: $1, table: kernels.table) }
      }
    } else if x.rows <= fewRows {
      pool.runShrinkingRanges(units) { range in
        forEachPart(of: range) { product, panels in
          for first in stride(from: panels.lowerBound, to: panels.upperBound, by: unit) {
            let some = first..<min(first + unit, panels.upperBound)
            multiplyRows(x, product, panels: some, table: kernels.table)
          }
        }
      }
    } else {
      pool.run(units) { index in
        forEachPart(of: index..<index + 1) { multiplyRows(x, $0, panels: $1, table: kernels.table) }
      }
    }
  }

  /// Adds what rows of x keep out of their rounding to panels of y.
  private static func addOutliers(
    _ x: Int8Activations, _ matrix: BareProduct, panels: Range<Int>, into y: UnsafeMutablePointer<Float>,
    yRowStride: Int, table: UnsafePointer<zn_kernels>
  ) {
    guard let outliers = x.outliers else { return }
    let (first, groups) = (panels.lowerBound, matrix.groupCount)
    table.pointee.add_outliers(
      Int64(x.rows), y, Int64(yRowStride), outliers, x.outlierCounts,
      matrix.codes + first * matrix.panelCodeByteCount, Int32(matrix.bits),
      matrix.scales + first * groups * panelWidth, matrix.zeros.map { $0 + first * groups * panelWidth },
      Int64(matrix.groupSize), Int64(groups), Int64(matrix.panelCodeByteCount), Int64(panels.count),
      Int64(matrix.inFeatures))
  }

  private static func multiplyRow(
    _ x: Int8Activations, _ product: BareProduct, panels: Range<Int>, table: UnsafePointer<zn_kernels>
  ) {
    let matrix = product
    let groups = matrix.groupCount
    func some(_ first: Int, _ count: Int, _ out: UnsafeMutablePointer<Float>) {
      table.pointee.gemv_int8(
        x.packed, x.scales, x.sums, Int64(x.block),
        matrix.codes + first * matrix.panelCodeByteCount, Int32(matrix.bits),
        matrix.scales + first * groups * panelWidth, matrix.zeros.map { $0 + first * groups * panelWidth },
        Int64(matrix.groupSize), Int64(groups), Int64(matrix.panelCodeByteCount), Int64(count),
        Int64(matrix.inFeatures), out)
      if x.outlierCounts[0] > 0 {
        addOutliers(
          x, matrix, panels: first..<first + count, into: out, yRowStride: panelWidth, table: table)
      }
    }
    // Kernels write whole panels: a last panel that the outputs do not fill goes through a buffer.
    let whole = min(panels.upperBound, matrix.outFeatures / panelWidth)
    // With outliers a few panels at a time, so that their codes are still in a cache.
    let step = x.outlierCounts[0] > 0 ? 8 : max(1, panels.count)
    for first in stride(from: panels.lowerBound, to: whole, by: step) {
      some(first, min(step, whole - first), product.y + first * panelWidth)
    }
    if panels.upperBound > whole {
      Scratch.withFloats(panelWidth) { last in
        some(whole, 1, last)
        (product.y + whole * panelWidth).update(from: last, count: matrix.outFeatures - whole * panelWidth)
      }
    }
  }

  private static func multiplyRows(
    _ x: Int8Activations, _ product: BareProduct, panels: Range<Int>, table: UnsafePointer<zn_kernels>
  ) {
    let matrix = product
    let groups = matrix.groupCount
    let scratchFloats = Int(zn_int8_scratch(Int64(x.rows), Int64(panels.count))) / 4
    Scratch.withFloats(scratchFloats) { memory in
      let scratch = UnsafeMutableRawPointer(memory).assumingMemoryBound(to: UInt8.self)
      func some(_ first: Int, _ count: Int, _ y: UnsafeMutablePointer<Float>, rowStride: Int) {
        table.pointee.gemm_int8(
          Int64(x.rows), x.packed, x.scales, x.sums, Int64(x.block),
          matrix.codes + first * matrix.panelCodeByteCount, Int32(matrix.bits),
          matrix.scales + first * groups * panelWidth,
          matrix.zeros.map { $0 + first * groups * panelWidth },
          Int64(matrix.groupSize), Int64(groups), Int64(matrix.panelCodeByteCount), Int64(count),
          Int64(matrix.inFeatures), y, Int64(rowStride), scratch)
        addOutliers(x, matrix, panels: first..<first + count, into: y, yRowStride: rowStride, table: table)
      }
      // Kernels write whole panels: a last panel that the outputs do not fill goes through a buffer.
      let whole = min(panels.upperBound, matrix.outFeatures / panelWidth)
      let first = panels.lowerBound
      if whole > first {
        some(first, whole - first, product.y + first * panelWidth, rowStride: product.yRowStride)
      }
      if panels.upperBound > whole {
        let columns = matrix.outFeatures - whole * panelWidth
        Scratch.withFloats(x.rows * panelWidth) { last in
          some(whole, 1, last, rowStride: panelWidth)
          for row in 0..<x.rows {
            (product.y + row * product.yRowStride + whole * panelWidth).update(
              from: last + row * panelWidth, count: columns)
          }
        }
      }
    }
  }
}
