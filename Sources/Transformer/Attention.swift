import CKernels
import Numerics

extension LayerSteps {
  /// Rows of queries and columns of keys of one block of scores. Key blocks start at fixed positions, so a token's result
  /// does not depend on how many tokens are processed with it. Whole tiles of queries on every instruction set; more of
  /// them would widen a cache in half precision less often, and multiply more keys that nobody sees.
  static let queryBlock = 48
  static let keyBlock = 512

  /// Rotates queries and keys, stores keys and values in the caches and attends, causally, within each sequence.
  ///
  /// Scores exist for one block of queries and keys at a time (online softmax: Milakov and Gimelshein,
  /// arXiv:1805.02867), so memory does not grow with the square of the length.
  /// - Parameters:
  ///   - qkv: `[rows, qkvWidth]`; queries and keys are rotated in place.
  ///   - layer: index of the layer, which of the caches' layers to use.
  ///   - out: `[rows, attentionHeads * headDim]`
  package func attend(
    _ qkv: UnsafeMutablePointer<Float>, sequences: [SequenceSlice], layer: Int,
    into out: UnsafeMutablePointer<Float>
  ) {
    for sequence in sequences {
      rotary.prepare(positions: sequence.firstPosition + sequence.rowCount)
    }
    let tables = rotary.tables
    let rows = sequences.map {
      Rows(
        firstRow: $0.firstRow, rowCount: $0.rowCount, firstPosition: $0.firstPosition,
        cache: $0.cache.layers[layer].view)
    }
    withExtendedLifetime(sequences) {
      if rows.allSatisfy({ $0.rowCount == 1 }) {
        rows.withUnsafeBufferPointer { attendRows(qkv, sequences: $0, tables: tables, into: out) }
      } else {
        attendBlocks(qkv, sequences: rows, tables: tables, into: out)
      }
    }
  }

  /// A ``SequenceSlice`` and the layer of its cache at hand, without references to count.
  private struct Rows {
    let firstRow, rowCount, firstPosition: Int
    let cache: LayerCacheView
  }

  /// ``attend(_:sequences:layer:into:)`` for prompts: all keys are stored, then blocks of queries of each head are tasks.
  private func attendBlocks(
    _ qkv: UnsafeMutablePointer<Float>, sequences: [Rows], tables: RotaryEmbedding.Tables,
    into out: UnsafeMutablePointer<Float>
  ) {
    // Rows of all sequences in one region: while answers are generated, each sequence has one.
    pool.runRanges(sequences.map { $0.firstRow + $0.rowCount }.max() ?? 0) { range in
      for sequence in sequences {
        let rows = range.clamped(to: sequence.firstRow..<sequence.firstRow + sequence.rowCount)
        // One head's neighbouring positions share lines of the cache.
        for first in stride(from: rows.lowerBound, to: rows.upperBound, by: panelWidth) {
          for head in 0..<configuration.kvHeads {
            for row in first..<min(first + panelWidth, rows.upperBound) {
              rotateAndStore(qkv, row: row - sequence.firstRow, kvHead: head, of: sequence, tables: tables)
            }
          }
        }
      }
    }
    // One task for each block of queries of each head; the longest (last) blocks first.
    struct Task {
      var sequence: Int, head: Int, firstRow: Int
    }
    var tasks: [Task] = []
    for (index, sequence) in sequences.enumerated() {
      for firstRow in stride(from: 0, to: sequence.rowCount, by: LayerSteps.queryBlock).reversed() {
        for head in 0..<configuration.attentionHeads {
          tasks.append(Task(sequence: index, head: head, firstRow: firstRow))
        }
      }
    }
    pool.run(tasks.count) { index in
      let task = tasks[index]
      attendBlock(
        qkv, sequence: sequences[task.sequence], head: task.head, firstRow: task.firstRow, into: out)
    }
  }

  /// Multiplications of one token's attention up to which one thread is done before another would have joined it.
  private static let fewProducts = 100_000

