/// The learning rate of each optimizer step, as transformers' `get_…_schedule_with_warmup` compute it.
package struct LearningRateSchedule: Equatable, Sendable {
  package enum Shape: String, CaseIterable, Sendable {
    /// Stays after the warm-up.
    case constant
    /// Falls to 0 in a straight line.
    case linear
    /// Falls to 0 along half a cosine.
    case cosine
  }

  package var shape: Shape
  /// After the warm-up.
  package var peak: Double
  package var warmUpSteps: Int
  package var totalSteps: Int

  package init(shape: Shape, peak: Double, warmUpSteps: Int, totalSteps: Int) {
    self.shape = shape
    self.peak = peak
    self.warmUpSteps = warmUpSteps
    self.totalSteps = totalSteps
  }

  /// - Parameter step: counted from 0. With a warm-up, the first step has the rate 0, as in transformers.
  package func rate(ofStep step: Int) -> Double {
    if step < warmUpSteps { return peak * (Double(step) / Double(max(1, warmUpSteps))) }
    switch shape {
    case .constant: return peak
    case .linear:
      return peak * max(0, Double(totalSteps - step) / Double(max(1, totalSteps - warmUpSteps)))
    case .cosine:
      let progress = Double(step - warmUpSteps) / Double(max(1, totalSteps - warmUpSteps))
      return peak * max(0, 0.5 * (1 + LearningRateSchedule.cosineOfPi(min(1, progress))))
    }
  }

  /// cos(π x) for x in 0…1, by its series and in the operations of IEEE 754 alone: libraries of mathematics differ in the last bit,
  /// and an adapter must not depend on them.
  package static func cosineOfPi(_ x: Double) -> Double {
    if x > 0.5 { return -cosineOfPi(1 - x) }
    // cos(a) = sin(π/2 − a), of which the series is used where it converges sooner.
    if x > 0.25 { return series(.pi * (0.5 - x), sine: true) }
    return series(.pi * x, sine: false)
  }

  private static func series(_ angle: Double, sine: Bool) -> Double {
    let square = angle * angle
    var (term, sum, n) = (sine ? angle : 1, sine ? angle : 1, sine ? 1.0 : 0.0)
    for _ in 0..<12 {
      term *= -square / ((n + 1) * (n + 2))
      sum += term
      n += 2
    }
    return sum
  }
}
