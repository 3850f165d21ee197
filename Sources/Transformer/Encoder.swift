import Architecture
import Compute
import Tensors

/// A BERT encoder: post-norm blocks in which every token sees its whole text.
///
/// `x = LN(x + o(attention(x)))`, `x = LN(x + out(gelu(in(x))))`, after embeddings of words, positions and kinds of text that have
/// a norm of their own (Devlin et al., arXiv:1810.04805). Arithmetic is fp32 whatever the weights are stored as, and fast
/// products with integer weights where their ``Linear``s say so, and then in attention too.
package final class Encoder: Sendable {
  package let configuration: EncoderConfiguration
  /// `[vocabularySize, hiddenSize]`, `[positionCount, hiddenSize]`, `[textTypeCount, hiddenSize]`
  package let wordEmbedding: WeightMatrix
  package let positionEmbedding: WeightMatrix
  package let typeEmbedding: WeightMatrix
  package let embeddingNorm: LayerNorm
  package let layers: [EncoderLayer]
  /// `[hiddenSize, hiddenSize]`; nil when the checkpoint has none.
  package let pooler: Linear?
  /// `[labelCount, hiddenSize]`; nil when the model does not classify.
  package let classifier: Linear?
  package let steps: EncoderSteps

  package init(
    configuration: EncoderConfiguration, wordEmbedding: WeightMatrix, positionEmbedding: WeightMatrix,
    typeEmbedding: WeightMatrix, embeddingNorm: LayerNorm, layers: [EncoderLayer], pooler: Linear?,
    classifier: Linear?, pool: WorkerPool = .shared
  ) {
    precondition(layers.count == configuration.layerCount)
    self.configuration = configuration
    self.wordEmbedding = wordEmbedding
    self.positionEmbedding = positionEmbedding
    self.typeEmbedding = typeEmbedding
    self.embeddingNorm = embeddingNorm
    self.layers = layers
    self.pooler = pooler
    self.classifier = classifier
    steps = EncoderSteps(configuration: configuration, pool: pool)
  }

  /// A text as ids and the kind of text that each belongs to.
  package typealias Input = (ids: [Int], types: [Int])

  /// Rows that go through a block together: enough for products to reach their speed, few enough for their activations to stay in
  /// the caches.
  package static let chunkRows = 512

  /// The texts as consecutive rows, and which of them go through a block together.
  package struct Batch: Sendable {
    /// Rows of each text among all.
    package let texts: [Range<Int>]
    /// Texts of each chunk.
    package let chunks: [Range<Int>]
    package var rows: Int { texts.last?.upperBound ?? 0 }

    /// - Parameter newChunksAt: texts with which a chunk begins, even if they fitted into the one before.
    package init(lengths: [Int], chunkRows: Int = Encoder.chunkRows, newChunksAt starts: Set<Int> = []) {
      var rows: [Range<Int>] = []
      var chunks: [Range<Int>] = []
      var (row, first) = (0, 0)
      for (index, length) in lengths.enumerated() {
        if index > first, row + length - rows[first].lowerBound > chunkRows || starts.contains(index) {
          chunks.append(first..<index)
          first = index
        }
        rows.append(row..<row + length)
        row += length
      }
      if first < lengths.count { chunks.append(first..<lengths.count) }
      (texts, self.chunks) = (rows, chunks)
    }

    /// Rows of a chunk among all.
    package func rows(of chunk: Range<Int>) -> Range<Int> {
      texts[chunk.lowerBound].lowerBound..<texts[chunk.upperBound - 1].upperBound
    }
    /// Rows of a chunk's texts, the first from 0.
    package func texts(of chunk: Range<Int>) -> [Range<Int>] {
      let first = texts[chunk.lowerBound].lowerBound
      return texts[chunk].map { $0.lowerBound - first..<$0.upperBound - first }
    }
    package var mostRows: Int { chunks.map { rows(of: $0).count }.max() ?? 0 }
  }

  /// The normalized sum of the embeddings: `[rows, hiddenSize]`, text after text.
  /// - Parameter texts: each of at most `positionCount` ids of the vocabulary, with types below `textTypeCount`.
  package func embed(_ texts: [Input]) -> AlignedBuffer<Float> {
    let width = configuration.hiddenSize
    let kernels = steps.pool.kernels
    var places: [(id: Int, type: Int, position: Int)] = []
    for text in texts {
      precondition(text.ids.count == text.types.count && text.ids.count <= configuration.positionCount)
      for (position, (id, type)) in zip(text.ids, text.types).enumerated() {
        places.append((id, type, position))
      }
    }
    let x = AlignedBuffer<Float>(count: places.count * width)
    steps.pool.runRanges(places.count, grain: 8) { [places] range in
      Scratch.withFloats(width) { other in
        for row in range {
          let line = x.pointer + row * width
          // In the order of transformers: words and kinds of text, then positions.
          wordEmbedding.copyRow(places[row].id, into: line, kernels: kernels)
          typeEmbedding.copyRow(places[row].type, into: other, kernels: kernels)
          kernels.add(line, other, count: width)
          positionEmbedding.copyRow(places[row].position, into: other, kernels: kernels)
          kernels.layerNorm(
            line, x: line, residual: other, weight: embeddingNorm.weight.pointer,
            bias: embeddingNorm.bias.pointer, count: width, epsilon: configuration.layerNormEps)
        }
      }
    }
    return x
  }

  /// Hidden states after the last block, `[rows, hiddenSize]`, and the rows of each text. A text's rows do not depend on the
  /// other texts.
  /// - Parameters:
  ///   - texts: as ``embed(_:)`` takes them; none is empty.
  ///   - afterLayer: called after each layer with its index and the rows as they are then.
  package func hiddenStates(
    _ texts: [Input], afterLayer: (Int, AlignedBuffer<Float>, Batch) -> Void = { _, _, _ in }
  ) -> (states: AlignedBuffer<Float>, batch: Batch) {
    let x = embed(texts)
    let batch = Batch(lengths: texts.map(\.ids.count))
    let work = EncoderBuffers(configuration, rows: batch.mostRows)
    for (index, layer) in layers.enumerated() {
      // All chunks before the next layer: its weights are then read from memory once.
      for chunk in batch.chunks {
        let first = batch.rows(of: chunk).lowerBound
        let rows = EncoderRows(
          x: x.pointer + first * configuration.hiddenSize, texts: batch.texts(of: chunk), work: work)
        for step in EncoderStep.allCases { steps.run(step, of: layer, on: rows) }
      }
      afterLayer(index, x, batch)
    }
    return (x, batch)
  }

  /// The state of each text's first token: `[texts, hiddenSize]`.
  package func firstStates(_ states: AlignedBuffer<Float>, _ batch: Batch) -> AlignedBuffer<Float> {
    let width = configuration.hiddenSize
    let first = AlignedBuffer<Float>(count: batch.texts.count * width)
    for (index, text) in batch.texts.enumerated() {
      (first.pointer + index * width).update(from: states.pointer + text.lowerBound * width, count: width)
    }
    return first
  }

  /// The mean of each text's states from its row `skipping` on: `[texts, hiddenSize]`.
  /// - Parameter skipping: rows at the start of each text that do not count, fewer than it has; nil: all count.
  package func means(_ states: AlignedBuffer<Float>, _ batch: Batch, skipping: [Int]? = nil) -> AlignedBuffer<
    Float
  > {
    let width = configuration.hiddenSize
    let means = AlignedBuffer<Float>(zeros: batch.texts.count * width)
    let kernels = steps.pool.kernels
    steps.pool.runRanges(batch.texts.count) { range in
      for index in range {
        let text = batch.texts[index].dropFirst(skipping?[index] ?? 0)
        let mean = means.pointer + index * width
        for row in text { kernels.add(mean, states.pointer + row * width, count: width) }
        kernels.scale(mean, by: 1 / Float(max(1, text.count)), count: width)
      }
    }
    return means
  }

  /// tanh(x[0] · Wᵀ + b) of each text: `[texts, hiddenSize]`.
  /// - Precondition: the model has a pooler.
  package func pooled(_ states: AlignedBuffer<Float>, _ batch: Batch) -> AlignedBuffer<Float> {
    guard let pooler else { preconditionFailure("this encoder has no pooler") }
    let width = configuration.hiddenSize
    let first = firstStates(states, batch)
    let y = AlignedBuffer<Float>(count: first.count)
    pooler.apply(first.pointer, rows: batch.texts.count, into: y.pointer, yRowStride: width, pool: steps.pool)
    steps.pool.kernels.hyperbolicTangent(y.pointer, count: y.count)
    return y
  }

  /// What the classifier gives for each text: `[texts, labelCount]`.
  /// - Precondition: the model classifies.
  package func labels(_ states: AlignedBuffer<Float>, _ batch: Batch) -> AlignedBuffer<Float> {
    guard let classifier else { preconditionFailure("this encoder has no classifier") }
    let inputs = pooled(states, batch)
    let y = AlignedBuffer<Float>(count: batch.texts.count * classifier.outFeatures)
    classifier.apply(
      inputs.pointer, rows: batch.texts.count, into: y.pointer, yRowStride: classifier.outFeatures,
      pool: steps.pool)
    return y
  }
}
