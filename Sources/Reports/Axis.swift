import Foundation

/// Places of values along a picture's side, and the round values that are named there.
struct Axis {
  /// Ends in pixels: `from` is that of `low`.
  let from: Double
  let to: Double
  let scale: AxisScale
  /// Ends in values; logarithms on a logarithmic axis.
  private let low: Double
  private let high: Double
  private(set) var ticks: [(value: Double, text: String)]

  /// - Parameters:
  ///   - values: what must have a place; those that the scale cannot show are left out.
  ///   - range: nil: around the values, from one round value to another.
  ///   - fits: begin and end with the values themselves.
  init(
    _ values: [Double], range: ClosedRange<Double>?, scale: AxisScale, from: Double, to: Double,
    fits: Bool = false
  ) {
    (self.from, self.to, self.scale) = (from, to, scale)
    let isLogarithmic = scale == .logarithmic
    let shown = values.filter { $0.isFinite && (!isLogarithmic || $0 > 0) }.map {
      isLogarithmic ? log10($0) : $0
    }
    var (low, high) = (shown.min() ?? 0, shown.max() ?? 1)
    if let range, range.lowerBound.isFinite, range.upperBound.isFinite, !isLogarithmic {
      (low, high) = (range.lowerBound, range.upperBound)
    }
    if !(high > low) {
      let room = isLogarithmic ? 0.5 : max(abs(low) * 0.1, 0.5)
      (low, high) = (low - room, high + room)
    }
    if isLogarithmic {
      if !fits { (low, high) = (low.rounded(.down), high.rounded(.up)) }
      ticks = Axis.decades(low, high)
    } else {
      let step = Axis.step(low, high)
      if range == nil && !fits && step > 0 {
        (low, high) = ((low / step).rounded(.down) * step, (high / step).rounded(.up) * step)
      }
      ticks = Axis.multiples(of: step, low, high)
    }
    (self.low, self.high) = (low, high)
  }

  /// Where between both ends a value lies, from 0 to 1. Halves, as the difference of two numbers may be too large for a number.
  static func share(_ value: Double, _ low: Double, _ high: Double) -> Double {
    let whole = high / 2 - low / 2
    guard whole > 0 else { return value >= high ? 1 : 0 }
    return min(1, max(0, (value / 2 - low / 2) / whole))
  }

  /// Nil for what the axis cannot show.
  func position(_ value: Double) -> Double? {
    guard value.isFinite, scale == .linear || value > 0 else { return nil }
    let place = scale == .linear ? value : log10(value)
    // What lies outside of a range that was given has no place; rounding may put an end there.
    let slack = (high / 2 - low / 2) * 1e-6
    guard place >= low - slack, place <= high + slack else { return nil }
    return from + Axis.share(place, low, high) * (to - from)
  }

  /// The nearest place of a value on the axis.
  func clamped(_ value: Double) -> Double {
    guard !value.isNaN else { return from }
    return from + Axis.share(max(low, min(high, value)), low, high) * (to - from)
  }

  /// Ticks whose texts do not touch in a row.
  func spaced() -> [(value: Double, text: String)] {
    var end = -Double.infinity
    return ticks.filter { tick in
      guard let place = position(tick.value) else { return false }
      let half = FigureDrawing.width(of: tick.text) / 2
      guard place - half > end + 8 else { return false }
      end = place + half
      return true
    }
  }

  /// 1, 2 or 5 times a power of ten, so that about five of them fit; 0: there is none.
  private static func step(_ low: Double, _ high: Double) -> Double {
    let rough = (high / 2 - low / 2) / 2.5
    guard rough.isFinite, rough > 1e-300 else { return 0 }
    let power = pow(10, log10(rough).rounded(.down))
    let step = [1, 2, 5, 10].map { $0 * power }.first { $0 >= rough * 0.999 } ?? rough
    return step.isFinite ? step : 0
  }

  private static func multiples(of step: Double, _ low: Double, _ high: Double) -> [(
    value: Double, text: String
  )] {
    guard step > 0, abs(low / step) < 1e12, abs(high / step) < 1e12 else {
      return [low, high].map { ($0, ReportNumber.significant($0)) }
    }
    let decimals = max(0, -Int(log10(step * 1.0001).rounded(.down)))
    let isPlain = decimals <= 6 && max(abs(low), abs(high)) < 1e7
    let first = Int((low / step - 1e-9).rounded(.up))
    let last = Int((high / step + 1e-9).rounded(.down))
    guard first <= last else { return [] }
    return (first...last).map {
      let value = Double($0) * step
      return (
        value, isPlain ? ReportNumber.fixed(value, decimals: decimals) : ReportNumber.significant(value)
      )
    }
  }

  /// Powers of ten between two logarithms; 2 and 5 times them where there are few.
  private static func decades(_ low: Double, _ high: Double) -> [(value: Double, text: String)] {
    let first = Int(low.rounded(.down))
    let last = Int(high.rounded(.up))
    let step = max(1, (last - first + 7) / 8)
    let factors = high - low <= 2 ? [1.0, 2, 5] : [1.0]
    return stride(from: first, through: last, by: step).flatMap { exponent in
      factors.compactMap { factor in
        let place = Double(exponent) + log10(factor)
        guard place >= low - 1e-9, place <= high + 1e-9 else { return nil }
        let value = factor * pow(10, Double(exponent))
        return (value, ReportNumber.significant(value, digits: 1))
      }
    }
  }
}

/// A colour of a sequential scale from pale yellow to blue, whose lightness falls all the way, so that it can be told without seeing
/// hues; and the ink that is readable on it.
struct HeatColour: Equatable {
  let fill: String
  let ink: String

  private static let stops: [(red: Double, green: Double, blue: Double)] = [
    (0xFB, 0xF6, 0xDC), (0xC9, 0xE6, 0xC8), (0x83, 0xCB, 0xC1), (0x3F, 0x9C, 0xB8), (0x1D, 0x5C, 0x96),
  ]

  /// - Parameter share: from 0 to 1.
  init(at share: Double) {
    let place = min(1, max(0, share)) * Double(HeatColour.stops.count - 1)
    let index = min(HeatColour.stops.count - 2, Int(place))
    let part = place - Double(index)
    let (a, b) = (HeatColour.stops[index], HeatColour.stops[index + 1])
    let rgb = [(a.red, b.red), (a.green, b.green), (a.blue, b.blue)].map { ($0 + ($1 - $0) * part).rounded() }
    fill = "#" + rgb.map { String(format: "%02x", Int($0)) }.joined()
    // WCAG's relative luminance; contrast with black is (L + 0.05) / 0.05, with white 1.05 / (L + 0.05).
    let linear = rgb.map { $0 / 255 <= 0.04045 ? $0 / 255 / 12.92 : pow(($0 / 255 + 0.055) / 1.055, 2.4) }
    let luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    ink = (luminance + 0.05) / 0.05 > 1.05 / (luminance + 0.05) ? "#000" : "#fff"
  }
}
