import Compute

/// How attention is computed.
package enum AttentionArithmetic: Sendable {
  /// In fp32: scores, probabilities and their products with values.
  case exact
  /// Queries, keys, probabilities and values rounded to bf16, sums in fp32: twice as fast on processors that multiply pairs of
  /// bf16, and the same bits on all.
  case fast
}

extension LayerSteps {
  /// Rows of queries and columns of keys of one block of scores. Key blocks start at fixed positions, so a token's result
  /// does not depend on how many tokens are processed with it. 48 is a whole number of tiles on every instruction set. A
  /// larger block would widen a half-precision cache less often, but multiply more keys that the mask discards.
  static let queryBlock = 48
  static let keyBlock = 512
  /// Rows of queries that share the copies of keys and values of a block in `fast` arithmetic. More would leave too little of a
  /// second-level cache of 512 KB to them.
  static let fastRows = 192

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

    func prefix(_ count: Int) -> StoredRows {
      StoredRows(
        firstRow: firstRow, rowCount: min(count, rowCount), firstPosition: firstPosition, cache: cache)
    }
    func dropFirst(_ count: Int) -> StoredRows {
      StoredRows(
        firstRow: firstRow + count, rowCount: rowCount - count, firstPosition: firstPosition + count,
        cache: cache)
    }
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

  /// Stores what can be attended to together, all of it but with ``KVCacheType/int4``.
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

  /// ``attend(_:sequences:layer:into:)`` for prompts: all keys are stored, then blocks of queries of each head are tasks. A cache
  /// that has room for few tokens in half precision takes a part of a prompt after the other.
  private func attendBlocks(
    _ qkv: UnsafeMutablePointer<Float>, sequences: [StoredRows], tables: RotaryEmbedding.Tables,
    into out: UnsafeMutablePointer<Float>
  ) {
    var rest = sequences
    while !rest.isEmpty {
      let parts = rest.map { $0.prefix($0.cache.tokensAtOnce(from: $0.firstPosition)) }
      storeKeys(qkv, sequences: parts, tables: tables)
      encodeBlocks(of: parts)
      attendParts(qkv, sequences: parts, into: out)
      rest = zip(rest, parts).map { $0.dropFirst($1.rowCount) }.filter { $0.rowCount > 0 }
    }
  }

  /// Makes codes of the blocks that have become whole.
  private func encodeBlocks(of sequences: [StoredRows]) {
    var tasks: [(sequence: Int, block: Int)] = []
    for (index, sequence) in sequences.enumerated() {
      let blocks = sequence.cache.completedBlocks(
        from: sequence.firstPosition, to: sequence.firstPosition + sequence.rowCount)
      tasks += blocks.map { (index, $0) }
    }
    let heads = configuration.kvHeads
    pool.run(tasks.count * heads) { [tasks] index in
      let (sequence, block) = tasks[index / heads]
      sequences[sequence].cache.encode(head: index % heads, block: block, kernels: pool.kernels)
    }
  }

  private func attendParts(
    _ qkv: UnsafeMutablePointer<Float>, sequences: [StoredRows], into out: UnsafeMutablePointer<Float>
  ) {
    let (qkv, out) = (DisjointWrites(qkv), DisjointWrites(out))
    // One task for each block of queries of each head, of all heads that share keys in `fast` arithmetic; the longest (last) blocks
    // first.
    struct Task {
      var sequence: Int, head: Int, rows: Range<Int>
    }
    let c = configuration
    let isFast = arithmetic == .fast
    let heads = isFast ? c.kvHeads : c.attentionHeads
    var tasks: [Task] = []
    for (index, sequence) in sequences.enumerated() {
      for rows in queryBlocks(of: sequence).reversed() {
        for head in 0..<heads { tasks.append(Task(sequence: index, head: head, rows: rows)) }
      }
    }
    pool.run(tasks.count) { [tasks] index in
      let task = tasks[index]
      let sequence = sequences[task.sequence]
      let row = sequence.firstRow + task.rows.lowerBound
      let position = sequence.firstPosition + task.rows.lowerBound
      let group = isFast ? c.queriesPerKV : 1
      let head = task.head * group
      attendBlock(
        QueryBlock(
          queries: qkv + (row * c.qkvWidth + c.queryOffset(head)), rows: task.rows.count * group,
          group: group,
          tokenStride: c.qkvWidth, headStride: c.headDim, firstPosition: position,
          out: out + (row * c.attentionWidth + head * c.headDim), outTokenStride: c.attentionWidth,
          outHeadStride: c.headDim),
        head: head / c.queriesPerKV, of: sequence.cache)
    }
  }

