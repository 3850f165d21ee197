import Compute
import Foundation
import TestSupport
import Testing

/// Activations, layer norms and softmaxes of encoders beside the C library's functions in double precision.
@Suite struct EncoderKernelTests {
  private static let kernels = InstructionSet.runnable.compactMap { Kernels(for: $0) }
  /// From far below to far above what activations are, and close to 0.
  private static let values: [Float] =
    (-2400...2400).map { Float($0) / 200 } + [0, -0.0, 1e-8, -1e-8, 1e-4, -1e-4, 60, -60, 1e4, -1e4]

  private func check(
    _ run: (Kernels, UnsafeMutablePointer<Float>, Int) -> Void, _ exact: (Double) -> Double,
    tolerance: (Double) -> Double
  ) {
    for kernels in Self.kernels {
      var found = Self.values
      found.withUnsafeMutableBufferPointer { run(kernels, $0.baseAddress!, $0.count) }
      for (x, y) in zip(Self.values, found) {
        #expect(abs(Double(y) - exact(Double(x))) <= tolerance(Double(x)), "\(kernels.name) at \(x)")
      }
    }
  }

  @Test func geluIsExactToThreeTenMillionths() {
    check({ $0.gelu($1, count: $2) }, { $0 / 2 * (1 + erf($0 / 2.0.squareRoot())) }) {
      3e-7 * max(1, abs($0))
    }
  }

  @Test func geluWithTanh() {
    check(
      { $0.geluTanh($1, count: $2) },
      { $0 / 2 * (1 + tanh((2 / Double.pi).squareRoot() * ($0 + 0.044715 * $0 * $0 * $0))) }
    ) { 1e-6 * max(1, abs($0)) }
  }

  @Test func hyperbolicTangent() {
    check({ $0.hyperbolicTangent($1, count: $2) }, tanh) {
      abs($0) < 0.0625 ? 4e-7 * abs($0) + 1e-12 : 2e-7
    }
  }

  @Test func reluKeepsWhatIsPositive() {
    check({ $0.relu($1, count: $2) }, { max($0, 0) }) { _ in 0 }
  }

  @Test func biasesAreAddedFirst() {
    let bias = Self.values.map { Float(0.25) - $0 / 3 }
    for kernels in Self.kernels {
      var (together, apart) = (Self.values, zip(Self.values, bias).map { $0 + $1 })
      together.withUnsafeMutableBufferPointer { kernels.gelu($0.baseAddress!, bias: bias, count: $0.count) }
      apart.withUnsafeMutableBufferPointer { kernels.gelu($0.baseAddress!, count: $0.count) }
      #expect(together == apart)
    }
  }

  @Test func nothingThatIsNoNumberIsHidden() {
    for kernels in Self.kernels {
      var values: [Float] = [.nan, 1]
      values.withUnsafeMutableBufferPointer { kernels.gelu($0.baseAddress!, count: 2) }
      #expect(values[0].isNaN && !values[1].isNaN)
      values = [.nan, 1]
      values.withUnsafeMutableBufferPointer { kernels.hyperbolicTangent($0.baseAddress!, count: 2) }
      #expect(values[0].isNaN && !values[1].isNaN)
    }
  }

  @Test(arguments: [1, 15, 16, 17, 96, 384]) func layerNorm(count: Int) {
    var random = SplitMix64(seed: UInt64(count))
    func vector() -> [Float] { (0..<count).map { _ in Float.random(in: -2...2, using: &random) } }
    let (x, added, residual, weight, bias) = (vector(), vector(), vector(), vector(), vector())
    let sums = (0..<count).map { Double(x[$0]) + Double(added[$0]) + Double(residual[$0]) }
    let mean = sums.reduce(0, +) / Double(count)
    let variance = sums.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / Double(count)
    var first: [Float]?
    for kernels in Self.kernels {
      var y = [Float](repeating: 0, count: count)
      y.withUnsafeMutableBufferPointer {
        kernels.layerNorm(
          $0.baseAddress!, x: x, adding: added, residual: residual, weight: weight, bias: bias, count: count,
          epsilon: 1e-5)
      }
      for index in 0..<count {
        let exact =
          (sums[index] - mean) / (variance + 1e-5).squareRoot() * Double(weight[index]) + Double(bias[index])
        #expect(abs(Double(y[index]) - exact) < 2e-4)
      }
      #expect(y == first ?? y)
      first = y
    }
  }

  @Test func softmaxOfAPanel() {
    let count = 37
    var random = SplitMix64(seed: 5)
    let scores = (0..<count * 16).map { _ in Float.random(in: -20...20, using: &random) }
    for kernels in Self.kernels {
      var panel = scores
      panel.withUnsafeMutableBufferPointer { kernels.softmaxPanel($0.baseAddress!, count: count) }
      for lane in 0..<16 {
        let line = (0..<count).map { Double(scores[$0 * 16 + lane]) }
        let most = line.max() ?? 0
        let total = line.reduce(0) { $0 + exp($1 - most) }
        for index in 0..<count {
          #expect(abs(Double(panel[index * 16 + lane]) - exp(line[index] - most) / total) < 1e-6)
        }
      }
    }
  }
}
