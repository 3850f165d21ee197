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

  /// The scores stand in panels of 16 queries, a line for each key: their softmax then needs no sums across lanes, and they are the
  /// right side of the product with the values as they are.
  private func attend(
    _ qkv: UnsafePointer<Float>, rows: Range<Int>, queries: Range<Int>, head: Int,
    into out: UnsafeMutablePointer<Float>
  ) {
    let kernels = pool.kernels
    let (hidden, width) = (configuration.hiddenSize, configuration.headDim)
    let (count, stride) = (rows.count, 3 * hidden)
    let scale = 1 / Float(width).squareRoot()
    let panels = (min(Self.queryBlock, queries.count) + panelWidth - 1) / panelWidth
    let line = panelWidth * panelWidth
    Scratch.withFloats(2 * count * width + panels * panelWidth * (2 * width + count) + line) { memory in
      let keys = memory
      let values = keys + count * width
      let turned = values + count * width
      let scores = turned + panels * panelWidth * width
      let sums = scores + panels * panelWidth * count
      let block = sums + panels * panelWidth * width
      // Rows of a width of a power of two apart would share the lines of a cache.
      for row in 0..<count {
        let from = qkv + (rows.lowerBound + row) * stride + head * width
        (keys + row * width).update(from: from + hidden, count: width)
        (values + row * width).update(from: from + 2 * hidden, count: width)
      }
      for start in Swift.stride(from: queries.lowerBound, to: queries.upperBound, by: Self.queryBlock) {
        let some = min(Self.queryBlock, queries.upperBound - start)
        let panels = (some + panelWidth - 1) / panelWidth
        for panel in 0..<panels {
          kernels.packPanel(
            turned + panel * panelWidth * width,
            from: qkv + (start + panel * panelWidth) * stride + head * width, type: .f32, rowStride: stride,
            rows: min(panelWidth, some - panel * panelWidth), k: width)
        }
        kernels.scale(turned, by: scale, count: panels * panelWidth * width)
        kernels.gemm(
          m: count, n: panels * panelWidth, k: width, a: keys, aRowStride: width, aKStride: 1, b: turned,
          bPanelStride: panelWidth * width, c: scores, cRowStride: panelWidth,
          cPanelStride: panelWidth * count, mode: .overwrite)
        for panel in 0..<panels { kernels.softmaxPanel(scores + panel * panelWidth * count, count: count) }
        kernels.gemm(
          m: width, n: panels * panelWidth, k: count, a: values, aRowStride: 1, aKStride: width, b: scores,
          bPanelStride: panelWidth * count, c: sums, cRowStride: panelWidth, cPanelStride: panelWidth * width,
          mode: .overwrite)
        for panel in 0..<panels {
          for first in Swift.stride(from: 0, to: width, by: panelWidth) {
            let columns = min(panelWidth, width - first)
            kernels.packPanel(
              block, from: sums + (panel * width + first) * panelWidth, type: .f32, rowStride: panelWidth,
              rows: columns, k: panelWidth)
            for row in 0..<min(panelWidth, some - panel * panelWidth) {
              (out + (start + panel * panelWidth + row) * hidden + head * width + first).update(
                from: block + row * panelWidth, count: columns)
            }
          }
        }
      }
    }
  }
}
