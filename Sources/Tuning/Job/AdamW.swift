import Compute
import Training

/// Adam with decoupled weight decay (Loshchilov and Hutter, arXiv:1711.05101), as `torch.optim.AdamW` computes it on a CPU:
/// ```
/// p = p · (1 − lr · decay)
/// m = m + (1 − β₁) · (g − m)
/// v = β₂ · v + (1 − β₂) · g²
/// p = p − lr / (1 − β₁ᵗ) · m / (√v / √(1 − β₂ᵗ) + ε)
/// ```
/// Elements are in fp32, and numbers that all elements share in double precision until they are used. Every operation is one that
/// IEEE 754 rounds in one way, so that neither threads nor processors change a bit.
package final class AdamW {
  package struct Settings: Equatable, Sendable {
    package var beta1: Double
    package var beta2: Double
    package var epsilon: Double
    /// Of matrices; vectors, which are norms, are not decayed, as in transformers' Trainer.
    package var weightDecay: Double

    package init(beta1: Double = 0.9, beta2: Double = 0.999, epsilon: Double = 1e-8, weightDecay: Double = 0)
    {
      self.beta1 = beta1
      self.beta2 = beta2
      self.epsilon = epsilon
      self.weightDecay = weightDecay
    }
  }

  package let settings: Settings
  package let parameters: [Parameter]
  /// Of the gradient and of its square, a buffer for each parameter.
  package let firstMoments: [AlignedBuffer<Float>]
  package let secondMoments: [AlignedBuffer<Float>]
  /// Steps taken: t of the formula.
  package var stepCount = 0
  private let pool: WorkerPool

  package init(_ parameters: [Parameter], settings: Settings, pool: WorkerPool = .shared) {
    self.parameters = parameters
    self.settings = settings
    self.pool = pool
    firstMoments = parameters.map { AlignedBuffer(zeros: $0.count) }
    secondMoments = parameters.map { AlignedBuffer(zeros: $0.count) }
  }

  /// Bytes of the moments.
  package static func stateByteCount(of parameters: [Parameter]) -> Int {
    parameters.reduce(0) { $0 + 8 * $1.count }
  }

  /// Changes the values by the gradients, which stay as they are.
  /// - Parameters:
  ///   - gradientScale: gradients are multiplied with it first, see ``GradientNorm/scale(norm:limit:)``.
  package func step(learningRate: Double, gradientScale: Float = 1) {
    stepCount += 1
    let correction1 = 1 - AdamW.power(settings.beta1, stepCount)
    let correction2 = 1 - AdamW.power(settings.beta2, stepCount)
    let numbers = Numbers(
      gradientScale: gradientScale, keep1: Float(1 - settings.beta1), beta2: Float(settings.beta2),
      add2: Float(1 - settings.beta2), stepSize: Float(-(learningRate / correction1)),
      rootOfCorrection2: Float(correction2.squareRoot()), epsilon: Float(settings.epsilon))
    for (index, parameter) in parameters.enumerated() {
      let isDecayed = parameter.shape.count > 1 && settings.weightDecay != 0
      let decay = isDecayed ? Float(1 - learningRate * settings.weightDecay) : 1
      let gradient = SharedPointer(parameter.gradient.pointer)
      let values = DisjointWrites(parameter.values.pointer)
      let first = DisjointWrites(firstMoments[index].pointer)
      let second = DisjointWrites(secondMoments[index].pointer)
      pool.runRanges(parameter.count, grain: 4096) { range in
        let start = range.lowerBound
        AdamW.update(
          values + start, first + start, second + start, gradient + start, count: range.count, decay: decay,
          numbers)
      }
    }
  }

  private struct Numbers: Sendable {
    var gradientScale, keep1, beta2, add2, stepSize, rootOfCorrection2, epsilon: Float
  }

  /// Without fused operations, so that what can be vectorized gives the bits of what cannot.
  private static func update(
    _ p: UnsafeMutablePointer<Float>, _ m: UnsafeMutablePointer<Float>, _ v: UnsafeMutablePointer<Float>,
    _ g: UnsafePointer<Float>, count: Int, decay: Float, _ n: Numbers
  ) {
    for i in 0..<count {
      let gradient = g[i] * n.gradientScale
      let first = m[i] + n.keep1 * (gradient - m[i])
      let second = v[i] * n.beta2 + n.add2 * gradient * gradient
      m[i] = first
      v[i] = second
      let denominator = second.squareRoot() / n.rootOfCorrection2 + n.epsilon
      p[i] = p[i] * decay + n.stepSize * first / denominator
    }
  }

  /// `base` to the power of a whole number by multiplication: libraries of mathematics differ in the last bit.
  static func power(_ base: Double, _ exponent: Int) -> Double {
    var (result, factor, rest) = (1.0, base, exponent)
    while rest > 0 {
      if rest & 1 == 1 { result *= factor }
      factor *= factor
      rest >>= 1
    }
    return result
  }
}

/// The norm of all gradients together, as `torch.nn.utils.clip_grad_norm_` looks at it.
package enum GradientNorm {
  /// Elements whose squares are added one after the other; sums of pieces are added in order. Threads share pieces only.
  private static let piece = 1 << 14

  /// √Σ g², in double precision; not finite when a gradient is not.
  package static func of(_ parameters: [Parameter], pool: WorkerPool = .shared) -> Double {
    var total = 0.0
    for parameter in parameters {
      let pieces = (parameter.count + piece - 1) / piece
      let sums = AlignedBuffer<Double>(count: pieces)
      let (gradient, out) = (SharedPointer(parameter.gradient.pointer), DisjointWrites(sums.pointer))
      pool.runRanges(pieces) { range in
        for index in range {
          var sum = 0.0
          for i in index * piece..<min(parameter.count, (index + 1) * piece) {
            let value = Double(gradient[i])
            sum += value * value
          }
          out[index] = sum
        }
      }
      for index in 0..<pieces { total += sums[index] }
    }
    return total.squareRoot()
  }

  /// What gradients are multiplied with so that their norm is `limit` at most: `limit / (norm + 1e-6)`, or 1 if that is less.
  /// - Parameter limit: 0: gradients are not limited.
  package static func scale(norm: Double, limit: Double) -> Float {
    limit > 0 ? Float(min(1, limit / (norm + 1e-6))) : 1
  }
}
