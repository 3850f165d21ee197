/// Which rows of one layout of the attention's input projections are which of the other.
package struct QKVRows {
  /// Rows of the fused matrix that are queries, keys and values.
  package let parts: [(kind: ModuleKind, ranges: [Range<Int>])]
  /// Rows of q, k and v one after the other that are the fused matrix.
  package let fused: [Range<Int>]

  package init(_ configuration: DecoderConfiguration) {
    var (interleaved, separate) = (configuration, configuration)
    interleaved.qkvLayout = .interleaved
    separate.qkvLayout = .separate
    func head(_ offset: Int) -> Range<Int> { offset..<offset + configuration.headDim }
    let (heads, kvHeads) = (0..<configuration.attentionHeads, 0..<configuration.kvHeads)
    parts = [
      (.query, heads.map { head(interleaved.queryOffset($0)) }),
      (.key, kvHeads.map { head(interleaved.keyOffset($0)) }),
      (.value, kvHeads.map { head(interleaved.valueOffset($0)) }),
    ]
    let group = configuration.queriesPerKV
    fused = kvHeads.flatMap { kv in
      (kv * group..<(kv + 1) * group).map { head(separate.queryOffset($0)) }
        + [head(separate.keyOffset(kv)), head(separate.valueOffset(kv))]
    }
  }
}

extension QKVRows {
  /// A projection of queries, keys and values that `name` means in the layout which this model does not have.
  package static func module(named name: String, _ configuration: ModelConfiguration) -> ModuleID? {
    var other = configuration
    other.family = configuration.qkvLayout == .interleaved ? .qwen2 : .zhinao
    return TensorIndex(other).module(named: name)
  }
}
