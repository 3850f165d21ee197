import Compute
import Foundation
import JSON
import Transformer

/// How far a candidate's predictions are from a reference's, token by token on the same text.
package struct Comparison: Equatable, Sendable {
  package var reference: Double
  package var candidate: Double
  /// candidate / reference
  package var ratio: Double
  /// KL(reference ‖ candidate) per token, in nats.
  package var meanKL: Double
  package var medianKL: Double
  package var kl99: Double
  package var maximumKL: Double
  /// Share of positions where both put the same token first.
  package var top1Agreement: Double
  package var tokensScored: Int
  package var windows: Int

  package static func measure(
    reference: Decoder, candidate: Decoder, ids: [Int], protocol windowing: WindowProtocol,
    progress: (Int, Int) throws -> Void = { _, _ in }
  ) throws -> Comparison {
    guard reference.vocabularySize == candidate.vocabularySize else {
      throw EvaluationError(
        .vocabulariesDiffer(reference: reference.vocabularySize, candidate: candidate.vocabularySize))
    }
    let windows = try windowing.windows(of: ids.count)
    let (first, second) = (WindowRunner(decoder: reference), WindowRunner(decoder: candidate))
    var losses = (reference: LossSum(), candidate: LossSum())
    var divergences: [Double] = []
    var agreements = 0
    var done = 0
    for batch in WindowRunner.batches(windows) {
      let hidden = (first.hidden(ids, batch), second.hidden(ids, batch))
      var row = 0
      for window in batch {
        first.forEachBlock(hidden.0, window: window, firstRow: row) { a, rows, token in
          let start = row + token - 1 - window.range.lowerBound
          let b = candidate.logits(hidden.1, rows: start..<start + rows)
          let targets = ids[token..<token + rows]
          losses.reference.add(tokenLosses(a, rows: rows, targets: targets, pool: reference.steps.pool))
          losses.candidate.add(tokenLosses(b, rows: rows, targets: targets, pool: reference.steps.pool))
          let (kl, same) = divergence(a, b, rows: rows, pool: reference.steps.pool)
          divergences += kl
          agreements += same
        }
        guard losses.reference.sum.isFinite, losses.candidate.sum.isFinite else {
          throw EvaluationError(.oneNotFinite(tokens: window.range))
        }
        row += window.range.count
        done += 1
        try progress(done, windows.count)
      }
    }
    return Comparison(
      losses: losses, divergences: divergences, agreements: agreements, windows: windows.count)
  }
}

extension Comparison {
  /// - Parameters:
  ///   - losses: of the same tokens under both models.
  ///   - divergences: KL of each token scored, in any order; at least one. A percentile is a value of this list: the first, in
  ///     rising order, at or above the place (count − 1) · q, as numpy's method `higher` takes it. The median of an even number
  ///     is therefore the upper of the two in the middle.
  ///   - agreements: positions where both put the same token first.
  package init(
    losses: (reference: LossSum, candidate: LossSum), divergences: [Double], agreements: Int, windows: Int
  ) {
    let (sorted, count) = (divergences.sorted(), divergences.count)
    let means = (losses.reference.sum / Double(count), losses.candidate.sum / Double(count))
    self.init(
      reference: exp(means.0), candidate: exp(means.1), ratio: exp(means.1 - means.0),
      meanKL: sorted.reduce(0, +) / Double(count), medianKL: sorted[count / 2],
      kl99: sorted[min(count - 1, Int((Double(count) * 0.99).rounded(.down)))],
      maximumKL: sorted[count - 1],
      top1Agreement: Double(agreements) / Double(count), tokensScored: count, windows: windows)
  }

  /// Per row KL(a ‖ b) = Σ p (a − b) − lse(a) + lse(b), and how many rows agree on the first token.
  package static func divergence(
    _ a: AlignedBuffer<Float>, _ b: AlignedBuffer<Float>, rows: Int, pool: WorkerPool
  ) -> ([Double], Int) {
    let width = a.count / rows
    let divergences = AlignedBuffer<Double>(count: rows)
    let same = AlignedBuffer<UInt8>(count: rows)
    let kernels = pool.kernels
    pool.runRanges(rows) { range in
      for row in range {
        let (x, y) = (a.pointer + row * width, b.pointer + row * width)
        let (topX, topY) = (kernels.maximum(x, count: width), kernels.maximum(y, count: width))
        let lse = (logSumExp(x, count: width, kernels: kernels), logSumExp(y, count: width, kernels: kernels))
        same[row] = firstIndex(of: topX, in: x, width) == firstIndex(of: topY, in: y, width) ? 1 : 0
        let difference = Scratch.withFloats(width) { p in
          p.update(from: x, count: width)
          let sum = Double(kernels.expSum(p, shift: topX, count: width))
          var weighted = 0.0
          for i in 0..<width { weighted += Double(p[i]) * Double(x[i] - y[i]) }
          return weighted / sum
        }
        divergences[row] = max(0, difference - lse.0 + lse.1)
      }
    }
    return (divergences.array, same.array.reduce(0) { $0 + Int($1) })
  }

  private static func firstIndex(of value: Float, in row: UnsafePointer<Float>, _ width: Int) -> Int {
    var i = 0
    while i < width && row[i] != value { i += 1 }
    return i
  }

  package var json: JSONValue {
    [
      "reference_perplexity": .init(reference), "candidate_perplexity": .init(candidate),
      "perplexity_ratio": .init(ratio), "mean_kl": .init(meanKL), "median_kl": .init(medianKL),
      "kl_99": .init(kl99),
      "maximum_kl": .init(maximumKL), "top1_agreement": .init(top1Agreement),
      "tokens_scored": .init(tokensScored),
      "windows": .init(windows),
    ]
  }
}
