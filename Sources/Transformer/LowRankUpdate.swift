import Compute
import Tensors

/// What adapters add to a projection: `y += B · (s ⊙ (A · x))`, for LoRA the sum of `scale · B · A · x` of each adapter.
///
/// A row of y does not depend on which other rows are computed with it, nor on the number of threads: each element is one chain of
/// fused multiply-adds in ascending order.
package struct LowRankUpdate: Sendable {
  /// `[rank, inFeatures]`
  private let a: PanelMatrix
  /// `[outFeatures, rank]`
  private let b: PanelMatrix
  /// The factor of each row of A: `[rank]`, filled up with zeros to whole panels.
  private let scales: AlignedBuffer<Float>

  package var rank: Int { a.outFeatures }

  /// - Parameters:
  ///   - a: `[rank, inFeatures]`, `b`: `[outFeatures, rank]`.
  ///   - scales: the factor of each row of A.
  package init(a: PanelMatrix, b: PanelMatrix, scales: [Float]) {
    precondition(a.outFeatures == b.inFeatures && scales.count == a.outFeatures, "A, B and scales do not fit")
    self.a = a
    self.b = b
    self.scales = AlignedBuffer(zeros: a.panelCount * panelWidth)
    for (index, scale) in scales.enumerated() { self.scales[index] = scale }
  }

  package var inFeatures: Int { a.inFeatures }
  package var outFeatures: Int { b.outFeatures }

  /// Bytes of A and B.
  package var byteCount: Int {
    [a, b].reduce(0) {
      $0 + PanelMatrix.byteCount(outFeatures: $1.outFeatures, inFeatures: $1.inFeatures, dtype: $1.dtype)
    }
  }

  /// Adds the update to `rows` rows of y, `yRowStride` floats apart, for as many contiguous rows of x.
  func add(
    _ x: UnsafePointer<Float>, rows: Int, to y: UnsafeMutablePointer<Float>, yRowStride: Int, pool: WorkerPool
  ) {
    if rows >= 4 * pool.threadCount {
      let (x, y) = (SharedPointer(x), DisjointWrites(y))
      pool.runRanges(rows, grain: 4) { range in
        addRows(
          x + range.lowerBound * inFeatures, rows: range.count, to: y + range.lowerBound * yRowStride,
          yRowStride: yRowStride, kernels: pool.kernels)
      }
    } else {
      addFewRows(x, rows: rows, to: y, yRowStride: yRowStride, pool: pool)
    }
  }

  /// On the calling thread. Blocks of rows share what is read of A and B.
  private func addRows(
    _ x: UnsafePointer<Float>, rows: Int, to y: UnsafeMutablePointer<Float>, yRowStride: Int, kernels: Kernels
  ) {
    let width = scales.count
    Scratch.withFloats(LowRankUpdate.block * width) { inner in
      for first in stride(from: 0, to: rows, by: LowRankUpdate.block) {
        let count = min(LowRankUpdate.block, rows - first)
        project(
          x + first * inFeatures, rows: count, panels: 0..<a.panelCount, into: inner, kernels: kernels)
        add(
          inner, rows: count, panels: 0..<b.panelCount, to: y + first * yRowStride, yRowStride: yRowStride,
          kernels: kernels)
      }
    }
  }

  /// A row or a few: threads share the outputs of each product, if it is worth waking them.
  private func addFewRows(
    _ x: UnsafePointer<Float>, rows: Int, to y: UnsafeMutablePointer<Float>, yRowStride: Int, pool: WorkerPool
  ) {
    let kernels = pool.kernels
    Scratch.withFloats(rows * scales.count) { inner in
      let (x, y, shared) = (SharedPointer(x), DisjointWrites(y), DisjointWrites(inner))
      pool.runRanges(a.panelCount, grain: grain(of: a)) { panels in
        project(x.pointer, rows: rows, panels: panels, into: shared.pointer, kernels: kernels)
      }
      let finished = SharedPointer(inner)
      pool.runRanges(b.panelCount, grain: grain(of: b)) { panels in
        add(
          finished.pointer, rows: rows, panels: panels, to: y.pointer, yRowStride: yRowStride,
          kernels: kernels)
      }
    }
  }

  /// Rows that pass by A and B together.
  private static let block = 32
  /// Bytes that one thread reads in about the time that it takes to wake another.
  private static let bytesOfTask = 64 << 10

  private func grain(of matrix: PanelMatrix) -> Int {
    max(1, LowRankUpdate.bytesOfTask / (matrix.inFeatures * panelWidth * matrix.dtype.byteCount))
  }

  /// inner = s ⊙ (A · x), some panels of it.
  private func project(
    _ x: UnsafePointer<Float>, rows: Int, panels: Range<Int>, into inner: UnsafeMutablePointer<Float>,
    kernels: Kernels
  ) {
    let width = scales.count
    let first = panels.lowerBound * panelWidth
    kernels.gemvPanels(
      rows: rows, y: inner + first, yRowStride: width, x: x, xRowStride: inFeatures,
      b: a.elements + first * inFeatures * a.dtype.byteCount, type: a.dtype.kernelType,
      panelStride: inFeatures * panelWidth, panels: panels.count, k: inFeatures)
    for row in 0..<rows {
      kernels.multiply(
        inner + row * width + first, by: scales.pointer + first, count: panels.count * panelWidth)
    }
  }

  /// y += B · inner, some panels of it. The last panel may have fewer outputs than the kernels write.
  private func add(
    _ inner: UnsafePointer<Float>, rows: Int, panels: Range<Int>, to y: UnsafeMutablePointer<Float>,
    yRowStride: Int, kernels: Kernels
  ) {
    let whole = outFeatures / panelWidth
    func product(
      _ range: Range<Int>, rows: Int, _ inner: UnsafePointer<Float>, _ y: UnsafeMutablePointer<Float>
    ) {
      kernels.gemvPanels(
        rows: rows, y: y, yRowStride: yRowStride, x: inner, xRowStride: scales.count,
        b: b.elements + range.lowerBound * panelWidth * rank * b.dtype.byteCount, type: b.dtype.kernelType,
        panelStride: rank * panelWidth, panels: range.count, k: rank, adding: true)
    }
    let full = min(panels.lowerBound, whole)..<min(panels.upperBound, whole)
    if !full.isEmpty { product(full, rows: rows, inner, y + full.lowerBound * panelWidth) }
    guard panels.upperBound > whole else { return }
    let left = outFeatures - whole * panelWidth
    Scratch.withFloats(panelWidth) { last in
      for row in 0..<rows {
        let end = y + row * yRowStride + whole * panelWidth
        last.update(repeating: 0, count: panelWidth)
        last.update(from: end, count: left)
        product(whole..<whole + 1, rows: 1, inner + row * scales.count, last)
        end.update(from: last, count: left)
      }
    }
  }
}
