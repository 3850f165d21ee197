import Compute
import Tensors

/// Chooses the scale of a group, and its zero point, by what rounding with it loses: Σ ω[i] · (w[i] − s · code[i])², ω[i] being
/// 1 / U[i, i]² of GPTQ's factor, on 16 outputs at once.
///
/// 1 / U[i, i]² is what an error in column i costs after all later columns have made up for it as well as they can (Frantar et al.
/// 2022, equation 2), so it says more than the Hessian's diagonal. A negative scale lets a symmetric group use the one code that
/// only one side has on the side where the largest weights are.
struct ScaleSearch {
  /// What is tried: a scale as a part of the weights' range, and what is added to the zero point that rounding gives.
  private struct Candidate {
    var part: Float
    var shift: Float
  }
  private let candidates: [Candidate]
  private let maximumCode: Float
  private let isSymmetric: Bool
  private let kernels: Kernels

  /// - Parameter allowsNegative: whether symmetric groups may have negative scales.
  init(bits: Int, isSymmetric: Bool, allowsNegative: Bool, kernels: Kernels) {
    let maximumCode = Float((1 << bits) - 1)
    // Three bits gain from cutting more of the range off. With two, a smaller scale leaves nothing to make up for later errors with.
    let (most, least, count): (Float, Float, Int) = (1.06, bits == 2 ? 0.85 : bits == 3 ? 0.45 : 0.6, 24)
    let shrinks = (0..<count).map { most - (most - least) * Float($0) / Float(count - 1) }
    if isSymmetric {
      let signs: [Float] = allowsNegative ? [1, -1] : [1]
      candidates = signs.flatMap { sign in
        shrinks.map { Candidate(part: sign * $0 * 2 / maximumCode, shift: 0) }
      }
    } else {
      candidates = shrinks.flatMap { shrink in
        [0, -1, 1].map { Candidate(part: shrink / maximumCode, shift: $0) }
      }
    }
    self.maximumCode = maximumCode
    self.isSymmetric = isSymmetric
    self.kernels = kernels
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
    var range = isSymmetric ? pointwiseMax(-low, high) : high - low
    range.replace(with: isSymmetric ? 1 : 2, where: range .== 0)
    let count = candidates.count * panelWidth
    Scratch.withFloats(5 * count) { memory in
      func line(_ array: Int, _ candidate: Int) -> UnsafeMutableRawPointer {
        UnsafeMutableRawPointer(memory + array * count + candidate * panelWidth)
      }
      for (i, candidate) in candidates.enumerated() {
        line(0, i).storeBytes(of: range * candidate.part, as: SIMD16<Float>.self)
      }
      toHalfPrecision(memory, count: count)
      for (i, candidate) in candidates.enumerated() {
        var zero = SIMD16<Float>(repeating: (maximumCode + 1) / 2)
        if !isSymmetric {
          let scale = line(0, i).loadUnaligned(as: SIMD16<Float>.self)
          zero = (-low / scale).rounded(.toNearestOrEven) + candidate.shift
          zero.clamp(
            lowerBound: .zero, upperBound: SIMD16(repeating: maximumCode))
        }
        line(1, i).storeBytes(of: zero, as: SIMD16<Float>.self)
        line(2, i).storeBytes(of: -zero, as: SIMD16<Float>.self)
        line(3, i).storeBytes(of: maximumCode - zero, as: SIMD16<Float>.self)
      }
      let (zero, losses) = (memory + count, memory + 4 * count)
      kernels.roundingLosses(
        columns: columns, weights: weights, importance: importance, candidates: candidates.count,
        scales: memory, low: memory + 2 * count, high: memory + 3 * count, losses: losses)
      for lane in 0..<panelWidth {
        var best = lane
        for at in stride(from: lane + panelWidth, to: count, by: panelWidth)
        where losses[at] < losses[best] || losses[best].isNaN {
          best = at
        }
        scales[lane] = memory[best]
        zeros[lane] = zero[best]
      }
    }
  }

  /// What half precision holds; never zero.
  private func toHalfPrecision(_ scales: UnsafeMutablePointer<Float>, count: Int) {
    Scratch.withFloats(count + (count + 1) / 2) { rounded in
      let halves = rounded + count
      kernels.narrow(halves, from: scales, type: .f16, count: count)
      kernels.widen(rounded, from: halves, type: .f16, count: count)
      for i in 0..<count {
        scales[i] = rounded[i] != 0 ? rounded[i] : scales[i] < 0 ? -0x1p-24 : 0x1p-24
      }
    }
  }
}
