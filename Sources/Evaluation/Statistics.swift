import Compute
import Foundation

/// An estimate with its interval of 95 % confidence.
package struct ConfidenceInterval: Equatable, Sendable {
  package var estimate: Double
  package var lower: Double
  package var upper: Double

  package init(estimate: Double, lower: Double, upper: Double) {
    (self.estimate, self.lower, self.upper) = (estimate, lower, upper)
  }

  /// Whether zero lies outside.
  package var excludesZero: Bool { lower > 0 || upper < 0 }

  /// The interval in another unit, for example percent.
  package func scaled(by factor: Double) -> ConfidenceInterval {
    ConfidenceInterval(estimate: estimate * factor, lower: lower * factor, upper: upper * factor)
  }
}

/// What the scores of items say about models: intervals and tests. Everything is the same on every machine for the same scores.
package enum Statistics {
  /// The 0.975 quantile of the normal distribution.
  static let z = 1.959963984540054

  // MARK: One model

  /// The mean of scores with its interval: Wilson's for scores that are all 0 or 1, else a bootstrap. Nil without scores.
  package static func mean(_ scores: [Double], seed: UInt64 = 360) -> ConfidenceInterval? {
    if scores.allSatisfy({ $0 == 0 || $0 == 1 }) {
      return wilson(successes: scores.count { $0 == 1 }, of: scores.count)
    }
    return bootstrapMean([scores], seed: seed)
  }

  /// Wilson's score interval of a proportion (1927), which stays within 0 and 1 and has a width also where all or none succeed. Nil
  /// without trials.
  package static func wilson(successes: Int, of count: Int) -> ConfidenceInterval? {
    precondition(0 <= successes && successes <= count)
    guard count > 0 else { return nil }
    let (n, p) = (Double(count), Double(successes) / Double(count))
    let center = (p + z * z / (2 * n)) / (1 + z * z / n)
    let half = z / (1 + z * z / n) * (p * (1 - p) / n + z * z / (4 * n * n)).squareRoot()
    return ConfidenceInterval(estimate: p, lower: max(0, center - half), upper: min(1, center + half))
  }

  /// The standard error of the mean as lm-eval prints it: sample standard deviation, with n − 1, over √n. Nil for fewer than two scores.
  package static func standardError(_ scores: [Double]) -> Double? {
    guard scores.count > 1 else { return nil }
    let mean = scores.reduce(0, +) / Double(scores.count)
    let squares = scores.reduce(0) { $0 + ($1 - mean) * ($1 - mean) }
    return (squares / Double(scores.count - 1) / Double(scores.count)).squareRoot()
  }

  // MARK: Two models on the same items

  /// The mean of `second − first` over the items, with the interval of a paired bootstrap. Nil without items.
  package static func pairedDifference(_ first: [Double], _ second: [Double], seed: UInt64 = 360)
    -> ConfidenceInterval?
  {
    precondition(first.count == second.count)
    return bootstrapMean([zip(first, second).map { $1 - $0 }], seed: seed)
  }

  /// The interval between the 2.5 and 97.5 percentiles of means of as many items, drawn with replacement.
  ///
  /// Over 4,000 simulated sets each, it covered the true difference of accuracies in 95.1 to 95.9 % (100 to 1,000 items, of which 10 to 35 %
  /// change sides); over 2,000 each, that of normal and exponential scores in 94.0 and 94.8 %. BCa was no closer.
  /// - Parameter strata: scores by group, each of which counts the same in the mean; items are drawn within their group. Groups
  ///   without scores are left out.
  /// - Returns: nil when there are no scores; an infinite interval around NaN when one of them is not finite.
  /// - Complexity: O(items × resamples): 10,000 resamples, fewer beyond 20,000 items, and never under 1,000.
  package static func bootstrapMean(_ strata: [[Double]], seed: UInt64 = 360) -> ConfidenceInterval? {
    let strata = strata.filter { !$0.isEmpty }
    guard !strata.isEmpty else { return nil }
    guard strata.allSatisfy({ $0.allSatisfy(\.isFinite) }) else {
      // Nothing can be said, and that must be seen.
      return ConfidenceInterval(estimate: .nan, lower: -.infinity, upper: .infinity)
    }
    let total = strata.reduce(0) { $0 + $1.count }
    let resamples = max(1_000, min(10_000, 200_000_000 / total))
    return bootstrapMean(strata, resamples: resamples, seed: seed)
  }

  /// As ``bootstrapMean(_:seed:)`` with a number of resamples; every group has scores.
  package static func bootstrapMean(_ strata: [[Double]], resamples: Int, seed: UInt64) -> ConfidenceInterval
  {
    precondition(resamples > 1 && strata.allSatisfy { !$0.isEmpty })
    var generator = SplitMix64Sequence(seed: seed)
    var means = [Double](repeating: 0, count: resamples)
    var estimate = 0.0
    for scores in strata {
      let weight = 1 / Double(scores.count) / Double(strata.count)
      estimate += scores.reduce(0, +) * weight
      scores.withUnsafeBufferPointer { scores in
        for resample in 0..<resamples {
          var sum = 0.0
          for _ in 0..<scores.count { sum += scores[generator.index(below: scores.count)] }
          means[resample] += sum * weight
        }
      }
    }
    means.sort()
    func quantile(_ part: Double) -> Double {
      // As numpy: linear between neighbours.
      let place = part * Double(resamples - 1)
      let low = Int(place)
      let high = min(low + 1, resamples - 1)
      return means[low] + (means[high] - means[low]) * (place - Double(low))
    }
    return ConfidenceInterval(estimate: estimate, lower: quantile(0.025), upper: quantile(0.975))
  }

  /// McNemar's test of whether two accuracies on the same items differ, from the items that only one of both got right.
  package struct McNemar: Equatable, Sendable {
    package var onlyFirst: Int
    package var onlySecond: Int
    /// The two-sided p of the exact test: twice the smaller tail of the binomial distribution with ½, at most 1.
    package var p: Double
    /// The same with half the probability of what was found (Lancaster's mid-p), which is less conservative.
    package var midP: Double
  }

  /// - Complexity: O(items that only one got right).
  package static func mcNemar(onlyFirst: Int, onlySecond: Int) -> McNemar {
    precondition(onlyFirst >= 0 && onlySecond >= 0)
    let count = onlyFirst + onlySecond
    let smaller = min(onlyFirst, onlySecond)
    // log of the binomial coefficient times 2^-count, summed from the largest term, which is the last, down.
    let logLast =
      lgamma(Double(count + 1)) - lgamma(Double(smaller + 1)) - lgamma(Double(count - smaller + 1))
      - Double(count) * log(2)
    let last = exp(logLast)
    var (tail, term) = (0.0, 1.0)
    var k = smaller
    while k >= 0, term > 0 {
      tail += term
      term *= Double(k) / Double(count - k + 1)
      k -= 1
    }
    tail *= last
    return McNemar(
      onlyFirst: onlyFirst, onlySecond: onlySecond, p: min(1, 2 * tail),
      midP: count == 0 ? 1 : onlyFirst == onlySecond ? 1 - last / 2 : min(1, 2 * tail - last))
  }
}
