import CKernels

/// How products with integer weights are computed.
package enum Int4Arithmetic: String, CaseIterable, Sendable {
  /// Activations stay fp32; every product equals the one with the dequantized weights, bit for bit.
  case exact
  /// Activations are rounded to 8 bits in blocks of inputs; several times faster, its extra loss is measured, not hidden.
  case fast
}

/// Activations as signed bytes, a scale for each block of inputs: `x ≈ scale · q`, `scale = max|x| / 127`.
package struct Int8Activations: @unchecked Sendable {
  let packed: AlignedBuffer<Int8>
  let scales: AlignedBuffer<Float>
  let sums: AlignedBuffer<Float>
  package let rows: Int
  package let inFeatures: Int
  let block: Int
  let tile: Int

  /// Inputs of one block for weights in groups of `groupSize`: the group itself up to 128, else its largest divisor
  /// among 128, 64 and 32, so that one large activation spoils no more than a block.
  package static func block(forGroupSize groupSize: Int) -> Int {
    if groupSize <= 32 { return groupSize }
    return 32
  }

  /// - Parameters:
  ///   - x: `rows` rows of `inFeatures` (a multiple of 32) floats, `rowStride` apart.
  package init(
    _ x: UnsafePointer<Float>, rows: Int, rowStride: Int, inFeatures: Int, block: Int,
    permutation: UnsafePointer<UInt32>?, pool: WorkerPool = .shared, kernels: Kernels = .best
  ) {
    self.rows = rows
    self.inFeatures = inFeatures
    self.block = block
    let table = kernels.table
    let tile = rows == 1 ? 1 : Int(table.pointee.int8_rows)
    self.tile = tile
    let tiles = (rows + tile - 1) / tile
    let blocks = (inFeatures + block - 1) / block
    let packed = AlignedBuffer<Int8>(count: tiles * tile * inFeatures)
    let scales = AlignedBuffer<Float>(count: tiles * tile * blocks)
    let sums = AlignedBuffer<Float>(count: tiles * tile * blocks)
    (self.packed, self.scales, self.sums) = (packed, scales, sums)
    let source = Shared(x)
    pool.runRanges(tiles) { range in
      let first = range.lowerBound * tile
      let count = min(rows, range.upperBound * tile) - first
      func quantize(_ from: UnsafePointer<Float>, stride: Int) {
        table.pointee.quantize_rows(
          packed.pointer + first * inFeatures, scales.pointer + first * blocks, sums.pointer + first * blocks,
          from,
          Int64(stride), Int64(count), Int64(inFeatures), Int64(block), Int64(tile))
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

extension LinearAlgebra {
  /// y `[rows, outFeatures]` ≈ x · Wᵀ in `fast` arithmetic. The result for a row does not depend on the other rows.
  package static func multiply(
    _ x: Int8Activations, by matrix: IntPanelMatrix, into y: UnsafeMutablePointer<Float>, yRowStride: Int,
    pool: WorkerPool = .shared, kernels: Kernels = .best
  ) {
    precondition(x.inFeatures == matrix.inFeatures)
    let table = kernels.table
    let groups = matrix.groupCount
    if x.rows == 1 {
      eachPanelRange(of: matrix.outFeatures, into: y, pool: pool) { first, count, out in
        table.pointee.gemv_int8(
          x.packed.pointer, x.scales.pointer, x.sums.pointer, Int64(x.block),
          matrix.codes + first * matrix.panelCodeByteCount, Int32(matrix.bits),
          matrix.scales + first * groups * panelWidth, matrix.zeros.map { $0 + first * groups * panelWidth },
          Int64(matrix.groupSize), Int64(groups), Int64(matrix.panelCodeByteCount), Int64(count),
          Int64(matrix.inFeatures), out)
      }
      return
    }
    let y = SharedMutable(y)
    let padded = (x.rows + x.tile - 1) / x.tile * x.tile
    let pairs = (matrix.panelCount + 1) / 2
    let scratchFloats = (x.block * 32 + 3) / 4
    pool.run(pairs) { pair in
      let first = pair * 2
      let count = min(2, matrix.panelCount - first)
      Scratch.withFloats(count * padded * panelWidth + scratchFloats + 16) { memory in
        let sums = memory
        let scratch = UnsafeMutableRawPointer(memory + count * padded * panelWidth)
          .assumingMemoryBound(to: UInt8.self)
        table.pointee.gemm_int8(
          Int64(x.rows), x.packed.pointer, x.scales.pointer, x.sums.pointer, Int64(x.block),
          matrix.codes + first * matrix.panelCodeByteCount, Int32(matrix.bits),
          matrix.scales + first * groups * panelWidth, matrix.zeros.map { $0 + first * groups * panelWidth },
          Int64(matrix.groupSize), Int64(groups), Int64(matrix.panelCodeByteCount), Int64(count),
          Int64(matrix.inFeatures), sums, scratch)
        for panel in 0..<count {
          let column = (first + panel) * panelWidth
          let width = min(panelWidth, matrix.outFeatures - column)
          for row in 0..<x.rows {
            (y.pointer + row * yRowStride + column).update(
              from: sums + (panel * padded + row) * panelWidth, count: width)
          }
        }
      }
    }
  }
}
