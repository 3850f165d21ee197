import Compute

extension Decoder {
  /// Runs sequences that begin with the same tokens, from where `prefix` ends, and keeps nothing of them. Their keys and values
  /// take the memory of one layer, whatever the number of layers.
  /// - Parameters:
  ///   - continuations: for each sequence its ids after the prefix, in `0 ..< vocabularySize`; none is empty.
  ///   - prefix: holds what all of them begin with, and is left as it is; nil: they begin at position 0.
  /// - Returns: the states after the last block, before the final norm, sequence after sequence: `[tokens, hiddenSize]`. A
  ///   token's state is the same bits as without a prefix, and does not depend on the other sequences.
  package func residualStates(_ continuations: [[Int]], after prefix: KVCache? = nil) -> AlignedBuffer<Float> {
    let shared = prefix?.count ?? 0
    let x = embed(continuations.flatMap { $0 })
    var slices: [SequenceSlice] = []
    var row = 0
    for tokens in continuations {
      precondition(!tokens.isEmpty, "a sequence has no tokens of its own")
      let cache = KVCache(
        configuration: configuration, capacity: shared + tokens.count, type: prefix?.type ?? .f32,
        retaining: false)
      slices.append(
        SequenceSlice(firstRow: row, rowCount: tokens.count, firstPosition: shared, cache: cache))
      row += tokens.count
    }
    let work = LayerBuffers(configuration, rows: row)
    for (index, layer) in layers.enumerated() {
      if let prefix, shared > 0 {
        steps.pool.run(slices.count) { [slices] in slices[$0].cache.copyLayer(index, from: prefix) }
      }
      run(layer, index: index, x: x, sequences: slices, work: work)
    }
    return x
  }
}