  /// The rows of a sequence in blocks. Those of a cache with blocks see the same of it.
  private func queryBlocks(of sequence: StoredRows) -> [Range<Int>] {
    var step = LayerSteps.queryBlock
    if arithmetic == .fast {
      step = max(1, LayerSteps.fastRows / configuration.queriesPerKV)
      // Enough tasks for all threads.
      let share = sequence.rowCount * configuration.kvHeads / (4 * pool.threadCount)
      step = max(min(step, 16), min(step, share))
    }
    var blocks: [Range<Int>] = []
    var row = 0
    while row < sequence.rowCount {
      var end = min(row + step, sequence.rowCount)
      if sequence.cache.type.hasBlocks {
        end = min(end, row + keyValueBlock - (sequence.firstPosition + row) % keyValueBlock)
      }
      blocks.append(row..<end)
      row = end
    }
    return blocks
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
      let rows = sequences[sequence]
      rotateAndStore(qkv.pointer, row: 0, kvHead: head, of: rows, tables: tables)
      for block in rows.cache.completedBlocks(from: rows.firstPosition, to: rows.firstPosition + 1) {
        rows.cache.encode(head: head, block: block, kernels: pool.kernels)
      }
    }
    @Sendable func attend(_ sequence: Int, head: Int, queries: Range<Int>) {
      let sequence = sequences[sequence]
      let first = head * c.queriesPerKV + queries.lowerBound
      attendBlock(
        QueryBlock(
          queries: qkv + (sequence.firstRow * c.qkvWidth + c.queryOffset(first)), rows: queries.count,
          group: queries.count, tokenStride: 0, headStride: c.headDim, firstPosition: sequence.firstPosition,
          out: out + (sequence.firstRow * c.attentionWidth + first * c.headDim), outTokenStride: 0,
          outHeadStride: c.headDim),
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

  /// Queries that see keys of the same head: of tokens that follow each other, `group` heads of each.
  private struct QueryBlock {
    /// `rows` queries; that of row r is at `r / group * tokenStride + r % group * headStride`.
    let queries: UnsafePointer<Float>
    let rows, group, tokenStride, headStride: Int
    /// Of the first query's token.
    let firstPosition: Int
    let out: UnsafeMutablePointer<Float>
    let outTokenStride, outHeadStride: Int

    /// How many keys a query sees: its own token's and those before.
    func visible(_ row: Int) -> Int { firstPosition + row / group + 1 }

    /// The distance of rows, which are of one token or of one head.
    var rowStride: Int { group == rows ? headStride : tokenStride }
    var outStride: Int { group == rows ? outHeadStride : outTokenStride }
  }

  /// - Parameter head: of the keys.
  private func attendBlock(_ query: QueryBlock, head: Int, of cache: LayerCacheView) {
    let segments = cache.segments(
      head: head, position: query.firstPosition, end: query.visible(query.rows - 1))
    guard arithmetic == .fast else {
      attendExactly(query, to: segments, type: cache.type)
      return
    }
    pool.kernels.attend(
      AttentionJob(
        rows: query.rows, group: query.group, firstVisible: query.firstPosition + 1,
        headDim: configuration.headDim, paddedHeadDim: cache.paddedHeadDim, queries: query.queries,
        tokenStride: query.tokenStride, headStride: query.headStride, out: query.out,
        outTokenStride: query.outTokenStride, outHeadStride: query.outHeadStride), to: segments)
  }

  private func attendExactly(_ query: QueryBlock, to segments: KeyValueSegments, type: KVCacheType) {
    let c = configuration
    let kernels = pool.kernels
    let rows = query.rows
    let scale = 1 / Float(c.headDim).squareRoot()
    let sumWidth = LayerCache.paddedHeadDim(c)
    let block = LayerSteps.keyBlock
    let scratchFloats = CacheReader.scratchFloats(rows: rows, type: type, configuration: c)

    Scratch.withFloats(rows * (block + sumWidth + 2) + scratchFloats) { memory in
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
      for index in 0..<segments.count {
        let segment = segments[index]
        let reader = CacheReader(segment: segment, configuration: c, kernels: kernels)
        for firstKey in stride(from: 0, to: segment.count, by: block) {
          let count = min(block, segment.count - firstKey)
          reader.scores(
            query.queries, rows: rows, rowStride: query.rowStride, firstKey: firstKey, count: count,
            into: scores, scratch: scratch)
          for row in 0..<rows {
            let line = scores + row * block
            // Causal: a token sees itself and what came before.
            let visible = min(count, query.visible(row) - segment.first - firstKey)
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
      }
      for row in 0..<rows {
        let line = query.out + row * query.outStride
        line.update(from: sums + row * sumWidth, count: c.headDim)
        kernels.scale(line, by: 1 / total[row], count: c.headDim)
      }
    }
  }
}
