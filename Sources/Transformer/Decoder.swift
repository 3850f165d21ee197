import Architecture
import Compute
import Tensors

/// A decoder-only transformer: Zhinao, Llama and Qwen2 are configurations of it.
///
/// Pre-norm blocks, `x += o(attention(rms(x)))`, `x += down(silu(gate(y)) · up(y))` with `y = rms(x)`, a final norm, and
/// a head. Arithmetic is fp32 whatever the weights are stored as.
package final class Decoder: LanguageModel {
  package let configuration: DecoderConfiguration
  /// `[vocabularySize, hiddenSize]`; the head's own matrix when the two are tied.
  package let embedding: WeightMatrix
  package let layers: [DecoderLayer]
  /// `[hiddenSize]`
  package let finalNorm: AlignedBuffer<Float>
  package let head: Linear
  package let steps: LayerSteps

  package init(
    configuration: DecoderConfiguration, embedding: WeightMatrix, layers: [DecoderLayer],
    finalNorm: AlignedBuffer<Float>, head: Linear, pool: WorkerPool = .shared
  ) {
    precondition(layers.count == configuration.layerCount)
    self.configuration = configuration
    self.embedding = embedding
    self.layers = layers
    self.finalNorm = finalNorm
    self.head = head
    steps = LayerSteps(
      configuration: configuration, rotary: RotaryEmbedding(configuration.rotary), pool: pool)
  }

  package var vocabularySize: Int { configuration.vocabularySize }
  package var contextLength: Int { configuration.contextLength }

  package func makeCache(capacity: Int, type: KVCacheType) -> KVCache {
    KVCache(configuration: configuration, capacity: capacity, type: type)
  }

  package func hiddenStates(batch: [(tokens: [Int], cache: KVCache)]) -> AlignedBuffer<Float> {
    let x = embed(batch.flatMap(\.tokens))
    var slices: [SequenceSlice] = []
    var row = 0
    for (tokens, cache) in batch {
      precondition(cache.count + tokens.count <= cache.capacity, "the cache has no room for the tokens")
      slices.append(
        SequenceSlice(firstRow: row, rowCount: tokens.count, firstPosition: cache.count, cache: cache))
      row += tokens.count
    }
    let work = LayerBuffers(configuration, rows: row)
    for (index, layer) in layers.enumerated() {
      run(layer, index: index, x: x, sequences: slices, work: work)
      if index + 1 < layers.count {
        layers[index + 1].qkv.announce(pool: steps.pool)
      } else {
        Linear.announce(head, outputs: head.outFeatures, pool: steps.pool)
      }
    }
    for (tokens, cache) in batch { cache.count += tokens.count }
    steps.normalize(x.pointer, weight: finalNorm, rows: row, into: x.pointer)
    return x
  }

  /// Independent windows, each from position 0, nothing kept: `[tokens, hiddenSize]`.
  package func hiddenStates(windows: [[Int]], cacheType: KVCacheType = .f32) -> AlignedBuffer<Float> {
    let batch = windows.map {
      (
        $0,
        KVCache(configuration: configuration, capacity: max(1, $0.count), type: cacheType, retaining: false)
      )
    }
    return hiddenStates(batch: batch)
  }

  package func logits(_ hidden: AlignedBuffer<Float>, rows: Range<Int>) -> AlignedBuffer<Float> {
    let y = AlignedBuffer<Float>(count: rows.count * vocabularySize)
    head.apply(
      hidden.pointer + rows.lowerBound * configuration.hiddenSize, rows: rows.count, into: y.pointer,
      yRowStride: vocabularySize, pool: steps.pool)
    layers.first?.qkv.announce(pool: steps.pool)
    if configuration.logitScale != 1 {
      steps.pool.kernels.scale(y.pointer, by: configuration.logitScale, count: y.count)
    }
    return y
  }

  /// Rows of the embedding: `[tokens.count, hiddenSize]`.
  package func embed(_ tokens: [Int]) -> AlignedBuffer<Float> {
    let width = configuration.hiddenSize
    let x = AlignedBuffer<Float>(count: tokens.count * width)
    let kernels = steps.pool.kernels
    steps.pool.runRanges(tokens.count, grain: 16) { range in
      for row in range {
        embedding.copyRow(tokens[row], into: x.pointer + row * width, kernels: kernels)
      }
    }
    return x
  }

  /// One whole block, in place on x `[rows, hiddenSize]`.
  package func run(
    _ layer: DecoderLayer, index: Int, x: AlignedBuffer<Float>, sequences: [SequenceSlice], work: LayerBuffers
  ) {
    let rows = BlockRows(x: x.pointer, count: work.rows, sequences: sequences, work: work)
    for step in BlockStep.allCases { steps.run(step, of: layer, index: index, on: rows) }
  }
}

/// Working memory of one block for `rows` tokens.
package final class LayerBuffers: Sendable {
  package let rows: Int
  package let normed: AlignedBuffer<Float>
  package let qkv: AlignedBuffer<Float>
  package let attention: AlignedBuffer<Float>
  package let gate: AlignedBuffer<Float>
  package let up: AlignedBuffer<Float>

  package init(_ c: DecoderConfiguration, rows: Int) {
    self.rows = rows
    normed = AlignedBuffer(count: rows * c.hiddenSize)
    qkv = AlignedBuffer(count: rows * c.qkvWidth)
    attention = AlignedBuffer(count: rows * c.attentionWidth)
    gate = AlignedBuffer(count: rows * c.intermediateSize)
    up = AlignedBuffer(count: rows * c.intermediateSize)
  }
}
