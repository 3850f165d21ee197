import Foundation

/// What the model thinks of a token, before biases, penalties and temperature.
package struct TokenLogprob: Equatable, Sendable {
  package var id: Int
  /// Natural logarithm of the probability.
  package var logprob: Double
}

/// Log probabilities of a token of the text and of the likeliest ones in its place.
package struct TokenLogprobs: Equatable, Sendable {
  package var chosen: TokenLogprob
  /// The place of the token among all tokens; 1: no token is likelier.
  package var rank: Int
  /// The likeliest first.
  package var top: [TokenLogprob]

  /// - Complexity: one exponential for each logit.
  package init(_ logits: UnsafeBufferPointer<Float>, chosen id: Int, topCount: Int) {
    let largest = Double(logits[Logits.firstLargest(logits)])
    let logit = logits[id]
    var (total, likelier) = (0.0, 0)
    for other in logits {
      total += exp(Double(other) - largest)
      if other > logit { likelier += 1 }
    }
    let logTotal = largest + log(total)
    func logprob(_ id: Int) -> TokenLogprob { TokenLogprob(id: id, logprob: Double(logits[id]) - logTotal) }
    chosen = logprob(id)
    rank = 1 + likelier
    let likeliest = topCount > 0 ? TokenDistribution.likeliest(topCount, of: logits) : []
    // Tokens that cannot be chosen have none.
    top = likeliest.map(logprob).filter(\.logprob.isFinite)
  }
}
