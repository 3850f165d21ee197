import Compute
import Tensors

/// The equations A·Δ = b for the scales of 16 outputs: with the codes c fixed, A[g, h] = c_gᵀ·H[g, h]·c_h and
/// b[g] = c_gᵀ·((w′ − q)·H)[g], the loss changes by Δᵀ·A·Δ − 2 · Δᵀ·b when the scales change by Δ.
struct ScaleSystem: Sendable {
  private let groups: Int
  /// Lines of 16 doubles: the lower triangle of A, row by row, then b.
  private let lines: DisjointWrites<Double>

  /// Lines of a system.
  static func count(groups: Int) -> Int { groups * (groups + 1) / 2 + groups }

  /// A new scale is at least, and at most, so many times the old one.
  private static let ratios: (Double, Double) = (0.25, 2.5)
  /// Below this part of A[g, g] what is left of it is noise: the codes are zero, or those of other groups say the same.
  private static let leastPivot = 1e-10

  /// - Parameter lines: of ``count(groups:)`` · 16 doubles.
  init(groups: Int, at lines: UnsafeMutablePointer<Double>) {
    self.groups = groups
    self.lines = DisjointWrites(lines)
  }

  /// A[g, h], h <= g.
  func left(_ g: Int, _ h: Int) -> UnsafeMutablePointer<Double> {
    lines + (g * (g + 1) / 2 + h) * panelWidth
  }

  func right(_ g: Int) -> UnsafeMutablePointer<Double> {
    lines + (groups * (groups + 1) / 2 + g) * panelWidth
  }

  private typealias Line = SIMD16<Double>

  private func load(_ line: UnsafeMutablePointer<Double>) -> Line {
    UnsafeRawPointer(line).loadUnaligned(as: Line.self)
  }

  private func store(_ value: Line, _ line: UnsafeMutablePointer<Double>) {
    UnsafeMutableRawPointer(line).storeBytes(of: value, as: Line.self)
  }

  /// Changes the scales of the rows whose loss then falls. The equations are used up.
  /// - Parameter scales: `[groups][16]`, values of half precision before and after.
  func improve(_ scales: UnsafeMutablePointer<Float>, kernels: Kernels) {
    factorize()
    let gradient = AlignedBuffer<Double>(count: groups * panelWidth)
    for g in 0..<groups { store(load(right(g)), gradient.pointer + g * panelWidth) }
    solve()
    Scratch.withFloats(groups * panelWidth * 2) { found in
      let count = groups * panelWidth
      for at in 0..<count {
        found[at] = Float(Double(scales[at]) + right(at / panelWidth)[at % panelWidth])
      }
      let halves = found + count
      kernels.narrow(halves, from: found, type: .f16, count: count)
      kernels.widen(found, from: halves, type: .f16, count: count)
      for at in 0..<count {
        let ratio = Double(found[at]) / Double(scales[at])
        let (least, most) = ScaleSystem.ratios
        // What is not a number is not in between.
        if !(ratio > least && ratio < most) { found[at] = scales[at] }
        right(at / panelWidth)[at % panelWidth] = Double(found[at]) - Double(scales[at])
      }
      let change = change(gradient.pointer)
      for at in 0..<count where change[at % panelWidth] < 0 { scales[at] = found[at] }
    }
  }

  /// A becomes L with A = L·Lᵀ. A group without a say of its own has 1 on the diagonal and zeros beside it, and its b is 0.
  private func factorize() {
    for j in 0..<groups {
      let whole = load(left(j, j))
      var pivot = whole
      for p in 0..<j {
        let factor = load(left(j, p))
        pivot -= factor * factor
      }
      let isGood = pivot .> whole * ScaleSystem.leastPivot
      store(Line(repeating: 1).replacing(with: pivot.squareRoot(), where: isGood), left(j, j))
      if !all(isGood) {
        for p in 0..<j { store(Line.zero.replacing(with: load(left(j, p)), where: isGood), left(j, p)) }
        store(Line.zero.replacing(with: load(right(j)), where: isGood), right(j))
      }
      let root = load(left(j, j))
      for i in j + 1..<max(groups, j + 1) {
        var value = load(left(i, j))
        for p in 0..<j { value -= load(left(i, p)) * load(left(j, p)) }
        store(Line.zero.replacing(with: value / root, where: isGood), left(i, j))
      }
    }
  }

  /// b becomes A⁻¹·b.
  private func solve() {
    for g in 0..<groups {
      var value = load(right(g))
      for p in 0..<g { value -= load(left(g, p)) * load(right(p)) }
      store(value / load(left(g, g)), right(g))
    }
    for g in (0..<groups).reversed() {
      var value = load(right(g))
      for p in g + 1..<max(groups, g + 1) { value -= load(left(p, g)) * load(right(p)) }
      store(value / load(left(g, g)), right(g))
    }
  }

  /// Δᵀ·A·Δ − 2 · Δᵀ·b of each row, Δ standing where b was; A is factorized.
  private func change(_ gradient: UnsafeMutablePointer<Double>) -> SIMD16<Double> {
    var sum = Line.zero
    for g in 0..<groups {
      var product = Line.zero
      for p in g..<groups { product += load(left(p, g)) * load(right(p)) }
      sum += product * product
      sum -= 2 * (load(right(g)) * load(gradient + g * panelWidth))
    }
    return sum
  }
}
