import Compute

/// What products with float weights, or with integer ones as floats, are computed from; the sums are fp32 either way.
package enum FloatArithmetic: String, CaseIterable, Sendable {
  case fp32
  /// Both sides rounded to bf16: up to twice as fast on processors that multiply pairs of them faster than floats (AMD's
  /// Zen 4 and 5), the same bits everywhere. What PyTorch computes from a model that is loaded in bf16.
  case bf16
}

extension LinearAlgebra {
  /// Bytes of B in bf16 that are built at a time, for all threads: a third-level cache, or what memory gives while a task
  /// multiplies.
  package static let roundedByteCount = 16 << 20
  /// Words, pairs of inputs, of one block.
  private static let wordsOfBlock = 384

  /// y `[m, n]` = x · Wᵀ with both rounded to bf16: for each pair of inputs, the odd one's product and then the even one's is
  /// added by a fused multiply-add (`CKernels.h`, `gemm_bf16`). A task is some rows, which it rounds itself.
  /// - Parameter provide: panels of W as floats.
  static func multiplyRounded(
    m: Int, n: Int, k: Int, a: SharedPointer<Float>, aRowStride: Int, c: DisjointWrites<Float>,
    cRowStride: Int, pool: WorkerPool, provide: PanelProvider
  ) {
    let kernels = pool.kernels
    let tileRows = kernels.tileRows
    let tiles = (m + tileRows - 1) / tileRows
    let tasks = rowTasks(tiles: tiles, tileRows: tileRows, threads: pool.threadCount)
    let panels = (n + panelWidth - 1) / panelWidth
    let words = (k + 1) / 2
    let panelsAtOnce = max(4, LinearAlgebra.roundedByteCount / (panelWidth * words * 4) / 4 * 4)
    for firstPanel in stride(from: 0, to: panels, by: panelsAtOnce) {
      let some = min(panelsAtOnce, panels - firstPanel)
      let columns = min(n - firstPanel * panelWidth, some * panelWidth)
      Scratch.withFloats(some * panelWidth * words) { memory in
        let built = DisjointWrites(asWords(memory))
        pool.runRanges(some) { range in
          Scratch.withFloats(panelWidth * 2 * LinearAlgebra.wordsOfBlock) { floats in
            for panel in range {
              for block in wordBlocks(words) {
                let inputs = block.lowerBound * 2..<min(k, block.upperBound * 2)
                let (source, _) = provide(firstPanel + panel, 1, inputs.lowerBound, inputs.count, floats)
                let start = some * block.lowerBound + panel * block.count
                kernels.narrowPanelBF16(built.pointer + start * panelWidth, from: source, k: inputs.count)
              }
            }
          }
        }
        pool.run(tasks) { task in
          let first = tiles * task / tasks * tileRows
          let rows = min(m, tiles * (task + 1) / tasks * tileRows) - first
          let padded = (rows + tileRows - 1) / tileRows * tileRows
          Scratch.withFloats(padded * LinearAlgebra.wordsOfBlock) { memory in
            let packed = asWords(memory)
            for block in wordBlocks(words) {
              let inputs = block.lowerBound * 2..<min(k, block.upperBound * 2)
              kernels.packRowsBF16(
                packed, from: a.pointer + first * aRowStride + inputs.lowerBound,
                rowStride: aRowStride, m: rows, k: inputs.count)
              kernels.gemmBF16(
                m: rows, n: columns, words: block.count, packedA: packed,
                b: built.pointer + some * block.lowerBound * panelWidth,
                bPanelStride: block.count * panelWidth,
                c: c.pointer + first * cRowStride + firstPanel * panelWidth, cRowStride: cRowStride,
                adding: block.lowerBound > 0)
            }
          }
        }
      }
    }
  }

  /// Blocks of at most ``wordsOfBlock`` words.
  private static func wordBlocks(_ words: Int) -> some Sequence<Range<Int>> {
    stride(from: 0, to: words, by: wordsOfBlock).lazy.map { $0..<min(words, $0 + wordsOfBlock) }
  }

  /// Memory of floats that holds pairs of bf16.
  private static func asWords(_ memory: UnsafeMutablePointer<Float>) -> UnsafeMutablePointer<UInt32> {
    UnsafeMutableRawPointer(memory).assumingMemoryBound(to: UInt32.self)
  }
}
