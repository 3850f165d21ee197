import Architecture
import Compute

extension LayerSteps {
  /// The attention that each token receives: of all queries and heads of its sequence, the sum of the probabilities that stand in
  /// its column. Memory grows with the length, not with its square: scores exist for one block at a time, and are computed once
  /// for the greatest and the sum of each row, and again for the probabilities.
  /// - Parameters:
  ///   - qkv: `[rows, qkvWidth]`, as ``BlockStep/queriesKeysValues`` leaves it; queries and keys are rotated in place.
  ///   - sequences: whole prompts, which overwrite what their caches have of the layer.
  /// - Returns: `[rows]`.
  package func attentionReceived(
    _ qkv: UnsafeMutablePointer<Float>, sequences: [SequenceSlice], layer: Int
  ) -> [Float] {
    let rows = storeKeys(qkv, sequences: sequences, layer: layer)
    let c = configuration
    let count = rows.map { $0.firstRow + $0.rowCount }.max() ?? 0
    // A task for each head of each sequence, which adds up in a fixed order.
    let heads = AlignedBuffer<Float>(zeros: c.attentionHeads * count)
    let shared = SharedPointer(qkv)
    withExtendedLifetime(sequences) {
      pool.run(rows.count * c.attentionHeads) { task in
        let (sequence, head) = (rows[task / c.attentionHeads], task % c.attentionHeads)
        addProbabilities(
          of: shared.pointer + sequence.firstRow * c.qkvWidth + c.queryOffset(head), sequence,
          kvHead: head / c.queriesPerKV, to: heads.pointer + head * count + sequence.firstRow)
      }
    }
    return (0..<count).map { row in (0..<c.attentionHeads).reduce(0) { $0 + heads[$1 * count + row] } }
  }

  /// The columns of one head.
  private func addProbabilities(
    of queries: UnsafePointer<Float>, _ sequence: StoredRows, kvHead: Int,
    to sums: UnsafeMutablePointer<Float>
  ) {
    let c = configuration
    let kernels = pool.kernels
    let type = sequence.cache.type
    precondition(!type.hasBlocks, "a query of another block sees other forms of keys")
    let segments = sequence.cache.segments(head: kvHead, position: 0, end: sequence.rowCount)
    let reader = CacheReader(segment: segments[0], configuration: c, kernels: kernels)
    let block = LayerSteps.keyBlock
    let most = LayerSteps.queryBlock
    let scale = 1 / Float(c.headDim).squareRoot()
    Scratch.withFloats(
      most * (block + 2) + CacheReader.scratchFloats(rows: most, type: type, configuration: c)
    ) { memory in
      let (scores, highest) = (memory, memory + most * block)
      let (total, scratch) = (highest + most, highest + 2 * most)
      for firstRow in stride(from: 0, to: sequence.rowCount, by: most) {
        let rows = min(most, sequence.rowCount - firstRow)
        for row in 0..<rows { (highest[row], total[row]) = (-.infinity, 0) }
        for isSecond in [false, true] {
          for firstKey in stride(from: 0, to: firstRow + rows, by: block) {
            let count = min(block, firstRow + rows - firstKey)
            reader.scores(
              queries + firstRow * c.qkvWidth, rows: rows, rowStride: c.qkvWidth, firstKey: firstKey,
              count: count, into: scores, scratch: scratch)
            for row in 0..<rows {
              let line = scores + row * block
              let visible = min(count, firstRow + row + 1 - firstKey)
              guard visible > 0 else { continue }
              kernels.scale(line, by: scale, count: visible)
              if isSecond {
                _ = kernels.expSum(line, shift: highest[row], count: visible)
                kernels.scale(line, by: 1 / total[row], count: visible)
                kernels.add(sums + firstKey, line, count: visible)
              } else {
                let maximum = kernels.maximum(line, count: visible)
                if maximum > highest[row] {
                  var correction = highest[row]
                  if total[row] > 0 {
                    _ = kernels.expSum(&correction, shift: maximum, count: 1)
                    total[row] *= correction
                  }
                  highest[row] = maximum
                }
                total[row] += kernels.expSum(line, shift: highest[row], count: visible)
              }
            }
          }
        }
      }
    }
  }
}
