/// What an engine did and does.
package struct SchedulerStatistics: Equatable, Sendable {
  package var waiting = 0
  package var running = 0
  /// Tokens the caches are charged for.
  package var cachedTokens = 0
  package var promptTokens = 0
  /// Of the prompt tokens, those that were in a cache already.
  package var reusedTokens = 0
  package var generatedTokens = 0
  package var forwardPasses = 0
  /// Seconds in forward passes and sampling.
  package var busySeconds = 0.0
  package var finished: [String: Int] = [:]
  package var timeToFirstToken = Histogram(bounds: [0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100])
  package var timePerToken = Histogram(bounds: [0.003, 0.01, 0.03, 0.1, 0.3, 1, 3])

  package init() {}
}

/// Counts of values up to each bound, and above all of them.
package struct Histogram: Equatable, Sendable {
  package let bounds: [Double]
  package private(set) var counts: [Int]
  package private(set) var sum = 0.0
  package var count: Int { counts.reduce(0, +) }

  package init(bounds: [Double]) {
    self.bounds = bounds
    counts = Array(repeating: 0, count: bounds.count + 1)
  }

  package mutating func record(_ value: Double) {
    counts[bounds.firstIndex { value <= $0 } ?? bounds.count] += 1
    sum += value
  }
}
