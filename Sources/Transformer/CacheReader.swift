import Architecture
import Compute

/// Products in fp32 with the keys and values of one head, whatever they are stored as.
///
/// A few rows multiply straight from the cache; more share a copy of the block widened to floats. Both are the same chains
/// of fused multiply-adds, so a token's result does not depend on how many are processed with it. Codes of 4 bits are always
/// widened.
struct CacheReader {
  let segment: KeyValueSegment
  let configuration: DecoderConfiguration
  let kernels: Kernels

  private var headDim: Int { configuration.headDim }
  private var paddedHeadDim: Int { LayerCache.paddedHeadDim(configuration) }
  private var block: Int { LayerSteps.keyBlock }

  /// Up to this many rows, widening the cache costs more than it saves.
  private static let fewRows = 8

  /// Floats of scratch that the products of `rows` rows need.
  static func scratchFloats(rows: Int, type: KVCacheType, configuration c: DecoderConfiguration) -> Int {
    let isRead = type == .f32 || type != .int4 && rows <= fewRows
    return isRead ? 0 : LayerSteps.keyBlock * LayerCache.paddedHeadDim(c)
  }

  /// scores `[rows, keyBlock]` = Q · Kᵀ for the segment's keys `firstKey ..< firstKey + count`, counted from its start; `firstKey`
  /// is a multiple of ``LayerSteps/keyBlock``. What lies behind `count` in a row is undefined.
  func scores(
    _ queries: UnsafePointer<Float>, rows: Int, rowStride: Int, firstKey: Int, count: Int,
    into scores: UnsafeMutablePointer<Float>, scratch: UnsafeMutablePointer<Float>
  ) {
    let panels = (count + panelWidth - 1) / panelWidth
    let panelStride = headDim * panelWidth
    func multiply(_ floats: UnsafePointer<Float>) {
      kernels.gemm(
        m: rows, n: count, k: headDim, a: queries, aRowStride: rowStride, aKStride: 1, b: floats,
        bPanelStride: panelStride, c: scores, cRowStride: block, cPanelStride: panelWidth, mode: .overwrite)
    }
    switch segment.storage {
    case .codes(let blocks):
      forEachBlock(of: blocks, firstKey: firstKey, count: count) { codes, key in
        kernels.decodeKeyValueBlock(
          codes, keys: scratch + key * headDim, headDim: headDim, paddedHeadDim: paddedHeadDim)
      }
      multiply(scratch)
    case .panels(let type, let keys, _, _, let scales, _):
      let keys = keys + firstKey * headDim * type.byteCount
      if rows <= Self.fewRows {
        kernels.gemvPanels(
          rows: rows, y: scores, yRowStride: block, x: queries, xRowStride: rowStride, b: keys, type: type,
          panelStride: panelStride, panels: panels, k: headDim)
      } else if type == .f32 {
        multiply(keys.assumingMemoryBound(to: Float.self))
      } else {
        kernels.widenPanel(scratch, from: keys, type: type, k: panels * headDim)
        multiply(scratch)
      }
      guard let scales else { return }
      for row in 0..<rows { kernels.multiply(scores + row * block, by: scales + firstKey, count: count) }
    }
  }

  /// sums `[rows, sumWidth]` += P · V for the segment's positions `firstKey ..< firstKey + count`; `sumWidth` is the head's
  /// width rounded up to whole panels. `probabilities` `[rows, keyBlock]` are changed.
  func addValues(
    _ probabilities: UnsafeMutablePointer<Float>, rows: Int, firstKey: Int, count: Int,
    into sums: UnsafeMutablePointer<Float>, sumWidth: Int, scratch: UnsafeMutablePointer<Float>
  ) {
    func multiply(_ floats: UnsafePointer<Float>, stride: Int) {
      kernels.gemm(
        m: rows, n: headDim, k: count, a: probabilities, aRowStride: block, aKStride: 1, b: floats,
        bPanelStride: stride, c: sums, cRowStride: sumWidth, cPanelStride: panelWidth, mode: .add)
    }
    let copyStride = block * panelWidth
    switch segment.storage {
    case .codes(let blocks):
      forEachBlock(of: blocks, firstKey: firstKey, count: count) { codes, key in
        kernels.decodeKeyValueBlock(
          codes, values: scratch + key * panelWidth, valuePanelStride: copyStride, headDim: headDim,
          paddedHeadDim: paddedHeadDim)
      }
      multiply(scratch, stride: copyStride)
    case .panels(let type, _, let values, let panelStride, _, let scales):
      if let scales {
        for row in 0..<rows {
          kernels.multiply(probabilities + row * block, by: scales + firstKey, count: count)
        }
      }
      let values = values + firstKey * panelWidth * type.byteCount
      if rows <= Self.fewRows {
        kernels.gemvPanels(
          rows: rows, y: sums, yRowStride: sumWidth, x: probabilities, xRowStride: block, b: values,
          type: type,
          panelStride: panelStride, panels: sumWidth / panelWidth, k: count, adding: true)
      } else if type == .f32 {
        multiply(values.assumingMemoryBound(to: Float.self), stride: panelStride)
      } else {
        for panel in 0..<sumWidth / panelWidth {
          kernels.widenPanel(
            scratch + panel * copyStride, from: values + panel * panelStride * type.byteCount, type: type,
            k: count)
        }
        multiply(scratch, stride: copyStride)
      }
    }
  }

  /// Blocks of codes of some positions, with their places among these.
  private func forEachBlock(
    of blocks: UnsafePointer<UInt8>, firstKey: Int, count: Int,
    _ body: (_ codes: UnsafePointer<UInt8>, _ key: Int) -> Void
  ) {
    let bytes = Kernels.keyValueBlockBytes(headDim: headDim, paddedHeadDim: paddedHeadDim)
    for key in stride(from: 0, to: count, by: keyValueBlock) {
      body(blocks + (firstKey + key) / keyValueBlock * bytes, key)
    }
  }
}
