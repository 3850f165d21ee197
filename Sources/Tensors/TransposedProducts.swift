import Compute

extension LinearAlgebra {
  /// dx `[rows, inFeatures]` = dy `[rows, outFeatures]` · W: the backward step of ``multiply(x:rows:xRowStride:by:into:yRowStride:arithmetic:pool:)``
  /// with respect to x. W stays in the order and type it is stored in; every element of dx is one chain of fused multiply-adds over
  /// W's outputs in ascending order.
  /// - Parameters:
  ///   - dyRowStride: floats from one row of dy to the next.
  ///   - dxRowStride: floats from one row of dx to the next.
  ///   - arithmetic: what is multiplied; sums are fp32.
  package static func multiply(
    dy: UnsafePointer<Float>, rows: Int, dyRowStride: Int, byTransposeOf weights: WeightMatrix,
    into dx: UnsafeMutablePointer<Float>, dxRowStride: Int, arithmetic: FloatArithmetic = .fp32,
    pool: WorkerPool = .shared
  ) {
    guard rows > 0 else { return }
    func product(into target: UnsafeMutablePointer<Float>, rowStride: Int) {
      multiply(
        x: dy, rows: rows, xRowStride: dyRowStride, outputs: weights.inFeatures, inputs: weights.outFeatures,
        into: target, yRowStride: rowStride, arithmetic: arithmetic, pool: pool,
        provide: transposingProvider(of: weights, kernels: pool.kernels), buildsPanels: true)
    }
    guard case .intPanels(let matrix) = weights, let permutation = matrix.permutation else {
      return product(into: dx, rowStride: dxRowStride)
    }
    // Act-order: the product is in the order the codes are stored in.
    let stored = AlignedBuffer<Float>(count: rows * matrix.inFeatures)
    product(into: stored.pointer, rowStride: matrix.inFeatures)
    let target = DisjointWrites(dx)
    pool.runRanges(rows) { range in
      for row in range {
        let from = stored.pointer + row * matrix.inFeatures
        let to = target + row * dxRowStride
        for k in 0..<matrix.inFeatures { to[Int(permutation[k])] = from[k] }
      }
    }
  }

  /// What reads Wᵀ by panels of W's inputs: a summed index is one of W's outputs.
  private static func transposingProvider(of weights: WeightMatrix, kernels: Kernels) -> PanelProvider {
    switch weights {
    case .rows(let matrix):
      return { panel, count, firstRow, rows, scratch in
        let first = panel * panelWidth
        kernels.copyPanels(
          scratch, panelStride: rows * panelWidth,
          from: matrix.elements + (firstRow * matrix.inFeatures + first) * matrix.dtype.byteCount,
          type: matrix.dtype.kernelType, rowStride: matrix.inFeatures,
          columns: min(count * panelWidth, matrix.inFeatures - first), k: rows)
        return (UnsafePointer(scratch), rows * panelWidth)
      }
    case .panels(let matrix):
      return { panel, count, firstRow, rows, scratch in
        forEachBlock(panel, count, firstRow, rows, inputs: matrix.inFeatures) {
          block, inputs, outputs, place in
          kernels.packPanel(
            scratch + place,
            from: matrix.elements
              + (block * matrix.inFeatures + inputs.lowerBound) * panelWidth * matrix.dtype.byteCount,
            type: matrix.dtype.kernelType, rowStride: panelWidth, rows: inputs.count, k: outputs)
        }
        return (UnsafePointer(scratch), rows * panelWidth)
      }
    case .intPanels(let matrix):
      return { panel, count, firstRow, rows, scratch in
        let inputs = panel * panelWidth..<min(matrix.inFeatures, (panel + count) * panelWidth)
        Scratch.withFloats(count * panelWidth * panelWidth) { block in
          var made = -1
          forEachBlock(panel, count, firstRow, rows, inputs: matrix.inFeatures) {
            number, some, outputs, place in
            if number != made {
              kernels.dequantizePanel(block, from: matrix.panels, panel: number, inputs: inputs)
              made = number
            }
            kernels.packPanel(
              scratch + place, from: block + (some.lowerBound - inputs.lowerBound) * panelWidth, type: .f32,
              rowStride: panelWidth, rows: some.count, k: outputs)
          }
        }
        return (UnsafePointer(scratch), rows * panelWidth)
      }
    }
  }

  /// The blocks of 16 × 16 elements that `count` panels of inputs from `panel` on and the outputs `firstRow ..< firstRow + rows` are:
  /// the number of the panel of outputs, the inputs, how many outputs, and where the transposed block begins.
  private static func forEachBlock(
    _ panel: Int, _ count: Int, _ firstRow: Int, _ rows: Int, inputs: Int,
    _ body: (_ block: Int, _ inputs: Range<Int>, _ outputs: Int, _ place: Int) -> Void
  ) {
    precondition(firstRow % panelWidth == 0, "blocks of outputs begin with a panel")
    for done in stride(from: 0, to: rows, by: panelWidth) {
      for index in 0..<count {
        let first = (panel + index) * panelWidth
        body(
          (firstRow + done) / panelWidth, first..<min(inputs, first + panelWidth),
          min(panelWidth, rows - done),
          (index * rows + done) * panelWidth)
      }
    }
  }
}
