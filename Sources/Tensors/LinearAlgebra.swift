import Compute

/// Matrix products over the kernels: blocking for the caches and sharing among threads.
///
/// Threads split outputs, never sums: whatever their number, every output is one chain of fused multiply-adds in
/// ascending order of the summed index (`CKernels.h`).
package enum LinearAlgebra {
  /// Up to this many summed indices form one block, because a short second block costs more than a large first one.
  private static let wholeDepth = 640
  /// Floats of B in one block: 384 KiB of a second-level cache.
  private static let blockFloats = 384 << 8

  /// Summed indices of one block, about as many in each: whole fields of packed codes, and of a panel's lines.
  package static func depth(of k: Int, kernels: Kernels) -> Int {
    let most = kernels.blockDepth
    guard k > max(wholeDepth, most) else { return max(1, k) }
    let blocks = (k + most - 1) / most
    return ((k + blocks - 1) / blocks + 15) / 16 * 16
  }
  /// Bytes of the packed copy of A. Every block of B passes by all of it; the kernels fetch its rows ahead, so it may be larger
  /// than a third-level cache.
  package static let packedByteCount = 48 << 20
  /// Rows in the packed copy of A. More rows save little, and their memory is not part of a quantization's plan.
  static let packedRows = 2048
  /// From this many rows on, rows are divided among tasks; no part has fewer than half of them.
  static let leastRowsCut = 480
  /// A B of up to this many bytes is widened once for all threads; it then fits into part of a third-level cache.
  static let builtByteCount = 8 << 20
  /// The maximum rows of a task in that case.
  static let rowsOfTask = 120

  /// C `[m, n]` = / += / −= A `[m, k]` · B`[n, k]`ᵀ with B in panels of floats.
  ///
  /// Element (i, k) of A is at `a[i * aRowStride + k * aKStride]`, element (n, k) of B at
  /// `bPanels[n / 16 * bPanelStride + k * 16 + n % 16]`, element (i, n) of C at
  /// `c[n / 16 * cPanelStride + i * cRowStride + n % 16]` (an ordinary row-major C has `cPanelStride` 16).
  package static func gemm(
    m: Int, n: Int, k: Int,
    a: UnsafePointer<Float>, aRowStride: Int, aKStride: Int,
    bPanels: UnsafePointer<Float>, bPanelStride: Int,
    c: UnsafeMutablePointer<Float>, cRowStride: Int, cPanelStride: Int,
    mode: ProductMode, pool: WorkerPool = .shared
  ) {
    guard m > 0, n > 0 else { return }
    let a = SharedPointer(a)
    let b = SharedPointer(bPanels)
    let c = DisjointWrites(c)
    blocked(
      m: m, n: n, k: k, a: a, aRowStride: aRowStride, aKStride: aKStride, pool: pool,
      provide: { panel, _, firstK, _, _ in (b.pointer + panel * bPanelStride + firstK * 16, bPanelStride) },
      output: { row, panel in c.pointer + row * cRowStride + panel * cPanelStride },
      cRowStride: cRowStride, cPanelStride: cPanelStride, mode: mode, scratchPerPanel: 0)
  }

  /// y `[rows, outFeatures]` = x `[rows, inFeatures]` · Wᵀ.
  /// - Parameters:
  ///   - xRowStride: floats from one row of x to the next.
  ///   - yRowStride: floats from one row of y to the next.
  ///   - arithmetic: what is multiplied; sums are fp32.
  package static func multiply(
    x: UnsafePointer<Float>, rows: Int, xRowStride: Int, by weights: WeightMatrix,
    into y: UnsafeMutablePointer<Float>, yRowStride: Int, arithmetic: FloatArithmetic = .fp32,
    pool: WorkerPool = .shared
  ) {
    guard rows > 0 else { return }
    if case .intPanels(let matrix) = weights, let permutation = matrix.permutation {
      // Act-order: bring the activations into the order the codes are stored in, once per input.
      let permuted = AlignedBuffer<Float>(count: rows * matrix.inFeatures)
      let source = SharedPointer(x)
      pool.runRanges(rows) { range in
        for row in range {
          let from = source.pointer + row * xRowStride
          let to = permuted.pointer + row * matrix.inFeatures
          for k in 0..<matrix.inFeatures { to[k] = from[Int(permutation[k])] }
        }
      }
      multiplyInOrder(
        x: permuted.pointer, rows: rows, xRowStride: matrix.inFeatures, by: weights, into: y,
        yRowStride: yRowStride, arithmetic: arithmetic, pool: pool)
      return
    }
    multiplyInOrder(
      x: x, rows: rows, xRowStride: xRowStride, by: weights, into: y, yRowStride: yRowStride,
      arithmetic: arithmetic, pool: pool)
  }

  private static func multiplyInOrder(
    x: UnsafePointer<Float>, rows: Int, xRowStride: Int, by weights: WeightMatrix,
    into y: UnsafeMutablePointer<Float>, yRowStride: Int, arithmetic: FloatArithmetic, pool: WorkerPool
  ) {
    if rows == 1 && arithmetic == .fp32 {
      switch weights {
      case .panels(let matrix): return vector(x, by: matrix, into: y, pool: pool)
      case .intPanels(let matrix): return vector(x, by: matrix, into: y, pool: pool)
      case .rows: break
      }
    }
    multiply(
      x: x, rows: rows, xRowStride: xRowStride, outputs: weights.outFeatures, inputs: weights.inFeatures,
      into: y, yRowStride: yRowStride, arithmetic: arithmetic, pool: pool,
      provide: provider(of: weights, kernels: pool.kernels), buildsPanels: weights.panelFloats == nil)
  }

  /// What reads W by panels of outputs.
  private static func provider(of weights: WeightMatrix, kernels: Kernels) -> PanelProvider {
    switch weights {
    case .rows(let matrix):
      return { panel, count, firstK, k, scratch in
        let size = matrix.dtype.byteCount
        for index in 0..<count {
          let row = (panel + index) * panelWidth
          kernels.packPanel(
            scratch + index * k * 16, from: matrix.elements + (row * matrix.inFeatures + firstK) * size,
            type: matrix.dtype.kernelType, rowStride: matrix.inFeatures,
            rows: min(panelWidth, matrix.outFeatures - row), k: k)
        }
        return (UnsafePointer(scratch), k * 16)
      }
    case .panels(let matrix):
      if let floats = weights.panelFloats {
        return { panel, _, firstK, _, _ in
          (floats.pointer + (panel * matrix.inFeatures + firstK) * 16, matrix.inFeatures * 16)
        }
      }
      return { panel, count, firstK, k, scratch in
        for index in 0..<count {
          let offset = ((panel + index) * matrix.inFeatures + firstK) * 16 * matrix.dtype.byteCount
          kernels.widenPanel(
            scratch + index * k * 16, from: matrix.elements + offset, type: matrix.dtype.kernelType, k: k)
        }
        return (UnsafePointer(scratch), k * 16)
      }
    case .intPanels(let matrix):
      return { panel, count, firstK, k, scratch in
        for index in 0..<count {
          kernels.dequantizePanel(
            scratch + index * k * 16, from: matrix.panels, panel: panel + index, inputs: firstK..<firstK + k)
        }
        return (UnsafePointer(scratch), k * 16)
      }
    }
  }

  /// y `[rows, outputs]` = x `[rows, inputs]` · Bᵀ.
  /// - Parameters:
  ///   - provide: panels of B, as floats.
  ///   - buildsPanels: whether the panels are made in the memory that `provide` is given.
  static func multiply(
    x: UnsafePointer<Float>, rows: Int, xRowStride: Int, outputs: Int, inputs: Int,
    into y: UnsafeMutablePointer<Float>, yRowStride: Int, arithmetic: FloatArithmetic, pool: WorkerPool,
    provide: PanelProvider, buildsPanels: Bool
  ) {
    let c = DisjointWrites(y)
    if arithmetic == .bf16 {
      return multiplyRounded(
        m: rows, n: outputs, k: inputs, a: SharedPointer(x), aRowStride: xRowStride,
        c: c, cRowStride: yRowStride, pool: pool, provide: provide)
    }
    if buildsPanels, rows >= leastRowsCut, outputs * inputs * 4 <= builtByteCount {
      return rowsFirst(
        m: rows, n: outputs, k: inputs, a: SharedPointer(x), aRowStride: xRowStride,
        c: c, cRowStride: yRowStride, pool: pool, provide: provide)
    }
    blocked(
      m: rows, n: outputs, k: inputs, a: SharedPointer(x), aRowStride: xRowStride,
      aKStride: 1, pool: pool, provide: provide,
      output: { row, panel in c.pointer + row * yRowStride + panel * 16 },
      cRowStride: yRowStride, cPanelStride: 16, mode: .overwrite,
      scratchPerPanel: depth(of: inputs, kernels: pool.kernels) * 16)
  }

  // MARK: Blocks

  /// Gives `count` panels of B from panel `panel`, inputs `firstK ..< firstK + k`, as floats: where they start and how far
  /// apart they are. May build them in `scratch`.
  typealias PanelProvider =
    @Sendable (
      _ panel: Int, _ count: Int, _ firstK: Int, _ k: Int, _ scratch: UnsafeMutablePointer<Float>
    ) -> (UnsafePointer<Float>, Int)

  private static func blocked(
    m: Int, n: Int, k: Int, a: SharedPointer<Float>, aRowStride: Int, aKStride: Int, pool: WorkerPool,
    provide: PanelProvider, output: @Sendable (Int, Int) -> UnsafeMutablePointer<Float>, cRowStride: Int,
    cPanelStride: Int, mode: ProductMode, scratchPerPanel: Int
  ) {
    let kernels = pool.kernels
    let tileRows = kernels.tileRows
    let depth = depth(of: k, kernels: kernels)
    let panels = (n + panelWidth - 1) / panelWidth
    // Enough tasks for an even share, blocks of B no larger than half a second-level cache, whole pairs of panels. Many
    // rows are cut too: then all blocks of B can be of the widest tile's four panels.
    let wanted = pool.threadCount * 4
    let share = (panels + wanted - 1) / wanted
    let cutsRows = m >= leastRowsCut && panels >= 4 && share % 4 != 0
    let most = blockFloats / (panelWidth * kernels.blockDepth)
    let panelsPerTask = cutsRows ? max(4, min(most, share / 4 * 4)) : max(2, min(most, (share + 1) / 2 * 2))
    // As many tasks for each thread: of 43, the last keeps one of two waiting.
    let unit = panelsPerTask % 4 == 0 ? 4 : 2
    let units = (panels + unit - 1) / unit
    let rounds = (panels + panelsPerTask * pool.threadCount - 1) / (panelsPerTask * pool.threadCount)
    let tasks = min(units, rounds * pool.threadCount)
    let packing = m >= tileRows
    let atMost = max(tileRows * 8, min(packedRows, packedByteCount / (4 * max(1, k))))
    let steps = (m + atMost - 1) / atMost
    let rowStep = ((m + steps - 1) / steps + tileRows - 1) / tileRows * tileRows
    Scratch.withFloats(packing ? rowStep * max(1, k) : 1) { memory in
      let packed = DisjointWrites(memory)
      for firstRow in stride(from: 0, to: m, by: rowStep) {
        let rows = min(rowStep, m - firstRow)
        let left = SharedPointer(a + firstRow * aRowStride)
        if packing {
          // Block of depth d starts at rows' * d, rows' being the rows rounded up to whole tiles.
          let tiles = (rows + tileRows - 1) / tileRows
          pool.runRanges(tiles) { range in
            for firstK in stride(from: 0, to: k, by: depth) {
              let step = min(depth, k - firstK)
              let base = packed + tiles * tileRows * firstK
              let first = range.lowerBound * tileRows
              kernels.packRows(
                base + first * step, from: left + (first * aRowStride + firstK * aKStride),
                rowStride: aRowStride, kStride: aKStride, m: min(range.count * tileRows, rows - first),
                k: step)
            }
          }
        }
        let paddedRows = (rows + tileRows - 1) / tileRows * tileRows
        let parts = cutsRows ? rowParts(of: rows, tasks: tasks, threads: pool.threadCount) : 1
        let partRows = (paddedRows / tileRows + parts - 1) / parts * tileRows
        pool.run(tasks * parts) { index in
          let (task, part) = (index / parts, index % parts)
          let skipped = part * partRows
          let rows = min(partRows, rows - skipped)
          guard rows > 0 else { return }
          let left = left + skipped * aRowStride
          let panel = units * task / tasks * unit
          let count = min(panels, units * (task + 1) / tasks * unit) - panel
          let columns = min(count * panelWidth, n - panel * panelWidth)
          let out = output(firstRow + skipped, panel)
          Scratch.withFloats(max(1, count * scratchPerPanel)) { scratch in
            for firstK in stride(from: 0, to: max(1, k), by: depth) {
              let step = min(depth, k - firstK)
              let (right, stride) = provide(panel, count, firstK, step, scratch)
              let blockMode = mode == .overwrite && firstK > 0 ? .add : mode
              if packing {
                kernels.gemmPacked(
                  m: rows, n: columns, k: step, packedA: packed + paddedRows * firstK + skipped * step,
                  b: right, bPanelStride: stride, c: out, cRowStride: cRowStride, cPanelStride: cPanelStride,
                  mode: blockMode)
              } else {
                kernels.gemm(
                  m: rows, n: columns, k: step, a: left + firstK * aKStride, aRowStride: aRowStride,
                  aKStride: aKStride, b: right, bPanelStride: stride, c: out, cRowStride: cRowStride,
                  cPanelStride: cPanelStride, mode: blockMode)
              }
            }
          }
        }
      }
    }
  }

  /// ``blocked`` for many rows and a B of which a third-level cache holds all panels as floats: those are built once, for all
  /// threads, and a task is some rows. What it packs of A then stays in its core's own cache; packed for all threads,
  /// every line would have to be taken from the other cores before it is written again.
  private static func rowsFirst(
    m: Int, n: Int, k: Int, a: SharedPointer<Float>, aRowStride: Int, c: DisjointWrites<Float>,
    cRowStride: Int, pool: WorkerPool, provide: PanelProvider
  ) {
    let kernels = pool.kernels
    let tileRows = kernels.tileRows
    let depth = depth(of: k, kernels: kernels)
    let panels = (n + panelWidth - 1) / panelWidth
    let tiles = (m + tileRows - 1) / tileRows
    let tasks = rowTasks(tiles: tiles, tileRows: tileRows, threads: pool.threadCount)
    Scratch.withFloats(panels * panelWidth * k) { memory in
      let built = DisjointWrites(memory)
      // The block of depth d starts at panels · 16 · d.
      pool.runRanges(panels) { range in
        for firstK in stride(from: 0, to: k, by: depth) {
          let step = min(depth, k - firstK)
          let start = built + (panels * firstK + range.lowerBound * step) * panelWidth
          _ = provide(range.lowerBound, range.count, firstK, step, start)
        }
      }
      pool.run(tasks) { task in
        let first = tiles * task / tasks * tileRows
        let rows = min(m, tiles * (task + 1) / tasks * tileRows) - first
        Scratch.withFloats((rows + tileRows - 1) / tileRows * tileRows * depth) { packed in
          for firstK in stride(from: 0, to: k, by: depth) {
            let step = min(depth, k - firstK)
            kernels.packRows(
              packed, from: a.pointer + first * aRowStride + firstK, rowStride: aRowStride, kStride: 1,
              m: rows, k: step)
            kernels.gemmPacked(
              m: rows, n: n, k: step, packedA: packed, b: built + panels * panelWidth * firstK,
              bPanelStride: step * panelWidth, c: c.pointer + first * cRowStride, cRowStride: cRowStride,
              cPanelStride: panelWidth, mode: firstK > 0 ? .add : .overwrite)
          }
        }
      }
    }
  }

  /// The number of tasks, equal for each thread, such that a task has at most about ``rowsOfTask`` rows.
  static func rowTasks(tiles: Int, tileRows: Int, threads: Int) -> Int {
    let rowsOfRound = rowsOfTask * threads
    return min(tiles, (tiles * tileRows + rowsOfRound - 1) / rowsOfRound * threads)
  }

  /// Into how many parts to cut `rows` that each of `tasks` blocks of B passes by: enough for an even share. Nine equal tasks
  /// keep one of two threads waiting a tenth of the time; eighteen do not.
  private static func rowParts(of rows: Int, tasks: Int, threads: Int) -> Int {
    let most = max(1, rows / (leastRowsCut / 2))
    let least = min(most, (4 * threads + tasks - 1) / tasks)
    guard tasks < 8 * threads else { return least }
    return (least...most).first { tasks * $0 % threads == 0 } ?? least
  }

  // MARK: One vector

  private static func vector(
    _ x: UnsafePointer<Float>, by matrix: PanelMatrix, into y: UnsafeMutablePointer<Float>, pool: WorkerPool
  ) {
    let x = SharedPointer(x)
    eachPanelRange(of: matrix.outFeatures, into: y, pool: pool) { first, count, out in
      pool.kernels.gemvPanels(
        rows: 1, y: out, yRowStride: 0, x: x.pointer, xRowStride: 0,
        b: matrix.elements + first * matrix.inFeatures * 16 * matrix.dtype.byteCount,
        type: matrix.dtype.kernelType, panelStride: matrix.inFeatures * 16, panels: count,
        k: matrix.inFeatures)
    }
  }

  private static func vector(
    _ x: UnsafePointer<Float>, by matrix: IntPanelMatrix, into y: UnsafeMutablePointer<Float>,
    pool: WorkerPool
  ) {
    let x = SharedPointer(x)
    let panels = matrix.panels
    eachPanelRange(of: matrix.outFeatures, into: y, pool: pool) { first, count, out in
      pool.kernels.gemvIntPanels(out, x: x.pointer, by: panels, panels: first..<first + count)
    }
  }

  /// Shares the panels of a matrix among the threads. The kernels write whole panels, so the last panel of a matrix whose
  /// outputs do not fill it goes through a buffer.
  static func eachPanelRange(
    of outFeatures: Int, into y: UnsafeMutablePointer<Float>, pool: WorkerPool,
    _ body: @Sendable (_ firstPanel: Int, _ count: Int, UnsafeMutablePointer<Float>) -> Void
  ) {
    let panels = (outFeatures + panelWidth - 1) / panelWidth
    let whole = outFeatures / panelWidth
    let y = DisjointWrites(y)
    pool.runRanges(panels, grain: 8) { range in
      let full = min(range.upperBound, whole)
      if full > range.lowerBound {
        body(range.lowerBound, full - range.lowerBound, y.pointer + range.lowerBound * panelWidth)
      }
      if range.upperBound > whole {
        Scratch.withFloats(panelWidth) { last in
          body(whole, 1, last)
          (y.pointer + whole * panelWidth).update(from: last, count: outFeatures - whole * panelWidth)
        }
      }
    }
  }
}

extension WeightMatrix {
  /// The elements of a matrix in panels of fp32, which are multiplied where they are; nil: another matrix.
  fileprivate var panelFloats: SharedPointer<Float>? {
    guard case .panels(let matrix) = self, matrix.dtype == .f32 else { return nil }
    return SharedPointer(matrix.elements.assumingMemoryBound(to: Float.self))
  }
}

extension DType {
  /// The kernels' name of a float type they read.
  package var kernelType: KernelType {
    switch self {
    case .f32: .f32
    case .f16: .f16
    case .bf16: .bf16
    default: preconditionFailure("not a type the kernels read: \(self)")
    }
  }
}
