import Compute
import Transformer

/// Runs a decoder over windows and hands out the logits of the scored positions, a bounded number of rows at a time.
struct WindowRunner {
  let decoder: Decoder
  var cacheType = KVCacheType.f32
  /// Tokens that run through the layers together.
  static let batchTokens = 2048
  /// Bytes of logits held at a time.
  static let logitBytes = 64 << 20

  /// Groups of windows of about ``batchTokens``.
  static func batches(_ windows: [WindowProtocol.Window]) -> [ArraySlice<WindowProtocol.Window>] {
    var result: [ArraySlice<WindowProtocol.Window>] = []
    var start = 0
    var tokens = 0
    for (index, window) in windows.enumerated() {
      if index > start && tokens + window.range.count > batchTokens {
        result.append(windows[start..<index])
        start = index
        tokens = 0
      }
      tokens += window.range.count
    }
    if start < windows.count { result.append(windows[start...]) }
    return result
  }

  func hidden(_ ids: [Int], _ batch: ArraySlice<WindowProtocol.Window>) -> AlignedBuffer<Float> {
    decoder.hiddenStates(windows: batch.map { Array(ids[$0.range]) }, cacheType: cacheType)
  }

  /// Rows of logits that predict the scored tokens of one window whose first row in `hidden` is `firstRow`.
  func forEachBlock(
    _ hidden: AlignedBuffer<Float>, window: WindowProtocol.Window, firstRow: Int,
    _ body: (_ logits: AlignedBuffer<Float>, _ rows: Int, _ firstToken: Int) throws -> Void
  ) rethrows {
    let step = max(1, WindowRunner.logitBytes / (4 * decoder.vocabularySize))
    for token in stride(from: window.firstScored, to: window.range.upperBound, by: step) {
      let count = min(step, window.range.upperBound - token)
      let row = firstRow + token - 1 - window.range.lowerBound
      try body(decoder.logits(hidden, rows: row..<row + count), count, token)
    }
  }
}

/// log Σ exp of a row of logits, in double precision.
func logSumExp(_ row: UnsafePointer<Float>, count: Int, kernels: Kernels) -> Double {
  let top = kernels.maximum(row, count: count)
  return Double(top) + logarithm(kernels.sumExp(row, shift: top, count: count))
}
