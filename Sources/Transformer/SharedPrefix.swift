import Compute

extension Decoder {
  /// Runs sequences that begin with the same tokens, from where `prefix` ends, and keeps nothing of them. Their keys and values
  /// take the memory of one layer, whatever the number of layers.
  /// - Parameters:
  ///   - continuations: for each sequence its ids after the prefix, in `0 ..< vocabularySize`; none is empty.
  ///   - prefix: holds what all of them begin with, and is left as it is; nil: they begin at position 0.
  /// - Returns: the states after the last block, before the final norm, sequence after sequence: `[tokens, hiddenSize]`. A
  ///   token's state is the same bits as without a prefix, and does not depend on the other sequences.
  package func residualStates(_ continuations: [[Int]], after prefix: KVCache? = nil) -> AlignedBuffer<Float>
  {
    residualStates(continuations.map { ($0, prefix) })
  }

  /// Runs sequences, each from where its own prefix ends, and keeps nothing of them.
  /// - Parameter continuations: for each sequence its ids after the prefix, not empty, and the cache that holds what it begins
  ///   with; nil: it begins at position 0. Several may have the same prefix. All prefixes are stored as one type.
  /// - Returns: the states after the last block, before the final norm, sequence after sequence: `[tokens, hiddenSize]`.
  package func residualStates(_ continuations: [(tokens: [Int], prefix: KVCache?)]) -> AlignedBuffer<Float> {
    let x = embed(continuations.flatMap(\.tokens))
    var slices: [SequenceSlice] = []
    var row = 0
    for (tokens, prefix) in continuations {
      precondition(!tokens.isEmpty, "a sequence has no tokens of its own")
      let shared = prefix?.count ?? 0
      let cache = KVCache(
        configuration: configuration, capacity: shared + tokens.count, type: prefix?.type ?? .f32,
        retaining: false)
      slices.append(
        SequenceSlice(firstRow: row, rowCount: tokens.count, firstPosition: shared, cache: cache))
      row += tokens.count
    }
    let work = LayerBuffers(configuration, rows: row)
    let prefixes = continuations.map(\.prefix)
    for (index, layer) in layers.enumerated() {
      steps.pool.run(slices.count) { [slices] in
        if let prefix = prefixes[$0], prefix.count > 0 { slices[$0].cache.copyLayer(index, from: prefix) }
      }
      run(layer, index: index, x: x, sequences: slices, work: work)
    }
    return x
  }

  /// The same with the final norm, which logits are made from.
  package func hiddenStates(_ continuations: [(tokens: [Int], prefix: KVCache?)]) -> AlignedBuffer<Float> {
    let x = residualStates(continuations)
    steps.normalize(
      x.pointer, weight: finalNorm, rows: continuations.reduce(0) { $0 + $1.tokens.count }, into: x.pointer)
    return x
  }
}