  /// ``attend(_:sequences:layer:into:)`` when each sequence has one row, as while answers are generated: one loop, whose
  /// tasks store a key and attend to it.
  private func attendRows(
    _ qkv: UnsafeMutablePointer<Float>, sequences: UnsafeBufferPointer<Rows>, tables: RotaryEmbedding.Tables,
    into out: UnsafeMutablePointer<Float>
  ) {
    let (heads, queriesPerKV) = (configuration.kvHeads, configuration.queriesPerKV)
    func store(_ task: Int) {
      rotateAndStore(qkv, row: 0, kvHead: task % heads, of: sequences[task / heads], tables: tables)
    }
    func attend(_ sequence: Int, queriesOf kvHead: Int) {
      for head in kvHead * queriesPerKV..<(kvHead + 1) * queriesPerKV {
        attendBlock(qkv, sequence: sequences[sequence], head: head, firstRow: 0, into: out)
      }
    }
    let tasks = sequences.count * heads
    let keys = sequences.reduce(0) { $0 + $1.firstPosition + 1 }
    if 2 * keys * configuration.attentionWidth <= LayerSteps.fewProducts {
      for task in 0..<tasks {
        store(task)
        attend(task / heads, queriesOf: task % heads)
      }
      return
    }
    if tasks % pool.threadCount != 0 && tasks < 4 * pool.threadCount {
      // Three heads of keys leave one of two threads waiting: keys are stored first, then each query is a task.
      for task in 0..<tasks { store(task) }
      let queries = configuration.attentionHeads
      return pool.run(sequences.count * queries) { task in
        attendBlock(
          qkv, sequence: sequences[task / queries], head: task % queries, firstRow: 0, into: out)
      }
    }
    pool.run(tasks) { task in
      store(task)
      attend(task / heads, queriesOf: task % heads)
    }
  }

  /// Rotates the queries and the key that belong to one key/value head, and stores the key and the value.
  private func rotateAndStore(
    _ qkv: UnsafeMutablePointer<Float>, row: Int, kvHead: Int, of sequence: Rows,
    tables: RotaryEmbedding.Tables
  ) {
    let c = configuration
    let table = Kernels.best.table
    let position = sequence.firstPosition + row
    let token = qkv + (sequence.firstRow + row) * c.qkvWidth
    let cosines = tables.cosines(at: position)
    let sines = tables.sines(at: position)
    let rotaryDim = Int64(c.rotary.rotaryDim)
    for head in kvHead * c.queriesPerKV..<(kvHead + 1) * c.queriesPerKV {
      table.pointee.rotate(token + c.queryOffset(head), cosines, sines, rotaryDim)
    }
    let key = token + c.keyOffset(kvHead)
    table.pointee.rotate(key, cosines, sines, rotaryDim)
    sequence.cache.store(
      head: kvHead, position: position, key: key, value: token + c.valueOffset(kvHead))
  }

  private func attendBlock(
    _ qkv: UnsafeMutablePointer<Float>, sequence: Rows, head: Int, firstRow: Int,
    into out: UnsafeMutablePointer<Float>
  ) {
    let c = configuration
    let table = Kernels.best.table
    let rows = min(LayerSteps.queryBlock, sequence.rowCount - firstRow)
    let reader = CacheReader(
      cache: sequence.cache, head: head / c.queriesPerKV, configuration: c, table: table)
    let queries = qkv + (sequence.firstRow + firstRow) * c.qkvWidth + c.queryOffset(head)
    let firstPosition = sequence.firstPosition + firstRow
    let keyCount = firstPosition + rows
    let scale = 1 / Float(c.headDim).squareRoot()
    let sumWidth = LayerCache.paddedHeadDim(c)
    let block = LayerSteps.keyBlock

    Scratch.withFloats(rows * (block + sumWidth + 2) + reader.scratchFloats(rows: rows)) { memory in
      let scores = memory
      let sums = scores + rows * block
      let highest = sums + rows * sumWidth
      let total = highest + rows
      let scratch = total + rows
      for index in 0..<rows * sumWidth { sums[index] = 0 }
      for row in 0..<rows {
        highest[row] = -.infinity
        total[row] = 0
      }
      for firstKey in stride(from: 0, to: keyCount, by: block) {
        let count = min(block, keyCount - firstKey)
        reader.scores(
          queries, rows: rows, rowStride: c.qkvWidth, firstKey: firstKey, count: count, into: scores,
          scratch: scratch)
        for row in 0..<rows {
          let line = scores + row * block
          // Causal: a token sees itself and what came before.
          let visible = min(count, firstPosition + row + 1 - firstKey)
          guard visible > 0 else {
            for index in 0..<count { line[index] = 0 }
            continue
          }
          table.pointee.scale(line, scale, Int64(visible))
          let most = table.pointee.maximum(line, Int64(visible))
          if most > highest[row] {
            if highest[row] > -.infinity {
              var correction: Float = highest[row]
              _ = table.pointee.exp_sum(&correction, most, 1)
              table.pointee.scale(sums + row * sumWidth, correction, Int64(sumWidth))
              total[row] *= correction
            }
            highest[row] = most
          }
          total[row] += table.pointee.exp_sum(line, highest[row], Int64(visible))
          for index in visible..<max(visible, count) { line[index] = 0 }
        }
        reader.addValues(
          scores, rows: rows, firstKey: firstKey, count: count, into: sums, sumWidth: sumWidth,
          scratch: scratch)
      }
      for row in 0..<rows {
        let line = out + (sequence.firstRow + firstRow + row) * c.attentionWidth + head * c.headDim
        line.update(from: sums + row * sumWidth, count: c.headDim)
        table.pointee.scale(line, 1 / total[row], Int64(c.headDim))
      }
    }
  }
}
