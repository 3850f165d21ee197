import Compute

extension LayerSteps {
  /// Rows of queries and columns of keys of one block of scores. Key blocks start at fixed positions, so a token's result
  /// does not depend on how many tokens are processed with it. 48 is a whole number of tiles on every instruction set. A
  /// larger block would widen a half-precision cache less often, but multiply more keys that the mask discards.
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
    let rows = storedRows(sequences, layer: layer)
    let tables = rotary.tables
    withExtendedLifetime(sequences) {
      if rows.allSatisfy({ $0.rowCount == 1 }) {
        rows.withUnsafeBufferPointer { attendRows(qkv, sequences: $0, tables: tables, into: out) }
      } else {
        attendBlocks(qkv, sequences: rows, tables: tables, into: out)
      }
    }
  }

  /// A ``SequenceSlice`` and the layer of its cache at hand, without references to count.
  struct StoredRows: Sendable {
    let firstRow, rowCount, firstPosition: Int
    let cache: LayerCacheView
  }

  /// Also makes the tables of rotation long enough.
  private func storedRows(_ sequences: [SequenceSlice], layer: Int) -> [StoredRows] {
    for sequence in sequences {
      rotary.prepare(sequence.firstPosition..<sequence.firstPosition + sequence.rowCount)
    }
    return sequences.map {
      StoredRows(
        firstRow: $0.firstRow, rowCount: $0.rowCount, firstPosition: $0.firstPosition,
        cache: $0.cache.layers[layer].view)
    }
  }

  /// Rotates the queries and keys of prompts, in place, and stores keys and values in their caches.
  func storeKeys(_ qkv: UnsafeMutablePointer<Float>, sequences: [SequenceSlice], layer: Int) -> [StoredRows] {
    let rows = storedRows(sequences, layer: layer)
    withExtendedLifetime(sequences) { storeKeys(qkv, sequences: rows, tables: rotary.tables) }
    return rows
  }

  private func storeKeys(
    _ qkv: UnsafeMutablePointer<Float>, sequences: [StoredRows], tables: RotaryEmbedding.Tables
  ) {
    let qkv = DisjointWrites(qkv)
    // Rows of all sequences in one region: while answers are generated, each sequence has one.
    pool.runRanges(sequences.map { $0.firstRow + $0.rowCount }.max() ?? 0) { range in
      for sequence in sequences {
        let rows = range.clamped(to: sequence.firstRow..<sequence.firstRow + sequence.rowCount)
        // One head's neighbouring positions share lines of the cache.
        for first in stride(from: rows.lowerBound, to: rows.upperBound, by: panelWidth) {
          for head in 0..<configuration.kvHeads {
            for row in first..<min(first + panelWidth, rows.upperBound) {
              rotateAndStore(
                qkv.pointer, row: row - sequence.firstRow, kvHead: head, of: sequence, tables: tables)
            }
          }
        }
      }
    }
  }

  /// ``attend(_:sequences:layer:into:)`` for prompts: all keys are stored, then blocks of queries of each head are tasks.
  private func attendBlocks(
    _ qkv: UnsafeMutablePointer<Float>, sequences: [StoredRows], tables: RotaryEmbedding.Tables,
    into out: UnsafeMutablePointer<Float>
  ) {
    storeKeys(qkv, sequences: sequences, tables: tables)
    let (qkv, out) = (DisjointWrites(qkv), DisjointWrites(out))
    // One task for each block of queries of each head; the longest (last) blocks first.
    struct Task {
      var sequence: Int, head: Int, firstRow: Int
    }
    let c = configuration
    var tasks: [Task] = []
    for (index, sequence) in sequences.enumerated() {
      for firstRow in stride(from: 0, to: sequence.rowCount, by: LayerSteps.queryBlock).reversed() {
        for head in 0..<configuration.attentionHeads {
          tasks.append(Task(sequence: index, head: head, firstRow: firstRow))
        }
      }
    }
    pool.run(tasks.count) { [tasks] index in
      let task = tasks[index]
      let sequence = sequences[task.sequence]
      let row = sequence.firstRow + task.firstRow
      attendBlock(
        QueryBlock(
          queries: qkv + (row * c.qkvWidth + c.queryOffset(task.head)),
          rows: min(LayerSteps.queryBlock, sequence.rowCount - task.firstRow), rowStride: c.qkvWidth,
          firstPosition: sequence.firstPosition + task.firstRow, isOneToken: false,
          out: out + (row * c.attentionWidth + task.head * c.headDim), outStride: c.attentionWidth),
        head: task.head / c.queriesPerKV, of: sequence.cache)
    }
  }

  /// Multiplications of one token's attention up to which one thread is done before another would have joined it.
  private static let fewProducts = 100_000

  /// ``attend(_:sequences:layer:into:)`` when each sequence has one row, as while answers are generated: one loop, whose
  /// tasks store a key and attend to it.
  private func attendRows(
    _ qkv: UnsafeMutablePointer<Float>, sequences: UnsafeBufferPointer<StoredRows>,
    tables: RotaryEmbedding.Tables,
    into out: UnsafeMutablePointer<Float>
  ) {
    let c = configuration
    let pairs = sequences.count * c.kvHeads
    let keys = sequences.reduce(0) { $0 + $1.firstPosition + 1 }
    guard let first = sequences.baseAddress else { return }
    let sequences = SharedPointer(first)
    let (qkv, out) = (DisjointWrites(qkv), DisjointWrites(out))
    @Sendable func store(_ sequence: Int, head: Int) {
      rotateAndStore(qkv.pointer, row: 0, kvHead: head, of: sequences[sequence], tables: tables)
    }
    @Sendable func attend(_ sequence: Int, head: Int, queries: Range<Int>) {
      let sequence = sequences[sequence]
      let first = head * c.queriesPerKV + queries.lowerBound
      attendBlock(
        QueryBlock(
          queries: qkv + (sequence.firstRow * c.qkvWidth + c.queryOffset(first)), rows: queries.count,
          rowStride: c.headDim, firstPosition: sequence.firstPosition, isOneToken: true,
          out: out + (sequence.firstRow * c.attentionWidth + first * c.headDim), outStride: c.headDim),
        head: head, of: sequence.cache)
    }
    if 2 * keys * c.attentionWidth <= LayerSteps.fewProducts {
      for pair in 0..<pairs {
        store(pair / c.kvHeads, head: pair % c.kvHeads)
        attend(pair / c.kvHeads, head: pair % c.kvHeads, queries: 0..<c.queriesPerKV)
      }
      return
    }
    let parts = LayerSteps.queryParts(
      pairs: pairs, queriesPerKV: c.queriesPerKV, threads: pool.threadCount)
    if parts > 1 {
      for pair in 0..<pairs { store(pair / c.kvHeads, head: pair % c.kvHeads) }
    }
    pool.run(pairs * parts) { task in
      let (pair, part) = (task / parts, task % parts)
      let (sequence, head) = (pair / c.kvHeads, pair % c.kvHeads)
      if parts == 1 { store(sequence, head: head) }
      attend(
        sequence, head: head,
        queries: c.queriesPerKV * part / parts..<c.queriesPerKV * (part + 1) / parts)
    }
  }

  /// Into how many parts to cut the queries of each of `pairs` of a sequence and a head of keys. Together they read the keys
  /// once, so they are cut only when threads would have nothing to do.
  static func queryParts(pairs: Int, queriesPerKV: Int, threads: Int) -> Int {
    min(queriesPerKV, max(1, (threads + pairs - 1) / pairs))
  }

  /// Rotates the queries and the key that belong to one key/value head, and stores the key and the value.
  private func rotateAndStore(
    _ qkv: UnsafeMutablePointer<Float>, row: Int, kvHead: Int, of sequence: StoredRows,
    tables: RotaryEmbedding.Tables
  ) {
    let c = configuration
    let kernels = pool.kernels
    let position = sequence.firstPosition + row
    let token = qkv + (sequence.firstRow + row) * c.qkvWidth
    let cosines = tables.cosines(at: position)
    let sines = tables.sines(at: position)
    let rotaryDim = c.rotary.rotaryDim
    for head in kvHead * c.queriesPerKV..<(kvHead + 1) * c.queriesPerKV {
      kernels.rotate(token + c.queryOffset(head), cosines: cosines, sines: sines, rotaryDim: rotaryDim)
    }
    let key = token + c.keyOffset(kvHead)
    kernels.rotate(key, cosines: cosines, sines: sines, rotaryDim: rotaryDim)
    sequence.cache.store(
      head: kvHead, position: position, key: key, value: token + c.valueOffset(kvHead),
      kernels: kernels)
  }

  /// Queries that see keys of the same head: of one head and tokens that follow each other, or of one token and the heads
  /// that share the keys.
  private struct QueryBlock {
    /// `rows` queries, `rowStride` floats apart.
    let queries: UnsafePointer<Float>
    let rows, rowStride: Int
    /// Of the first query's token.
    let firstPosition: Int
    /// Whether all are at that position.
    let isOneToken: Bool
    let out: UnsafeMutablePointer<Float>
    let outStride: Int

    /// How many keys a query sees: its own token's and those before.
    func visible(_ row: Int) -> Int { firstPosition + (isOneToken ? 0 : row) + 1 }
  }

  /// - Parameter head: of the keys.
  private func attendBlock(_ query: QueryBlock, head: Int, of cache: LayerCacheView) {
    let c = configuration
    let kernels = pool.kernels
    let rows = query.rows
    let reader = CacheReader(cache: cache, head: head, configuration: c, kernels: kernels)
    let keyCount = query.visible(rows - 1)
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
          query.queries, rows: rows, rowStride: query.rowStride, firstKey: firstKey, count: count,
          into: scores, scratch: scratch)
        for row in 0..<rows {
          let line = scores + row * block
          // Causal: a token sees itself and what came before.
          let visible = min(count, query.visible(row) - firstKey)
          guard visible > 0 else {
            for index in 0..<count { line[index] = 0 }
            continue
          }
          kernels.scale(line, by: scale, count: visible)
          let most = kernels.maximum(line, count: visible)
          if most > highest[row] {
            if highest[row] > -.infinity {
              var correction: Float = highest[row]
              _ = kernels.expSum(&correction, shift: most, count: 1)
              kernels.scale(sums + row * sumWidth, by: correction, count: sumWidth)
              total[row] *= correction
            }
            highest[row] = most
          }
          total[row] += kernels.expSum(line, shift: highest[row], count: visible)
          for index in visible..<max(visible, count) { line[index] = 0 }
        }
        reader.addValues(
          scores, rows: rows, firstKey: firstKey, count: count, into: sums, sumWidth: sumWidth,
          scratch: scratch)
      }
      for row in 0..<rows {
        let line = query.out + row * query.outStride
        line.update(from: sums + row * sumWidth, count: c.headDim)
        kernels.scale(line, by: 1 / total[row], count: c.headDim)
      }
    }
  }
}
