import Architecture
import Compute
import Tensors

extension EncoderSteps {
  /// Rows of queries of one block of scores: with 512 keys they stay in a second-level cache.
  private static let queryBlock = 128

  /// A head of a text, or some of its queries.
  private struct Task { var rows: Range<Int>, queries: Range<Int>, head: Int }

  /// out = softmax(q · Kᵀ / √headDim) · V within each text; there is no mask.
  /// - Parameters:
  ///   - qkv: `[rows, 3 * hiddenSize]`.
  ///   - texts: rows of each. A text's result does not depend on the others.
  ///   - out: `[rows, hiddenSize]`
  package func attend(
    _ qkv: UnsafePointer<Float>, texts: [Range<Int>], arithmetic: AttentionArithmetic,
    into out: UnsafeMutablePointer<Float>
  ) {
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
      if arithmetic == .fast {
        attendFast(qkv.pointer, tasks[index], into: out.pointer)
      } else {
        attendExactly(qkv.pointer, tasks[index], into: out.pointer)
      }
    }
  }

  private func attendFast(
    _ qkv: UnsafePointer<Float>, _ task: Task, into out: UnsafeMutablePointer<Float>
  ) {
    let kernels = pool.kernels
    let (hidden, width) = (configuration.hiddenSize, configuration.headDim)
    let (count, stride) = (task.rows.count, 3 * hidden)
    let paddedWidth = (width + panelWidth - 1) / panelWidth * panelWidth
    let keyPanels = (count + panelWidth - 1) / panelWidth
    let head = qkv + task.head * width
    Scratch.withFloats(keyPanels * panelWidth * width + count * paddedWidth) { keys in
      let values = keys + keyPanels * panelWidth * width
      let first = head + task.rows.lowerBound * stride
      for panel in 0..<keyPanels {
        kernels.packPanel(
          keys + panel * panelWidth * width, from: first + hidden + panel * panelWidth * stride, type: .f32,
          rowStride: stride, rows: min(panelWidth, count - panel * panelWidth), k: width)
      }
      kernels.copyPanels(
        values, panelStride: count * panelWidth, from: first + 2 * hidden, rowStride: stride, columns: width,
        k: count)
      var segments = KeyValueSegments()
      segments.append(
        KeyValueSegment(
          first: 0, count: count,
          storage: .panels(
            .f32, keys: keys, values: values, valuePanelStride: count * panelWidth, keyScales: nil,
            valueScales: nil)))
      for start in Swift.stride(
        from: task.queries.lowerBound, to: task.queries.upperBound, by: Self.queryBlock)
      {
        // Without a mask all queries are like heads of one token, which see the same keys.
        let rows = min(Self.queryBlock, task.queries.upperBound - start)
        kernels.attend(
          AttentionJob(
            rows: rows, group: rows, firstVisible: count, headDim: width, paddedHeadDim: paddedWidth,
            queries: head + start * stride, tokenStride: 0, headStride: stride,
            out: out + start * hidden + task.head * width, outTokenStride: 0, outHeadStride: hidden),
          to: segments)
      }
    }
  }

  /// The scores stand in panels of 16 queries, a line for each key: their softmax then needs no sums across lanes, and they are the
  /// right side of the product with the values as they are.
  private func attendExactly(
    _ qkv: UnsafePointer<Float>, _ task: Task, into out: UnsafeMutablePointer<Float>
  ) {
    let kernels = pool.kernels
    let (rows, queries, head) = (task.rows, task.queries, task.head)
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
