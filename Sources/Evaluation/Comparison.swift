import Distribution
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
  /// Where in the text the models differ; nil when this was made from sums.
  package var profile: DivergenceProfile?

  /// - Parameters:
  ///   - ids: of the text, which both models know.
  ///   - texts: of the reference's tokenizer. Without it, the profile has no classes and no texts of tokens.
  ///   - worst: how many of the positions with the largest divergence are kept.
  ///   - communicator: the ranks among which the windows are dealt out; all get the result, which does not depend on them.
  ///   - progress: called with windows done and windows in all.
  /// - Throws: ``EvaluationError`` when the vocabularies differ, the text is too short for one window, or a model gives a
  ///   value that is not a number.
  package static func measure(
    reference: Decoder, candidate: Decoder, ids: [Int], protocol windowing: WindowProtocol,
    texts: TokenTexts? = nil, worst: Int = 0, communicator: any Communicator = SingleProcess(),
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
    var profile = ProfileBuilder(ids: ids, windows: windows, texts: texts, worst: worst)
    var done = 0
    let batches = WindowRunner.batches(windows)
    /// Calls `use` with each block of rows of a batch.
    func compare(
      _ number: Int, _ use: (_ compared: RowComparison, _ token: Int, WindowProtocol.Window) throws -> Void,
      endWindow: () throws -> Void
    ) throws {
      let hidden = (first.hidden(ids, batches[number]), second.hidden(ids, batches[number]))
      var row = 0
      for window in batches[number] {
        try first.forEachBlock(hidden.0, window: window, firstRow: row) { a, rows, token in
          let start = row + token - 1 - window.range.lowerBound
          let b = candidate.logits(hidden.1, rows: start..<start + rows)
          try use(
            RowComparison(a, b, targets: ids[token..<token + rows], pool: reference.steps.pool), token, window
          )
        }
        row += window.range.count
        try endWindow()
      }
    }
    func add(_ compared: RowComparison, _ token: Int, _ window: WindowProtocol.Window) throws {
      guard compared.isFinite else { throw EvaluationError(.oneNotFinite(tokens: window.range)) }
      losses.reference.add(compared.losses.reference)
      losses.candidate.add(compared.losses.candidate)
      divergences += compared.divergences
      profile.add(compared, firstToken: token, window: window, number: done)
    }
    func endWindow() throws {
      done += 1
      try progress(done, windows.count)
    }
    if communicator.isAlone {
      for number in batches.indices { try compare(number, add, endWindow: endWindow) }
    } else {
      try communicator.inOrder(items: batches.count) { number in
        var values: [Double] = []
        try compare(number) { compared, token, _ in
          values.append(Double(token))
          compared.append(to: &values)
        } endWindow: {
        }
        return values
      } then: { number, values in
        var values = values[...]
        for window in batches[number] {
          while let token = values.first, Int(token) < window.range.upperBound {
            values.removeFirst()
            try add(RowComparison(takenFrom: &values), Int(token), window)
          }
          try endWindow()
        }
      }
    }
    var comparison = Comparison(
      losses: losses, divergences: divergences, agreements: profile.agreements, windows: windows.count)
    comparison.profile = profile.finished()
    return comparison
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

  package var json: JSONValue {
    var object = JSONObject([
      ("reference_perplexity", .init(reference)), ("candidate_perplexity", .init(candidate)),
      ("perplexity_ratio", .init(ratio)), ("mean_kl", .init(meanKL)), ("median_kl", .init(medianKL)),
      ("kl_99", .init(kl99)), ("maximum_kl", .init(maximumKL)), ("top1_agreement", .init(top1Agreement)),
      ("tokens_scored", .init(tokensScored)), ("windows", .init(windows)),
    ])
    for (name, value) in profile?.json ?? [] { object[name] = value }
    return .object(object)
  }
}
