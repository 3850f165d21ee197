import Compute
import Distribution
import Foundation
import JSON
import Transformer

func logarithm(_ x: Double) -> Double { log(x) }

/// Perplexity of a text under a model.
package struct Perplexity: Equatable, Sendable {
  /// exp(Σ NLL / tokens scored).
  package var perplexity: Double
  /// The weighting of the transformers guide, (window mean) × (new tokens − 1); differs from `perplexity` when windows
  /// overlap.
  package var huggingFaceGuide: Double
  package var meanNLL: Double
  package var tokensScored: Int
  package var windows: Int
  /// Half-width of the 95 % confidence interval of `perplexity`: perplexity · 1.96 · σ / √n, where σ is the standard deviation of
  /// the n token losses (over n, not n − 1). It takes the losses as independent.
  package var halfWidth95: Double

  /// - Parameters:
  ///   - cacheType: what keys and values pass through on their way to attention.
  ///   - communicator: the ranks among which the windows are dealt out; all get the result, which does not depend on them.
  ///   - progress: called with windows done and windows in all.
  /// - Throws: ``EvaluationError`` when the model gives a value that is not a number.
  package static func measure(
    _ decoder: Decoder, ids: [Int], protocol windowing: WindowProtocol, cacheType: KVCacheType = .f32,
    communicator: any Communicator = SingleProcess(), progress: (Int, Int) throws -> Void = { _, _ in }
  ) throws -> Perplexity {
    let windows = try windowing.windows(of: ids.count)
    let runner = WindowRunner(decoder: decoder, cacheType: cacheType)
    var total = LossSum()
    var guide = (loss: 0.0, weight: 0)
    var done = 0
    let batches = WindowRunner.batches(windows)
    try communicator.inOrder(items: batches.count) { number in
      let batch = batches[number]
      let hidden = runner.hidden(ids, batch)
      var row = 0
      return batch.map { window in
        var loss = LossSum()
        runner.forEachBlock(hidden, window: window, firstRow: row) { logits, rows, token in
          loss.add(
            tokenLosses(logits, rows: rows, targets: ids[token..<token + rows], pool: decoder.steps.pool))
        }
        row += window.range.count
        return loss
      }
    } then: { number, losses in
      for (window, loss) in zip(batches[number], losses) {
        guard loss.sum.isFinite else {
          throw EvaluationError(.notFinite(tokens: window.range))
        }
        total.merge(loss)
        guide.loss += loss.sum / Double(window.scoredCount) * Double(window.newCount - 1)
        guide.weight += window.newCount - 1
        done += 1
        try progress(done, windows.count)
      }
    }
    return Perplexity(
      losses: total, meanByGuide: guide.weight > 0 ? guide.loss / Double(guide.weight) : .nan,
      windows: windows.count)
  }
}

extension Perplexity {
  /// - Parameters:
  ///   - losses: of all tokens scored, at least one.
  ///   - meanByGuide: mean loss under the guide's weighting.
  package init(losses: LossSum, meanByGuide: Double, windows: Int) {
    let count = Double(losses.count)
    let mean = losses.sum / count
    let variance = max(0, losses.squares / count - mean * mean)
    self.init(
      perplexity: exp(mean), huggingFaceGuide: exp(meanByGuide), meanNLL: mean, tokensScored: losses.count,
      windows: windows, halfWidth95: exp(mean) * 1.96 * (variance / count).squareRoot())
  }

  package var json: JSONValue {
    [
      "perplexity": .init(perplexity), "perplexity_hf_guide_weights": .init(huggingFaceGuide),
      "mean_nll": .init(meanNLL), "tokens_scored": .init(tokensScored), "windows": .init(windows),
      "half_width_95": .init(halfWidth95),
    ]
  }
}

/// Sums over token losses.
package struct LossSum: BitwiseCopyable, Sendable {
  package var sum = 0.0
  package var squares = 0.0
  package var count = 0

  package init() {}

  package mutating func add(_ losses: [Double]) {
    for loss in losses {
      sum += loss
      squares += loss * loss
    }
    count += losses.count
  }
  mutating func merge(_ other: LossSum) {
    sum += other.sum
    squares += other.squares
    count += other.count
  }
}

/// −log p(target) for each row of logits.
package func tokenLosses(
  _ logits: AlignedBuffer<Float>, rows: Int, targets: ArraySlice<Int>, pool: WorkerPool
) -> [Double] {
  let width = logits.count / rows
  let losses = AlignedBuffer<Double>(count: rows)
  let kernels = pool.kernels
  pool.runRanges(rows) { range in
    for row in range {
      let line = UnsafePointer(logits.pointer + row * width)
      losses[row] =
        logSumExp(line, count: width, kernels: kernels) - Double(line[targets[targets.startIndex + row]])
    }
  }
  return losses.array
}
