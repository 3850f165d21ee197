import Evaluation
import TestSupport
import Testing

/// Intervals and tests: known values, and how often an interval has the truth.
@Suite struct StatisticalTestsTests {
  /// Pairs of answers of two models, of which `better` and `worse` is the share that only the second or only the first gets right.
  private static func accuracies(
    _ count: Int, _ better: Double, _ worse: Double, _ generator: inout SplitMix64
  )
    -> ([Double], [Double])
  {
    var (first, second): ([Double], [Double]) = ([], [])
    for _ in 0..<count {
      let place = Double.random(in: 0..<1, using: &generator)
      let both = Double.random(in: 0..<1, using: &generator) < 0.6 ? 1.0 : 0
      first.append(place < better ? 0 : place < better + worse ? 1 : both)
      second.append(place < better ? 1 : place < better + worse ? 0 : both)
    }
    return (first, second)
  }

  /// 1,000 sets of pairs with a known difference for each of three kinds. The share that is covered has a standard error of 0.7 % for one
  /// kind and 0.4 % for all.
  @Test func pairedIntervalsHaveTheTruth() {
    var generator = SplitMix64(seed: 360)
    var total = 0
    for (count, better, worse) in [(100, 0.2, 0.15), (150, 0.1, 0.05), (300, 0.1, 0.07)] {
      var covered = 0
      for round in 0..<1000 {
        let (first, second) = Self.accuracies(count, better, worse, &generator)
        let interval = Statistics.bootstrapMean(
          [zip(first, second).map { $1 - $0 }], resamples: 1000, seed: UInt64(round))
        let truth = better - worse
        if interval.lower - 1e-12 <= truth, truth <= interval.upper + 1e-12 { covered += 1 }
      }
      #expect((930...970).contains(covered), "\(covered) of 1000 with \(count) items")
      total += covered
    }
    #expect((2820...2880).contains(total), "\(total) of 3000")
  }

  @Test func intervalsAreRepeatableAndHaveTheMeanInside() throws {
    var generator = SplitMix64(seed: 1)
    let (first, second) = Self.accuracies(300, 0.1, 0.05, &generator)
    let interval = try #require(Statistics.pairedDifference(first, second))
    #expect(interval == Statistics.pairedDifference(first, second))
    #expect(interval.lower <= interval.estimate && interval.estimate <= interval.upper)
    let same = try #require(Statistics.pairedDifference(first, first))
    #expect(same == ConfidenceInterval(estimate: 0, lower: 0, upper: 0) && !same.excludesZero)
    #expect(Statistics.pairedDifference([], []) == nil)
    let unknown = try #require(Statistics.bootstrapMean([[1, .nan], [0]]))
    #expect(unknown.estimate.isNaN && unknown.lower == -.infinity && !unknown.excludesZero)
    // Groups count the same, whatever their size.
    let groups = try #require(Statistics.bootstrapMean([[1, 1, 1, 1], [0], []]))
    #expect(groups == ConfidenceInterval(estimate: 0.5, lower: 0.5, upper: 0.5))
  }

  /// Against statsmodels: proportion_confint(method="wilson"), and scipy.stats.binomtest.
  @Test func knownValues() throws {
    let wilson = try #require(Statistics.wilson(successes: 8, of: 10))
    #expect(abs(wilson.lower - 0.490162471573) < 1e-9 && abs(wilson.upper - 0.943317848546) < 1e-9)
    #expect(Statistics.wilson(successes: 0, of: 10)?.lower == 0)
    #expect(Statistics.wilson(successes: 0, of: 0) == nil)
    #expect(Statistics.mean([1, 0, 1]) == Statistics.wilson(successes: 2, of: 3))
    #expect(Statistics.mean([]) == nil)
    let error = try #require(Statistics.standardError([1, 0, 1, 1]))
    #expect(abs(error - 0.25) < 1e-12)
    #expect(Statistics.standardError([1]) == nil)
    for (first, second, p, midP) in [
      (3, 10, 0.09228515625, 0.057373046875), (0, 5, 0.0625, 0.03125), (4, 4, 1, 1 - 70.0 / 256 / 2),
      (0, 0, 1, 1),
    ] {
      let found = Statistics.mcNemar(onlyFirst: first, onlySecond: second)
      #expect(abs(found.p - p) < 1e-12 && abs(found.midP - midP) < 1e-12, "\(found)")
      #expect(Statistics.mcNemar(onlyFirst: second, onlySecond: first).p == found.p)
    }
    // No term is lost where the powers of two underflow.
    let many = Statistics.mcNemar(onlyFirst: 50_000, onlySecond: 50_400)
    #expect(abs(many.p - 0.207946024168) < 1e-9, "\(many)")
  }
}
