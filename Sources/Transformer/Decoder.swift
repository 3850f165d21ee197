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
  /// Other weights that sequences may be computed with instead of `layers`, `finalNorm` and `head`: those that an adapter makes of
  /// them. ``KVCache/variant`` says which.
  package let variants: [DecoderWeights]
  package let steps: LayerSteps

  package init(
    configuration: DecoderConfiguration, embedding: WeightMatrix, layers: [DecoderLayer],
    finalNorm: AlignedBuffer<Float>, head: Linear, variants: [DecoderWeights] = [],
    attention: AttentionArithmetic = .exact, pool: WorkerPool = .shared
  ) {
    precondition(layers.count == configuration.layerCount)
    precondition(variants.allSatisfy { $0.layers.count == configuration.layerCount })
    self.variants = variants
    self.configuration = configuration
    self.embedding = embedding
    self.layers = layers
    self.finalNorm = finalNorm
    self.head = head
    steps = LayerSteps(
      configuration: configuration, rotary: RotaryEmbedding(configuration.rotary), pool: pool,
      arithmetic: attention)
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
    let parts = parts(slices.map { ($0.cache.variant, $0.rowCount) })
    for index in layers.indices {
      if parts.count < 2 {
        let layer = parts.first?.weights.layers[index] ?? layers[index]
        run(layer, index: index, x: x, sequences: slices, work: work)
      } else {
        let rows = BlockRows(x: x.pointer, count: row, sequences: slices, work: work)
        let layers = parts.map { ($0.weights.layers[index], $0.rows) }
        for step in BlockStep.allCases { steps.run(step, of: layers, index: index, on: rows) }
      }
      if index + 1 < layers.count {
        layers[index + 1].qkv.announce(pool: steps.pool)
      } else {
        Linear.announce(head, outputs: head.outFeatures, pool: steps.pool)
      }
    }
    for (tokens, cache) in batch { cache.append(tokens.count) }
    let width = configuration.hiddenSize
    for part in parts {
      let first = x.pointer + part.rows.lowerBound * width
      steps.normalize(first, weight: part.weights.finalNorm, rows: part.rows.count, into: first)
    }
    return x
  }

  /// Successive rows that are computed with the same weights.
  /// - Parameter sequences: the variant of each and its number of rows.
  private func parts(_ sequences: [(variant: Int, rowCount: Int)]) -> [(
    weights: DecoderWeights, rows: Range<Int>
  )] {
    var parts: [(variant: Int, rows: Range<Int>)] = []
    var row = 0
    for (variant, rowCount) in sequences where rowCount > 0 {
      if let last = parts.last, last.variant == variant {
        parts[parts.count - 1].rows = last.rows.lowerBound..<row + rowCount
      } else {
        parts.append((variant, row..<row + rowCount))
      }
      row += rowCount
    }
    return parts.map { (weights(ofVariant: $0.variant), $0.rows) }
  }

  /// 0: the decoder's own.
  private func weights(ofVariant variant: Int) -> DecoderWeights {
    variant == 0 ? weights : variants[variant - 1]
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
    logits(hidden, rows: rows, variants: [])
  }

  package func logits(_ hidden: AlignedBuffer<Float>, rows: Range<Int>, variants: [Int]) -> AlignedBuffer<
    Float
  > {
    precondition(variants.isEmpty || variants.count == rows.count)
    let y = AlignedBuffer<Float>(count: rows.count * vocabularySize)
    let x = hidden.pointer + rows.lowerBound * configuration.hiddenSize
    if variants.allSatisfy({ $0 == variants.first }) {
      weights(ofVariant: variants.first ?? 0).head.apply(
        x, rows: rows.count, into: y.pointer, yRowStride: vocabularySize, pool: steps.pool)
    } else {
      let parts = parts(variants.map { ($0, 1) })
      Linear.apply(
        parts.map { ($0.rows, [($0.weights.head, y.pointer, vocabularySize)]) }, to: x, pool: steps.pool)
    }
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

/// The weights of a decoder that an adapter may change.
package struct DecoderWeights: Sendable {
  package var layers: [DecoderLayer]
  /// `[hiddenSize]`
  package var finalNorm: AlignedBuffer<Float>
  package var head: Linear

  package init(layers: [DecoderLayer], finalNorm: AlignedBuffer<Float>, head: Linear) {
    self.layers = layers
    self.finalNorm = finalNorm
    self.head = head
  }

  /// Bytes that adapters take beside the weights.
  package var updateByteCount: Int {
    let kinds: [ModuleKind] = [.attentionOutput, .gate, .up, .down]
    let linears = layers.flatMap { layer in layer.qkv.linears + kinds.map { layer[$0] } } + [head]
    return linears.reduce(0) { $0 + ($1.update?.byteCount ?? 0) }
  }
}

extension Decoder {
  /// The weights that an adapter may change.
  package var weights: DecoderWeights { DecoderWeights(layers: layers, finalNorm: finalNorm, head: head) }

  /// The same embedding with other weights in the place of its own, and with further variants.
  package func replacing(_ weights: DecoderWeights? = nil, variants: [DecoderWeights] = []) -> Decoder {
    let weights = weights ?? self.weights
    return Decoder(
      configuration: configuration, embedding: embedding, layers: weights.layers,
      finalNorm: weights.finalNorm, head: weights.head, variants: variants, attention: steps.arithmetic,
      pool: steps.pool)
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
