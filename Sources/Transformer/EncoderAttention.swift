import Architecture
import Compute
import Tensors

extension EncoderSteps {
  /// Rows of queries of one block of scores: with 512 keys they stay in a second-level cache.
  private static let queryBlock = 128

  /// out = softmax(q · Kᵀ / √headDim) · V within each text; there is no mask.
  /// - Parameters:
  ///   - qkv: `[rows, 3 * hiddenSize]`.
  ///   - texts: rows of each. A text's result does not depend on the others.
  ///   - out: `[rows, hiddenSize]`
  func attend(
    _ qkv: UnsafePointer<Float>, texts: [Range<Int>], into out: UnsafeMutablePointer<Float>
  ) {
    struct Task { var rows: Range<Int>, queries: Range<Int>, head: Int }
    let heads = configuration.attentionHeads
    // A head's keys and values are brought into the order of products once for all its queries, unless threads would have
    // nothing to do.
    let cutsQueries = texts.count * heads < 4 * pool.threadCount
    var tasks: [Task] = []
    for text in texts where !text.isEmpty {
      let step = cutsQueries ? Self.queryBlock : text.count
      for first in stride(from: text.lowerBound, to: text.upperBound, by: step) {
        for head in 0..<heads {
          tasks.append(Task(rows: text, queries: first..<min(first + step, text.upperBound), head: head))
        }
      }
    }
    let (qkv, out) = (SharedPointer(qkv), DisjointWrites(out))
    pool.run(tasks.count) { [tasks] index in
      let task = tasks[index]
      attend(qkv.pointer, rows: task.rows, queries: task.queries, head: task.head, into: out.pointer)
    }
  }

  private func attend(
    _ qkv: UnsafePointer<Float>, rows: Range<Int>, queries: Range<Int>, head: Int,
    into out: UnsafeMutablePointer<Float>
  ) {
    let kernels = pool.kernels
    let (hidden, width) = (configuration.hiddenSize, configuration.headDim)
    let (count, stride) = (rows.count, 3 * hidden)
    let panels = (count + panelWidth - 1) / panelWidth
    let valuePanels = (width + panelWidth - 1) / panelWidth
    let block = min(Self.queryBlock, queries.count)
    let rowStride = panels * panelWidth
    let scale = 1 / Float(width).squareRoot()
    let first = qkv + rows.lowerBound * stride + head * width
    Scratch.withFloats(panels * panelWidth * width + valuePanels * panelWidth * count + block * rowStride) {
      memory in
      let keys = memory
      let values = keys + panels * panelWidth * width
      let scores = values + valuePanels * panelWidth * count
      for panel in 0..<panels {
        kernels.packPanel(
          keys + panel * panelWidth * width, from: first + hidden + panel * panelWidth * stride, type: .f32,
          rowStride: stride, rows: min(panelWidth, count - panel * panelWidth), k: width)
      }
      // Fewer multiplications than scaling the scores.
      kernels.scale(keys, by: scale, count: panels * panelWidth * width)
      kernels.copyPanels(
        values, panelStride: panelWidth * count, from: first + 2 * hidden, rowStride: stride, columns: width,
        k: count)
      for start in Swift.stride(from: queries.lowerBound, to: queries.upperBound, by: block) {
        let some = min(block, queries.upperBound - start)
        kernels.gemm(
          m: some, n: count, k: width, a: qkv + start * stride + head * width, aRowStride: stride, aKStride: 1,
          b: keys, bPanelStride: panelWidth * width, c: scores, cRowStride: rowStride,
          cPanelStride: panelWidth, mode: .overwrite)
        for row in 0..<some {
          let line = scores + row * rowStride
          let total = kernels.expSum(line, shift: kernels.maximum(line, count: count), count: count)
          kernels.scale(line, by: 1 / total, count: count)
        }
        kernels.gemm(
          m: some, n: width, k: count, a: scores, aRowStride: rowStride, aKStride: 1, b: values,
          bPanelStride: panelWidth * count, c: out + start * hidden + head * width, cRowStride: hidden,
          cPanelStride: panelWidth, mode: .overwrite)
      }
    }
  }
}
