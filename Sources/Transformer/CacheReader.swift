import CKernels
import Tensors

/// Products with the keys and values of one head, whatever they are stored as.
///
/// A few rows multiply straight from the cache; more share a copy of the block widened to floats. Both are the same chains
/// of fused multiply-adds, so a token's result does not depend on how many are processed with it.
struct CacheReader {
  let cache: LayerCacheView
  let head: Int
  let configuration: DecoderConfiguration
  let table: UnsafePointer<zn_kernels>

  private var type: zn_float_type { cache.type.kernelType }
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
      table.pointee.gemv_panels(
        Int64(rows), scores, Int64(block), queries, Int64(rowStride), keys, type, Int64(panelStride),
        Int64(panels), Int64(headDim), false)
    } else {
      var floats = UnsafeRawPointer(scratch)
      if cache.type == .f32 {
        floats = keys
      } else {
        table.pointee.widen_panel(scratch, keys, type, Int64(panels * headDim))
      }
      table.pointee.gemm(
        Int64(rows), Int64(count), Int64(headDim), queries, Int64(rowStride), 1,
        floats.assumingMemoryBound(to: Float.self), Int64(panelStride), scores, Int64(block),
        Int64(panelWidth), ZN_OVERWRITE)
    }
    guard cache.type == .int8 else { return }
    for row in 0..<rows {
      table.pointee.multiply(scores + row * block, cache.keyScales(head: head) + firstKey, Int64(count))
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
        table.pointee.multiply(
          probabilities + row * block, cache.valueScales(head: head) + firstKey, Int64(count))
      }
    }
    let values = cache.valuePanels(head: head, from: firstKey)
    let panelStride = cache.roundedCapacity * panelWidth
    if rows <= Self.fewRows {
      table.pointee.gemv_panels(
        Int64(rows), sums, Int64(sumWidth), probabilities, Int64(block), values, type, Int64(panelStride),
        Int64(sumWidth / panelWidth), Int64(count), true)
      return
    }
    var floats = UnsafeRawPointer(scratch)
    var stride = block * panelWidth
    if cache.type == .f32 {
      floats = values
      stride = panelStride
    } else {
      for panel in 0..<sumWidth / panelWidth {
        table.pointee.widen_panel(
          scratch + panel * stride, values + panel * panelStride * cache.type.byteCount, type, Int64(count))
      }
    }
    table.pointee.gemm(
      Int64(rows), Int64(headDim), Int64(count), probabilities, Int64(block), 1,
      floats.assumingMemoryBound(to: Float.self), Int64(stride), sums, Int64(sumWidth), Int64(panelWidth),
      ZN_ADD)
  }
}
