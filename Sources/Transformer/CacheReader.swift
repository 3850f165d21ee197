import Architecture
import Compute

/// Products with the keys and values of one head, whatever they are stored as.
///
/// A few rows multiply straight from the cache; more share a copy of the block widened to floats. Both are the same chains
/// of fused multiply-adds, so a token's result does not depend on how many are processed with it.
struct CacheReader {
  let cache: LayerCacheView
  let head: Int
  let configuration: DecoderConfiguration
  let kernels: Kernels

  private var type: KernelType { cache.type.kernelType }
  private var headDim: Int { configuration.headDim }
  private var block: Int { LayerSteps.keyBlock }

  /// Rows up to which widening costs more than it saves.
  private static let fewRows = 8

  /// Floats of scratch that the products of `rows` rows need.
  func scratchFloats(rows: Int) -> Int {
    rows <= Self.fewRows || cache.type == .f32 ? 0 : block * LayerCache.paddedHeadDim(configuration)
  }

  /// scores `[rows, keyBlock]` = Q · Kᵀ for keys `firstKey ..< firstKey + count`; `firstKey` is a multiple of 16. What lies
  /// behind `count` in a row is undefined.
  func scores(
    _ queries: UnsafePointer<Float>, rows: Int, rowStride: Int, firstKey: Int, count: Int,
    into scores: UnsafeMutablePointer<Float>, scratch: UnsafeMutablePointer<Float>
  ) {
    let keys = cache.keyPanels(head: head, from: firstKey)
    let panels = (count + panelWidth - 1) / panelWidth
    let panelStride = headDim * panelWidth
    if rows <= Self.fewRows {
      kernels.gemvPanels(
        rows: rows, y: scores, yRowStride: block, x: queries, xRowStride: rowStride, b: keys, type: type,
        panelStride: panelStride, panels: panels, k: headDim)
    } else {
      var floats = UnsafeRawPointer(scratch)
      if cache.type == .f32 {
        floats = keys
      } else {
        kernels.widenPanel(scratch, from: keys, type: type, k: panels * headDim)
      }
      kernels.gemm(
        m: rows, n: count, k: headDim, a: queries, aRowStride: rowStride, aKStride: 1,
        b: floats.assumingMemoryBound(to: Float.self), bPanelStride: panelStride, c: scores,
        cRowStride: block, cPanelStride: panelWidth, mode: .overwrite)
    }
    guard cache.type == .int8 else { return }
    for row in 0..<rows {
      kernels.multiply(scores + row * block, by: cache.keyScales(head: head) + firstKey, count: count)
    }
  }

  /// sums `[rows, sumWidth]` += P · V for positions `firstKey ..< firstKey + count`; `sumWidth` is the head's width
  /// rounded up to whole panels. `probabilities` `[rows, keyBlock]` are changed.
  func addValues(
    _ probabilities: UnsafeMutablePointer<Float>, rows: Int, firstKey: Int, count: Int,
    into sums: UnsafeMutablePointer<Float>, sumWidth: Int, scratch: UnsafeMutablePointer<Float>
  ) {
    if cache.type == .int8 {
      for row in 0..<rows {
        kernels.multiply(
          probabilities + row * block, by: cache.valueScales(head: head) + firstKey, count: count)
      }
    }
    let values = cache.valuePanels(head: head, from: firstKey)
    let panelStride = cache.roundedCapacity * panelWidth
    if rows <= Self.fewRows {
      kernels.gemvPanels(
        rows: rows, y: sums, yRowStride: sumWidth, x: probabilities, xRowStride: block, b: values, type: type,
        panelStride: panelStride, panels: sumWidth / panelWidth, k: count, adding: true)
      return
    }
    var floats = UnsafeRawPointer(scratch)
    var stride = block * panelWidth
    if cache.type == .f32 {
      floats = values
      stride = panelStride
    } else {
      for panel in 0..<sumWidth / panelWidth {
        kernels.widenPanel(
          scratch + panel * stride, from: values + panel * panelStride * cache.type.byteCount, type: type,
          k: count)
      }
    }
    kernels.gemm(
      m: rows, n: headDim, k: count, a: probabilities, aRowStride: block, aKStride: 1,
      b: floats.assumingMemoryBound(to: Float.self), bPanelStride: stride, c: sums, cRowStride: sumWidth,
      cPanelStride: panelWidth, mode: .add)
  }
}
