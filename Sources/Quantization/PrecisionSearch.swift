import Foundation

/// Which settings to try next, after what was measured with those before.
///
/// Sums of single modules' predictions rank them well, but their scale is off: errors add up, and large ones do not grow with the square
/// of the weights' error. So a divergence is looked for in rounds, each of which corrects the scale by what the last ones measured.
struct PrecisionSearch {
  let goal: PrecisionTarget.Goal
  let items: [PrecisionItem]
  private let knapsack: Knapsack
  let weightCount: Int

  init(goal: PrecisionTarget.Goal, items: [PrecisionItem]) {
    self.goal = goal
    self.items = items
    knapsack = Knapsack(items.map(\.choices))
    weightCount = items.reduce(0) { $0 + $1.weightCount }
  }

  private func bitsPerWeight(_ cost: Int) -> Double { Double(cost) / Double(max(1, weightCount)) }

  /// Of the cheapest choices.
  var leastBitsPerWeight: Double { bitsPerWeight(knapsack.leastCost) }

  /// What the candidate at that place is predicted to do in every module.
  func uniform(_ candidate: Int) -> (bitsPerWeight: Double, predicted: Double) {
    let (cost, loss) = knapsack.value(of: items.map { _ in candidate })
    return (bitsPerWeight(cost), loss)
  }

  /// The next round, its measurement still to come; nil: the search is over.
  func next(after rounds: [PrecisionRound]) -> PrecisionRound? {
    guard let solution = solution(after: rounds), !rounds.contains(where: { $0.choices == solution.choices })
    else { return nil }
    var gap = solution.gap
    if case .divergence = goal { gap /= Double(max(1, weightCount)) }
    return PrecisionRound(
      choices: solution.choices, bitsPerWeight: bitsPerWeight(solution.cost), predicted: solution.loss,
      measured: .nan, gap: gap)
  }

  private func solution(after rounds: [PrecisionRound]) -> Knapsack.Solution? {
    switch goal {
    case .bits(let bits):
      // A budget that is a whole number must not lose a bit to rounding.
      let budget = (bits * Double(weightCount) * (1 + 1e-12)).rounded(.down)
      return rounds.isEmpty ? knapsack.leastLoss(budget: Int(min(budget, 0x1p62))) : nil
    case .divergence(let target):
      if rounds.contains(where: { isReached(target, by: $0) }) || rounds.count >= PrecisionTarget.mostRounds {
        return nil
      }
      return knapsack.leastCost(loss: prediction(for: target, after: rounds))
        ?? knapsack.leastLoss(budget: Int.max)
    }
  }

  private func isReached(_ target: Double, by round: PrecisionRound) -> Bool {
    abs(round.measured / target - 1) <= PrecisionTarget.tolerance
  }

  /// What must be predicted for `target` to be measured: the line through two measurements around the target, or the two nearest, in
  /// logarithms.
  func prediction(for target: Double, after rounds: [PrecisionRound]) -> Double {
    let points = rounds.filter { $0.predicted > 0 && $0.measured > 0 }
      .map { (predicted: log($0.predicted), measured: log($0.measured)) }
      .sorted { abs($0.measured - log(target)) < abs($1.measured - log(target)) }
    guard let nearest = points.first else { return target }
    let wanted = log(target) - nearest.measured
    // One on the other side of the target says more than a nearer one on this side.
    let second =
      points.dropFirst().first { ($0.measured - log(target)) * wanted > 0 } ?? points.dropFirst().first
    var slope = 1.0
    if let second, abs(second.predicted - nearest.predicted) > 1e-6 {
      let found = (second.measured - nearest.measured) / (second.predicted - nearest.predicted)
      slope = found.isFinite ? min(2, max(0.5, found)) : 1
    }
    return exp(nearest.predicted + wanted / slope)
  }

  /// The round whose model is written: the one of the fewest bits that loses no more than it may, or that loses least.
  func best(of rounds: [PrecisionRound]) -> Int? {
    guard case .divergence(let target) = goal else { return rounds.indices.first }
    let most = target * (1 + PrecisionTarget.tolerance)
    let good = rounds.indices.filter { rounds[$0].measured <= most }
    return good.min { rounds[$0].bitsPerWeight < rounds[$1].bitsPerWeight }
      ?? rounds.indices.min { rounds[$0].measured < rounds[$1].measured }
  }
}
