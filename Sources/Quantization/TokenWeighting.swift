import Architecture
import Compute
import Transformer

/// How much each calibration token counts in the Hessian of a stage.
///
/// The first token of a window is one that attention falls back on. Its activations in the feed-forward network are hundreds of times
/// as large as others' and would decide a plain Hessian, though no text depends on them; its keys and values are read by every
/// later token. So a token counts 1 / ‖x‖, and before queries, keys and values as much more as it is attended to. (RSQ,
/// arXiv 2503.01820, weights tokens by attention too.)
struct TokenWeighting {
  private let kind: QuantizationRecipe.TokenWeights
  private let pool: WorkerPool

  init(_ kind: QuantizationRecipe.TokenWeights, pool: WorkerPool) {
    self.kind = kind
    self.pool = pool
  }

  /// - Parameters:
  ///   - rows: a chunk, whose steps up to the input of `stage` were run; what later steps write is overwritten.
  ///   - width: of the stage's input.
  ///   - layer: number `index`; before queries, keys and values it is still in floats.
  /// - Returns: a weight for each row; nil: all count the same.
  func weights(
    of rows: BlockRows, before stage: TensorRule.Stage, width: Int, layer: DecoderLayer, index: Int,
    steps: LayerSteps
  ) -> [Float]? {
    guard var weights = weights(of: rows.input(of: stage), rows: rows.count, width: width) else { return nil }
    if kind == .attention && stage == .attentionInput {
      steps.run(.queriesKeysValues, of: layer, index: index, on: rows)
      let received = steps.attentionReceived(rows.qkv, sequences: rows.sequences, layer: index)
      for row in weights.indices { weights[row] *= received[row] }
    }
    return weights
  }

  /// Of a module that is not before attention.
  /// - Parameter x: `[rows, width]`
  func weights(of x: UnsafePointer<Float>, rows: Int, width: Int) -> [Float]? {
    guard kind != .none else { return nil }
    let weights = AlignedBuffer<Float>(count: rows)
    let x = SharedPointer(x)
    pool.runRanges(rows) { range in
      for row in range {
        let values = UnsafeBufferPointer(start: x.pointer + row * width, count: width)
        let square = values.reduce(0.0) { $0 + Double($1) * Double($1) }
        // A row of zeros says nothing.
        weights[row] = square > 0 ? Float(1 / square.squareRoot()) : 0
      }
    }
    return withExtendedLifetime(weights) { weights.array }
  }
}
