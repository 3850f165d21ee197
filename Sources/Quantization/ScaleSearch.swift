import Compute
import Tensors

/// Chooses the scale of a group, and its zero point, by what rounding with it loses: Σ ω[i] · (w[i] − s · code[i])², ω[i] being
/// 1 / U[i, i]² of GPTQ's factor, on 16 outputs at once.
///
/// 1 / U[i, i]² is what an error in column i costs after all later columns have made up for it as well as they can (Frantar et al.
/// 2022, equation 2), so it says more than the Hessian's diagonal. A negative scale lets a symmetric group use the one code that
/// only one side has on the side where the largest weights are.
struct ScaleSearch {
  let bits: Int
  let isSymmetric: Bool
  /// Whether symmetric groups may have negative scales.
  let allowsNegative: Bool
  let kernels: Kernels

  private var maximumCode: Float { Float((1 << bits) - 1) }

  /// Parts of the range that covers all weights. Few bits gain from cutting more of it off.
  private var shrinks: [Float] {
    let (most, least, count): (Float, Float, Int) = (1.06, bits <= 3 ? 0.45 : 0.6, 24)
    return (0..<count).map { most - (most - least) * Float($0) / Float(count - 1) }
  }

  /// - Parameters:
  ///   - weights: `[columns][16]` of the group.
  ///   - importance: ω of each column.
  ///   - low, high: the least and the greatest weight of each output, 0 included.
  ///   - scales, zeros: `[16]`, written; scales are values of half precision.
  func run(
    _ weights: UnsafePointer<Float>, columns: Int, importance: UnsafePointer<Float>, low: SIMD16<Float>,
    high: SIMD16<Float>, scales: UnsafeMutablePointer<Float>, zeros: UnsafeMutablePointer<Float>
  ) {
    let candidates = isSymmetric ? symmetric(low, high) : asymmetric(low, high)
    let count = candidates.count * panelWidth
    Scratch.withFloats(5 * count) { memory in
      let (scale, zero, losses) = (memory, memory + count, memory + 2 * count)
      let (lowest, highest) = (memory + 3 * count, memory + 4 * count)
      for (i, candidate) in candidates.enumerated() {
        for lane in 0..<panelWidth { scale[i * panelWidth + lane] = candidate.scale[lane] }
      }
      toHalfPrecision(scale, count: count)
      for (i, candidate) in candidates.enumerated() {
        for lane in 0..<panelWidth {
          let at = i * panelWidth + lane
          zero[at] = candidate.zero(lane, scale[at], low[lane], maximumCode)
          lowest[at] = -zero[at]
          highest[at] = maximumCode - zero[at]
        }
      }
      kernels.roundingLosses(
        columns: columns, weights: weights, importance: importance, candidates: candidates.count,
        scales: scale, low: lowest, high: highest, losses: losses)
      for lane in 0..<panelWidth {
        var best = lane
        for at in stride(from: lane + panelWidth, to: count, by: panelWidth)
        where losses[at] < losses[best] || losses[best].isNaN {
          best = at
        }
        scales[lane] = scale[best]
        zeros[lane] = zero[best]
      }
    }
  }

  // MARK: Candidates

  private struct Candidate {
    var scale: SIMD16<Float>
    /// Added to the zero point that rounding gives; nil: the zero point is the middle code.
    var shift: Float?

    func zero(_ lane: Int, _ scale: Float, _ low: Float, _ maximumCode: Float) -> Float {
      guard let shift else { return (maximumCode + 1) / 2 }
      return min(max((-low / scale).rounded(.toNearestOrEven) + shift, 0), maximumCode)
    }
  }

  private func symmetric(_ low: SIMD16<Float>, _ high: SIMD16<Float>) -> [Candidate] {
    var most = pointwiseMax(-low, high)
    most.replace(with: 1, where: most .== 0)
    let signs: [Float] = allowsNegative ? [1, -1] : [1]
    return signs.flatMap { sign in
      shrinks.map { Candidate(scale: most * (sign * $0 * 2 / maximumCode), shift: nil) }
    }
  }

  private func asymmetric(_ low: SIMD16<Float>, _ high: SIMD16<Float>) -> [Candidate] {
    var range = high - low
    range.replace(with: 2, where: range .== 0)
    return shrinks.flatMap { shrink in
      [0, -1, 1].map { Candidate(scale: range * (shrink / maximumCode), shift: $0) }
    }
  }

  /// What half precision holds; never zero.
  private func toHalfPrecision(_ scales: UnsafeMutablePointer<Float>, count: Int) {
    Scratch.withFloats((count + 1) / 2) { halves in
      kernels.narrow(halves, from: scales, type: .f16, count: count)
      for i in 0..<count { scales[i] = scales[i] < 0 ? -0x1p-24 : 0x1p-24 }
      let smallest = scales
      Scratch.withFloats(count) { rounded in
        kernels.widen(rounded, from: halves, type: .f16, count: count)
        for i in 0..<count where rounded[i] != 0 { smallest[i] = rounded[i] }
      }
    }
  }
}
