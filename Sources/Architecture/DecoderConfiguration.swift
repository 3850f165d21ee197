/// The shape and constants of a decoder, whatever file they came from.
package struct DecoderConfiguration: Equatable, Sendable {
  /// In which order the rows of the attention's input projections stand in one output row.
  package enum QKVLayout: Equatable, Sendable {
    /// Zhinao: per key/value head its queries, then its key, then its value: `[kvHeads, queriesPerKV + 2, headDim]`.
    case interleaved
    /// Llama, Qwen2: all queries, all keys, all values.
    case separate
  }

  package var hiddenSize: Int
  package var intermediateSize: Int
  package var layerCount: Int
  package var attentionHeads: Int
  package var kvHeads: Int
  package var headDim: Int
  package var vocabularySize: Int
  package var contextLength: Int
  package var rmsNormEps: Float
  package var rotary: RotaryParameters
  package var qkvLayout: QKVLayout
  /// Logits are multiplied with it; 1 in every released model.
  package var logitScale: Float

  package init(
    hiddenSize: Int, intermediateSize: Int, layerCount: Int, attentionHeads: Int, kvHeads: Int, headDim: Int,
    vocabularySize: Int, contextLength: Int, rmsNormEps: Float, rotary: RotaryParameters,
    qkvLayout: QKVLayout,
    logitScale: Float = 1
  ) {
    self.hiddenSize = hiddenSize
    self.intermediateSize = intermediateSize
    self.layerCount = layerCount
    self.attentionHeads = attentionHeads
    self.kvHeads = kvHeads
    self.headDim = headDim
    self.vocabularySize = vocabularySize
    self.contextLength = contextLength
    self.rmsNormEps = rmsNormEps
    self.rotary = rotary
    self.qkvLayout = qkvLayout
    self.logitScale = logitScale
  }

  package var queriesPerKV: Int { attentionHeads / kvHeads }
  /// Columns of queries, keys and values of one token.
  package var qkvWidth: Int { (attentionHeads + 2 * kvHeads) * headDim }
  package var attentionWidth: Int { attentionHeads * headDim }

  /// First column of query head `head` in a row of queries, keys and values.
  package func queryOffset(_ head: Int) -> Int {
    switch qkvLayout {
    case .interleaved: (head / queriesPerKV * (queriesPerKV + 2) + head % queriesPerKV) * headDim
    case .separate: head * headDim
    }
  }
  package func keyOffset(_ head: Int) -> Int {
    switch qkvLayout {
    case .interleaved: (head * (queriesPerKV + 2) + queriesPerKV) * headDim
    case .separate: (attentionHeads + head) * headDim
    }
  }
  package func valueOffset(_ head: Int) -> Int {
    switch qkvLayout {
    case .interleaved: (head * (queriesPerKV + 2) + queriesPerKV + 1) * headDim
    case .separate: (attentionHeads + kvHeads + head) * headDim
    }
  }
}
